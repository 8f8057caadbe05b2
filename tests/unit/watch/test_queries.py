"""Every query of every panel and alert names metrics and labels that the edge declares, and is filled in to the last name."""

from string import Template

import pytest

from tests.unit.watch import promql
from transformer import declared
from watch import queries as q
from watch.alerts import ALERTS
from watch.boards import BOARDS

TARGET = {"namespace", "pod", "instance", "job", "track"}
"""Labels that Prometheus and the chart's PodMonitor give each target's series."""
EXTERNAL = {"container_cpu_usage_seconds_total": {"container"}}
"""Metrics of others that a panel asks for; of cAdvisor in the kubelet, which a Prometheus for the cluster scrapes."""
PARTS = {
    "selector": 'namespace="demo"', "stable": 'namespace="demo"', "canary": 'namespace="demo"', "window": "5m",
    "error_rate": "0.001", "p50": "0.1", "p95": "0.25", "p99": "0.5", "min_requests": "1", "min_images": "1",
    "drift_min_images": "1", "no_traffic": "1h", "decisions_window": "1h", "review_share": "0.3", "rejected_share": "0.1",
    "drift_window": "1d", "least_effect": "0",
}  # fmt: skip
QUERIES = [
    pytest.param(query.text, query.external, id=f"{board.name}-{panel.title}-{query.name}")
    for board in BOARDS
    for panel in board.panels()
    for query in panel.queries
] + [pytest.param(alert.expression, False, id=f"{place}-{alert.name}") for place, alert in enumerate(ALERTS)]


def series(declarations: tuple[declared.Declared, ...]) -> dict[str, set[str]]:
    """The labels of each series that the declared metrics make."""
    found = {}
    for metric in declarations:
        labels = set(metric.label_names)
        if metric.kind == "histogram":
            found |= {f"{metric.name}_{part}": labels for part in ("sum", "count")} | {f"{metric.name}_bucket": labels | {"le"}}
        else:
            found[metric.name] = labels
    return found


def faults(query: str, known: dict[str, set[str]]) -> list[str]:
    """What is wrong with a query's names."""
    named = [*promql.metrics(query)]
    wrong = [f"{name} is declared by nobody" for name, _ in named if name not in known]
    wrong += [f"{name} has no {label}" for name, by in named for label in by - TARGET - known.get(name, by)]
    there = TARGET.union(*(known.get(name, set()) for name, _ in named))
    return wrong + [f"no label {label}" for label in promql.groupings(query) - there] + sorted(promql.unknown(query))


@pytest.mark.parametrize(("text", "external"), QUERIES)
def test_a_query_names_what_the_edge_declares(text: str, external: bool) -> None:
    known = series(declared.ALL) | (EXTERNAL if external else {})
    query = q.fill(text, **PARTS)
    assert "$" not in query
    assert faults(query, known) == []
    assert set(Template(text).get_identifiers()) <= set(PARTS)


@pytest.mark.parametrize("metric", declared.ALL, ids=lambda metric: str(metric.name))
def test_a_metric_that_is_renamed_fails_the_queries_that_ask_for_it(metric: declared.Declared) -> None:
    """All but what no query asks for: each metric is looked at somewhere."""
    others = series(tuple(each for each in declared.ALL if each is not metric))
    broken = [case.id for case in QUERIES if faults(q.fill(str(case.values[0]), **PARTS), others | EXTERNAL)]
    assert broken


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ('rate(visor_requests{namespace="demo"}[5m])', ["visor_requests is declared by nobody"]),
        ("sum by (colour) (visor_queue_images{})", ["no label colour"]),
        ('visor_queue_images{stage="queue"}', ["visor_queue_images has no stage"]),
        ("visor_queue_images > 1", ["visor_queue_images"]),
        ('visor_queue_images{version=~"a{1}"} > 1', []),
    ],
)
def test_what_is_wrong_is_seen(query: str, wrong: list[str]) -> None:
    assert faults(query, series(declared.ALL)) == wrong


def test_what_is_filled_in_leaves_other_names_alone() -> None:
    assert q.fill("$selector $__rate_interval {{ $labels.pod }} $p95", selector="a", p95="0.25") == (
        "a $__rate_interval {{ $labels.pod }} 0.25"
    )


def test_every_panel_is_of_one_unit_and_explained() -> None:
    for board in BOARDS:
        titles = [panel.title for panel in board.panels()]
        assert len(set(titles)) == len(titles)
        for panel in board.panels():
            assert len({query.unit for query in panel.queries}) == 1
            assert panel.about.endswith(".")
            assert len({query.name for query in panel.queries}) == len(panel.queries)
