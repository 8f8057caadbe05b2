"""docs/console.md has every error, setting and metric as the code has it."""

import re
from pathlib import Path

import console.app  # noqa: F401 - with it come the errors of all rooms
from console.errors import ServerRefused, kinds
from console.flags import shown_default
from console.metrics import Metrics
from console.settings import Settings

PAGE = (Path(__file__).parents[3] / "docs/console.md").read_text()


def table(after: str) -> list[str]:
    """The rows of the first table behind a mark."""
    rows = re.search(r"(?:^\|.*\n)+", PAGE.split(after)[1], re.MULTILINE)
    assert rows
    return rows[0].splitlines()


def error_rows() -> list[str]:
    """What the page says of the errors, by status and code; those that have kinds of their own are never raised."""
    raised = [kind for kind in kinds() if not kind.__subclasses__() and kind is not ServerRefused]
    named = sorted({kind.status: 0 for kind in raised})
    rows = [
        f"| `{kind.code}` | {kind.status} | {(kind.__doc__ or '').strip()} |"
        for status in named
        for kind in sorted(raised, key=lambda one: one.code)
        if kind.status == status and kind.code != "console.keys"  # of the start alone
    ]
    return ["| code | status | |", "| --- | --- | --- |", *rows]


def setting_rows() -> list[str]:
    """What the page says of the settings, in their order."""
    rows = [f"| `{name}` | {shown_default(name)} | {field.description} |" for name, field in Settings.model_fields.items()]
    return ["| setting | default | |", "| --- | --- | --- |", *rows]


def test_every_error_is_on_the_page() -> None:
    assert table("<!-- errors:") == error_rows()


def test_every_setting_is_on_the_page() -> None:
    assert table("<!-- settings:") == setting_rows()


def test_every_metric_is_on_the_page() -> None:
    families = {family.name + ("_total" if family.type == "counter" else "") for family in Metrics().registry.collect()}
    assert set(re.findall(r"^\| `(visor_console_\w+)`", PAGE, re.MULTILINE)) == families


def test_the_limits_are_those_of_the_settings() -> None:
    limits = PAGE.split("## Limits")[1].split("## Errors")[0]
    said = re.findall(r"\| ([\d,]+)[^|`]*, `(\w+)`", limits)
    shown = {name: int(number.replace(",", "")) for number, name in said}
    assert len(shown) >= 7
    assert shown == {name: Settings.model_fields[name].default for name in shown}
