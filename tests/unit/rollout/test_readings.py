"""Series are taken apart by hand: which pod counted what, by whom it was scraped and when, and what is no count."""

import itertools
import math

import pytest

from rollout.errors import PrometheusUnreachable
from rollout.readings import Reading, by_pod, query_of, tallies


def series(name: str, value: float, pod: str = "s", **labels: str) -> tuple[dict[str, str], float]:
    return {
        "__name__": name,
        "pod": pod,
        "job": "visor",
        "instance": f"{pod}:8080",
        "model": "m",
        "version": "1",
        **labels,
    }, value


def requests(pod: str, code: str, count: int, within: dict[str, int] | None = None) -> list[tuple[dict[str, str], float]]:
    """A histogram of one code and protocol, as the edge writes it."""
    buckets = [
        series("visor_request_seconds_bucket", n, pod, code=code, protocol="rest", le=le) for le, n in (within or {}).items()
    ]
    return [series("visor_request_seconds_count", count, pod, code=code, protocol="rest"), *buckets]


def test_series_add_up_to_what_gates_ask_for() -> None:
    found = tallies(
        [
            *requests("c", "200", 10, {"0.1": 4, "0.5": 9, "+Inf": 10}),
            series("visor_request_seconds_count", 5, "c", code="200", protocol="grpc"),
            series("visor_request_seconds_bucket", 5, "c", code="200", protocol="grpc", le="0.5"),
            *requests("c", "503", 3, {"0.5": 3, "+Inf": 3}),
            *requests("c", "400", 2),
            series("visor_decisions_total", 7, "c", label="a", decision="flag"),
            series("visor_decisions_total", 2, "c", label="b", decision="flag"),
            series("visor_decisions_total", 6, "c", label="a", decision="pass"),
            series("visor_decisions_total", 1, "c", label="a", decision="review"),
            series("visor_images_rejected_total", 2, "c", code="image.empty"),
            series("visor_shadow_images_total", 8, "c", result="agreed"),
            series("visor_drawn_images_total", 4, "c", result="pass"),
            series("visor_drawn_images_total", 1, "c", result="rejected"),
            series("visor_shadow_drawn_images_total", 3, "c", result="agreed"),
            series("visor_build_info", 1, "c", track="canary", archive_digest="1"),
        ]
    )
    assert found == {
        "c": {
            "requests": 20, "failed": 3, "answered": 15, "within:0.1": 4, "within:0.5": 14, "within:inf": 10,
            "flag": 9, "pass": 6, "review": 1, "rejected": 2, "shadow:agreed": 8,
            "drawn:pass": 4, "drawn:rejected": 1, "drawn:agreed": 3,
        }
    }  # fmt: skip


def test_a_pod_without_requests_is_there() -> None:
    assert tallies([series("visor_build_info", 1, "c", track="canary")]) == {"c": {}}


def test_a_pod_that_two_scrape_is_counted_once() -> None:
    twice = [*requests("c", "200", 10)]
    twice += [({**labels, "job": "other"}, value) for labels, value in twice]
    assert tallies(twice)["c"]["requests"] == 10


def source_of(job: str) -> str:
    [reading] = by_pod([({**labels, "job": job}, value) for labels, value in requests("c", "200", 1)]).values()
    return reading.source


def test_a_source_is_kept_to_while_it_is_there() -> None:
    counts = {"a": 10, "b": 20}
    found = {job: [({**labels, "job": job}, value) for labels, value in requests("c", "200", n)] for job, n in counts.items()}
    for job, n in counts.items():
        read = by_pod(itertools.chain(*found.values()), {"c": source_of(job)})
        assert read["c"] == Reading({"requests": n, "answered": n}, source_of(job))
    assert by_pod(found["b"], {"c": source_of("a")})["c"].source == source_of("b")


def test_a_reading_has_the_time_of_its_last_scrape() -> None:
    times = [({**labels, "scraped": "yes", "__name__": ""}, at) for at in (70.0, 80.5) for labels, _ in requests("c", "200", 1)]
    other = [({**labels, "job": "other"}, 99.0) for labels, _ in times]
    assert by_pod([*other, *times, *requests("c", "200", 7)])["c"] == Reading(
        {"requests": 7, "answered": 7}, source_of("visor"), 80.5
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 2.0**60])
def test_what_is_no_count_says_so(value: float) -> None:
    with pytest.raises(PrometheusUnreachable, match="of visor_request_seconds_count of pod c, which is no count"):
        by_pod([series("visor_request_seconds_count", value, "c", code="200")])


@pytest.mark.parametrize("labels", [{}, {"le": "much"}])
def test_a_series_that_no_edge_writes_says_so(labels: dict[str, str]) -> None:
    with pytest.raises(PrometheusUnreachable, match="no edge writes"):
        by_pod([series("visor_request_seconds_bucket", 1, "c", code="200", **labels)])


def test_the_query_names_the_pods() -> None:
    query = query_of("demo", ["b", "a"])
    assert query.count('namespace="demo",pod=~"a|b"') == 2
