"""The charts' values: a closed schema, every value explained, declared, used and refused where it cannot be."""

import re
from functools import cache
from typing import Any

import pytest

from tests.charts.checks import ChartValues, Values, at, renderer, schemas, with_value
from tests.charts.visor_console_values import VISOR_CONSOLE
from tests.charts.visor_training_values import VISOR_TRAINING
from tests.charts.visor_values import VISOR

CHARTS = {"visor": VISOR, "visor-console": VISOR_CONSOLE, "visor-training": VISOR_TRAINING}
each_chart = pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)


@pytest.fixture(scope="session")
def render_chart(helm: Any) -> Any:
    """A renderer by its chart's folder."""
    return cache(lambda folder: renderer(helm, folder))


@pytest.mark.parametrize(
    ("chart", "setting", "words"),
    [pytest.param(chart, *case, id=f"{name}-{case[0]}") for name, chart in CHARTS.items() for case in chart.refused],
)
def test_a_value_that_cannot_be_is_refused_by_name(helm: Any, chart: ChartValues, setting: str, words: str) -> None:
    done = helm("template", "roofs", str(chart.chart), *chart.least, "--set", setting)
    assert done.returncode == 1
    assert words in done.stderr


@each_chart
def test_the_schema_is_closed(chart: ChartValues) -> None:
    found = dict(schemas(chart.read("values.schema.json")))
    assert {path for path, schema in found.items() if schema.get("additionalProperties", True) is True} == chart.open_parts


@each_chart
def test_every_value_is_in_the_schema_and_the_other_way_round(chart: ChartValues) -> None:
    schema = chart.read("values.schema.json")
    explained = {".".join(path) for path in chart.leaves()}

    def check(values: Values, part: Values, path: str) -> None:
        if path in explained:  # below it are Kubernetes' own fields, and not all of them have a default
            return
        part = schema["definitions"][part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part
        assert set(part["properties"]) | {"global"} == set(values) | {"global"}, path  # helm gives every chart `global`
        for key, value in values.items():
            check(value, part["properties"][key], f"{path}.{key}".strip("."))

    check(chart.read("values.yaml"), schema, "")


@pytest.mark.parametrize(
    ("chart", "path"),
    [
        pytest.param(chart, path, id=f"{name}-{'.'.join(path)}")
        for name, chart in CHARTS.items()
        for path in chart.leaves()
        if ".".join(path) not in chart.unseen
    ],
)
def test_every_value_changes_what_is_rendered(render_chart: Any, chart: ChartValues, path: tuple[str, ...]) -> None:
    name, render = ".".join(path), render_chart(chart.chart)
    base = chart.bases.get(name, chart.bases.get(path[0], chart.all_on))
    now = at(base, path) or at(chart.read("values.yaml"), path)
    if name in chart.other:
        other = chart.other[name]
    elif isinstance(now, bool):
        other = not now
    elif isinstance(now, int):
        other = now + 1
    else:
        other = f"{now}other".lstrip(":")
    changed = chart.instead.get(name) or with_value(base, path, other)
    assert render(values=changed) != render(values=base)


@each_chart
def test_the_readme_explains_every_value(chart: ChartValues) -> None:
    """It is helm-docs' own: `make verify`."""
    readme = (chart.chart / "README.md").read_text()
    documented = re.findall(r"^\| ([\w.]+) \| \w+ \| .* \| \S.* \|$", readme, re.MULTILINE)
    assert documented[1:] == [".".join(path) for path in chart.leaves()]  # the first one is the table's head
