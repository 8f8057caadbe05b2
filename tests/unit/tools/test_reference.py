"""Pages that are made of declarations have all that is declared, and refuse what says nothing of itself."""

import re
from pathlib import Path

import pytest

import visor
from console.app import create_app
from console.settings import Settings
from handlers.errors import VisorError
from tools.reference import console_api, errors, python_api
from tools.reference.text import paragraphs, table, wrap

ROOT = Path(__file__).parents[3]
DECLARING = ("archives", "console", "console/reviews", "handlers", "loadtests", "rollout", "training", "transformer", "visor")
CODE = re.compile(r'^class (\w+)\((?:[^)]*)\):\n(?:    .*\n|\n)*?    code(?:: ClassVar\[str\])? = "([\w.]+)"', re.MULTILINE)


def declared() -> dict[str, str]:
    """Each code that a file of errors declares, and its class: found in the text, without the classes."""
    return {code: kind for package in DECLARING for kind, code in CODE.findall((ROOT / package / "errors.py").read_text())}


def test_every_code_that_is_declared_is_on_the_page_once() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \|", errors.page(), re.MULTILINE)
    assert len(declared()) > 120
    assert sorted(rows) == sorted(declared().keys() - errors.ROOTS)


def test_nothing_is_raised_by_a_code_that_is_left_out() -> None:
    left_out = [kind for code, kind in declared().items() if code in errors.ROOTS and code != "console.server_refused"]
    assert len(left_out) == len(errors.ROOTS) - 1
    raised = re.compile(rf"raise (?:{'|'.join(left_out)})\b")
    files = [file for package in DECLARING for file in (ROOT / package.split("/")[0]).rglob("*.py")]
    assert [file for file in files if raised.search(file.read_text())] == []


def test_grpc_s_statuses_are_those_of_the_guide() -> None:
    section = (ROOT / "docs/guide.md").read_text().split("### Error codes")[1].split("\n#")[0]
    told = {}
    for codes, statuses in re.findall(r"^\| (`.*?) \| (.*?) \|", section, re.MULTILINE):
        names = re.findall("`(.*?)`", codes)
        full = [names[0].split(".")[0] + name if name.startswith(".") else name for name in names]
        each = re.findall(r"\b[A-Z_]{6,}\b", statuses) or [""]
        told |= dict(zip(full, each * len(full) if len(each) == 1 else each, strict=True))
    rows = re.findall(r"^\| `([\w.]+)` \| .* \| \d{3} \| ([A-Z_]*) \|", errors.page(), re.MULTILINE)
    assert {code: status for code, status in rows if code in told} == told
    assert {code for code, _ in rows} - told.keys() == {"request.gone"}  # seen in metrics alone


def test_an_error_without_a_sentence_or_a_page_is_refused() -> None:
    class Mute(VisorError):
        code = "mute.one"

    class Lost(VisorError):
        """Something is lost. `by`: who lost it."""

        code = "lost.one"

    with pytest.raises(SystemExit, match=r"the error mute\.one has no description"):
        errors.about(Mute)
    assert errors.about(Lost) == "Something is lost."
    with pytest.raises(SystemExit, match=r"no page says more about lost\.one"):
        errors.more(Lost)


def test_every_route_of_the_console_is_on_its_page_with_its_parameters_and_statuses() -> None:
    document = create_app(Settings(servers="http://127.0.0.1:8080", _env_file=None)).openapi()
    page = console_api.page()
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    routes = {f"{method.upper()} {path}": route for path, ways in document["paths"].items() for method, route in ways.items()}
    assert list(sections) == [*routes, "Bodies"]
    for name, route in routes.items():
        assert set(re.findall(r"^\| (\d{3}) \|", sections[name], re.MULTILINE)) == set(route["responses"]), name
        named = {one["name"] for one in route.get("parameters", ())}
        assert set(re.findall(r"^\| `(\w+)` \| (?:query|path) \|", sections[name], re.MULTILINE)) == named, name
    linked = set(re.findall(r"\]\(#(\w+)\)", page))
    assert linked <= {head.lower() for head in re.findall(r"^### (\w+)$", page, re.MULTILINE)}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "string"}, "text"),
        ({"type": "string", "format": "binary"}, "bytes"),
        ({"type": "string", "maxLength": 5}, "text of at most 5 characters"),
        ({"type": "number", "minimum": 0, "maximum": 1}, "number from 0 to 1"),
        ({"type": "integer", "exclusiveMinimum": 0}, "whole number above 0"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Item"}}, "list of [`Item`](#item)"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "true or false or null"),
        ({"type": "string", "enum": ["on", ""]}, 'one of `on`, `""`'),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "object with values: whole number"),
        ({}, "any"),
    ],
)
def test_a_json_value_is_said_in_words(schema: console_api.Schema, said: str) -> None:
    assert console_api.kind_of(schema) == said


def test_a_route_without_a_description_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"the console's route GET /x has no description"):
        console_api.page_of({"paths": {"/x": {"get": {"responses": {}}}}, "components": {"schemas": {}}})


def test_every_public_name_of_visor_is_on_its_page_once() -> None:
    page = python_api.page()
    heads = re.findall(r"^### `(\w+)`$", page, re.MULTILINE) + re.findall(r"^\| `(\w+)` \| `", page, re.MULTILINE)
    assert sorted(heads) == sorted(visor._PLACE_OF)
    assert "`Client.predict`" in page
    assert '    url: str = "http://127.0.0.1:8080",\n    *,\n' in page
    assert "overlay() -> Image.Image" in page
    assert not re.search(r"^#### `\w+\.(_\w+|ask)`", page, re.MULTILINE)


def test_tables_keep_bars_and_paragraphs_their_width() -> None:
    assert table(("a", "b"), [("x|y", "1\n2")]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 2 |"
    assert [len(line) <= 120 for line in wrap("word " * 60).splitlines()] == [True] * 3
    assert paragraphs("one\ntwo\n\nthree\n") == "one two\n\nthree"
