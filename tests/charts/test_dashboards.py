"""Grafana's dashboards as helm renders them: their lines are the release's own numbers, and they tell releases apart."""

import json
import re
from typing import Any

import pytest

from tests.charts.test_queries import NEIGHBOURS, pods_of
from tests.charts.visor_values import REQUIRED
from watch.boards import BOARDS

Boards = dict[str, Any]


def dashboards(render: Any, *args: str) -> Boards:
    """The dashboards by their names."""
    maps = [item for item in render(*REQUIRED, "--set", "dashboards.enabled=true", *args) if item["kind"] == "ConfigMap"]
    return {name: json.loads(text) for item in maps for name, text in item["data"].items()}


def lines(board: Any) -> dict[str, float]:
    """Where panels have a line, by their titles."""
    steps = {panel["title"]: panel.get("fieldConfig", {}).get("defaults", {}).get("thresholds") for panel in board["panels"]}
    return {title: found["steps"][1]["value"] for title, found in steps.items() if found}


@pytest.mark.parametrize(
    ("args", "p95", "errors"),
    [((), 0.25, 0.001), (("--set", "slo.latencyMs.p95=320,slo.latencyMs.p99=800,slo.errorRate=0.00002"), 0.32, 0.00002)],
)
def test_lines_are_the_release_s_slo(render: Any, args: tuple[str, ...], p95: float, errors: float) -> None:
    found = dashboards(render, *args)
    assert set(found) == {f"visor-{board.name}.json" for board in BOARDS}
    service, canary = lines(found["visor-service.json"]), lines(found["visor-canary.json"])
    assert service == {"Latency": p95, "Failed": errors, "Waiting": p95, "Memory of the edge": 0.9}
    assert canary == {"Latency, p95": p95, "Failed": errors, "Latency of the canary's answer": p95}


@pytest.mark.parametrize("pod", ["roofs", "roofs-canary", *NEIGHBOURS])
def test_the_release_that_is_chosen_is_the_pod_s(render: Any, pod: str) -> None:
    variables = dashboards(render)["visor-service.json"]["templating"]["list"]
    [regex] = [variable["regex"] for variable in variables if variable["name"] == "release"]
    for name in pods_of(pod):
        found = re.search(regex.strip("/"), name)
        assert found
        assert found[1] == pod.removesuffix("-canary")


def test_a_dashboard_s_queries_are_about_one_release_and_its_canary(render: Any) -> None:
    board = dashboards(render)["visor-service.json"]
    patterns = set(re.findall(r'pod=~"([^"]+)"', json.dumps(board).replace("\\\\", "\\").replace('\\"', '"')))
    [pattern] = patterns
    chosen = pattern.replace("$release", "roofs")
    for release in ("roofs", "roofs-canary", *NEIGHBOURS):
        for name in pods_of(release):
            assert bool(re.fullmatch(chosen, name)) == (release in ("roofs", "roofs-canary"))
