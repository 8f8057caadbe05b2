"""Grafana's dashboards hold every panel's queries, and the chart holds the dashboards and alerts that the code makes."""

import json
from typing import Any

import pytest

from tools import watch_files
from watch import dashboards
from watch.boards import BOARDS
from watch.queries import Board, Query, fill


def made(board: Board) -> Any:
    return json.loads(dashboards.dashboard(board))


def test_the_chart_has_what_the_code_makes() -> None:
    chart = watch_files.CHART
    written = {str(path.relative_to(chart)) for path in (chart / "dashboards").iterdir()} | {"alerts.yaml"}
    files = watch_files.files()
    assert written == set(files)
    assert {name: (chart / name).read_text() == text for name, text in files.items()} == dict.fromkeys(files, True), (
        "call make chart-watch"
    )


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board.name))
def test_a_dashboard_has_the_board_s_panels_and_queries(board: Board) -> None:
    panels = [panel for panel in made(board)["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in panels] == [panel.title for panel in board.panels()]
    for drawn, panel in zip(panels, board.panels(), strict=True):
        expected = [fill(query.text, selector=dashboards.SELECTOR, window=board.window) for query in panel.queries]
        assert [target["expr"] for target in drawn["targets"]] == expected
        assert len({target["refId"] for target in drawn["targets"]}) == len(expected)
        assert drawn["type"] == {"lines": "timeseries", "bars": "bargauge"}[panel.kind]
        assert drawn["fieldConfig"]["defaults"]["unit"] == panel.queries[0].unit


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board.name))
def test_panels_neither_overlap_nor_leave_the_page(board: Board) -> None:
    places = [panel["gridPos"] for panel in made(board)["panels"]]
    taken = [(x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board.name))
def test_every_variable_of_a_query_is_the_dashboard_s_or_grafana_s(board: Board) -> None:
    known = {variable["name"] for variable in made(board)["templating"]["list"]} | {"__rate_interval"}
    named = set()
    for panel in made(board)["panels"]:
        for target in panel.get("targets", ()):
            named |= {part.split('"')[0].split("]")[0].split("(")[0] for part in target["expr"].split("$")[1:]}
    assert {"namespace", "release"} <= named <= known


def test_lines_are_names_that_the_chart_fills_in() -> None:
    """By its `slo`: tests/charts/test_dashboards.py."""
    drawn = json.loads((watch_files.CHART / "dashboards/service.json").read_text())["panels"]
    steps = {panel["title"]: panel["fieldConfig"]["defaults"].get("thresholds") for panel in drawn if panel["type"] != "row"}
    assert steps["Latency"]["steps"][1]["value"] == "$p95"
    assert steps["Failed"]["steps"][1]["value"] == "$errors"
    assert steps["Memory of the edge"]["steps"][1]["value"] == 0.9


def test_a_series_is_named_by_what_tells_it_from_others() -> None:
    assert dashboards.legend(Query("x", "s", ("model", "version"), "p95")) == "p95 {{model}} {{version}}"
    assert dashboards.legend(Query("x", "s")) == "all"
