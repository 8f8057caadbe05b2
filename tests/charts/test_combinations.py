"""charts/visor with combinations of values: objects that the API server takes and that find their pods, or a sentence."""

import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.checks import ROOT, Values, kubeconform, renderer, restricted, with_value
from tests.charts.test_visor import CHART, pods
from tests.charts.visor_combinations import REFUSED, RENDERED
from tests.charts.visor_values import PLAIN, VISOR

PACKAGES = sorted(Path(ROOT / "tests/e2e/charts").glob("visor-*.tgz"))


def over(values: Values, more: Values) -> Values:
    """Values laid over values."""
    both = dict(values)
    for key, value in more.items():
        known = both.get(key)
        both[key] = over(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return both


def labels_of_pods(objects: list[Values]) -> list[Values]:
    """The labels of each pod that serves, as KServe puts them together: the InferenceService's, its predictor's, its own."""
    return [
        {**item["metadata"]["labels"], **item["spec"]["predictor"].get("labels", {}), "component": "predictor"}
        for item in objects
        if item["kind"] == "InferenceService"
    ]


def selectors(objects: list[Values]) -> dict[str, Values]:
    """The labels by which a release's objects find its serving pods."""
    found = {}
    for item in objects:
        spec, name = item.get("spec", {}), f"{item['kind']} {item['metadata']['name']}"
        if item["kind"] == "NetworkPolicy" and not item["metadata"]["name"].endswith("-jobs"):
            found[name] = spec["podSelector"]["matchLabels"]
        elif item["kind"] in ("PodDisruptionBudget", "PodMonitor"):
            found[name] = spec["selector"]["matchLabels"]
        for constraint in spec.get("predictor", {}).get("topologySpreadConstraints", []):
            found[f"spread of {name}"] = constraint["labelSelector"]["matchLabels"]
    return found


def nulls(part: Any, path: str = "") -> list[str]:
    """Where an object has a null, which nobody meant."""
    if isinstance(part, dict):
        return [found for key, value in part.items() for found in nulls(value, f"{path}.{key}")]
    if isinstance(part, list):
        return [found for number, value in enumerate(part) for found in nulls(value, f"{path}[{number}]")]
    return [path] if part is None else []


def check(tools: Path, objects: list[Values]) -> None:
    """Objects that their kinds allow, without nulls, whose selectors find pods, and one pod that serves at least."""
    code, said = kubeconform(tools, objects)
    assert code == 0, said
    assert nulls(objects) == []
    assert not re.search(r"\de\+\d", json.dumps(objects)), "a whole number is printed as a float"
    assert [name for name, _ in pods(objects) if name.startswith("InferenceService")]
    labels = labels_of_pods(objects)
    for name, selector in selectors(objects).items():
        own = "spread by labels of its own" if selector == {"a": "b"} else ""
        assert own or any(selector.items() <= pod.items() for pod in labels), name


@pytest.mark.parametrize("name", RENDERED)
def test_a_combination_is_objects_that_find_their_pods(render: Any, tools: Path, name: str) -> None:
    check(tools, render(values=over(PLAIN, RENDERED[name])))


@pytest.mark.parametrize("name", REFUSED)
def test_a_combination_that_makes_no_pod_is_a_sentence(helm: Any, name: str) -> None:
    values, words = REFUSED[name]
    done = helm("template", "roofs", str(CHART), "--namespace", "ns", "--values", "-", stdin=json.dumps(over(PLAIN, values)))
    assert done.returncode == 1
    assert words in done.stderr
    assert "nil pointer" not in done.stderr


@pytest.mark.parametrize("group", sorted({path[:-1] for path in VISOR.leaves() if path[:-1]}))
def test_no_value_is_missed(helm: Any, tools: Path, group: tuple[str, ...]) -> None:
    """A null at each value of a group, all other parts switched on: an object, or a sentence on what is required."""
    values = VISOR.all_on
    for path in VISOR.leaves():
        if path[:-1] == group:
            values = with_value(values, path, None)
    done = helm("template", "roofs", str(CHART), "--namespace", "ns", "--values", "-", stdin=json.dumps(values))
    if done.returncode:
        assert any(words in done.stderr for words in ("is required", "missing propert", "is not set")), done.stderr
    else:
        check(tools, [item for item in yaml.safe_load_all(done.stdout) if item])


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.stem)
@pytest.mark.parametrize("case", ["pvc", "canary", "keda", "knative"])
def test_the_whole_values_of_an_older_chart_are_enough(helm: Any, tools: Path, tmp_path: Path, package: Path, case: str) -> None:
    """`helm upgrade --reuse-values` takes the old chart's defaults for the new one's, so that new values are missing."""
    chart = tmp_path / "visor"
    shutil.copytree(CHART, chart)
    with tarfile.open(package) as old:
        member = old.extractfile("visor/values.yaml")
        assert member is not None
        (chart / "values.yaml").write_bytes(member.read())
    values = yaml.safe_load((CHART / "ci" / f"{case}-values.yaml").read_text())
    check(tools, renderer(helm, chart)(values=values))


def test_the_example_for_production_is_clean_and_packaged(helm: Any, render: Any, tools: Path, tmp_path: Path) -> None:
    values = [f"--values={CHART / path}" for path in ("ci/pvc-values.yaml", "examples/production.yaml")]
    linted = helm("lint", "--strict", str(CHART), *values)
    assert linted.returncode == 0, linted.stdout
    objects = render(*values)
    check(tools, objects)
    for name, spec in pods(objects):
        assert list(restricted(spec)) == [], name
    assert helm("package", str(CHART), "--destination", str(tmp_path)).returncode == 0
    with tarfile.open(next(tmp_path.glob("*.tgz"))) as package:
        assert {"visor/examples/production.yaml", "visor/defaults.yaml"} <= set(package.getnames())


def test_every_template_completes_its_values_first() -> None:
    """In place, and so once; but helm renders them in an order of its own."""
    for path in (CHART / "templates").rglob("*"):
        if path.is_file() and not path.name.startswith("_"):
            assert path.read_text().startswith('{{- include "visor.prepare" . '), path


def test_what_templates_fall_back_on_is_what_the_values_say() -> None:
    assert VISOR.read("defaults.yaml") == VISOR.read("values.yaml"), "make chart-docs"
