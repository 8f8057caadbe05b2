"""Expected values are counted by hand from a few latencies."""

import math

import pytest

from loadtests.samples import Sample
from loadtests.slo import LatencyBounds, OverloadBounds, Slo
from loadtests.verdict import judge, percentile, summarise

SLO = Slo(
    latency_ms=LatencyBounds(p50=100.0, p95=250.0, p99=500.0),
    error_rate=0.01,
    throughput_per_s=1.0,
    overload=OverloadBounds(goodput=0.9, refused_p99_ms=50.0, recovery_s=5.0),
)


def samples_of(latencies_s: list[float], failures: int = 0, protocol: str = "grpc", gap_s: float = 0.1) -> list[Sample]:
    """One request due each `gap_s`, with these latencies; the last `failures` of them failed."""
    right = len(latencies_s) - failures
    return [
        Sample(protocol, n * gap_s, n * gap_s, n * gap_s + latency, "" if n < right else "client.timeout")
        for n, latency in enumerate(latencies_s)
    ]


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([15, 20, 35, 40, 50], 5, 15),  # ceil(0.25) = 1st
        ([15, 20, 35, 40, 50], 30, 20),  # ceil(1.5) = 2nd
        ([15, 20, 35, 40, 50], 40, 20),  # exactly the 2nd, not between it and the 3rd
        ([50, 40, 35, 20, 15], 50, 35),  # the order does not matter
        ([15, 20, 35, 40, 50], 100, 50),
        ([7], 1, 7),
        (list(range(1, 101)), 7, 7),  # 0.07 * 100 in binary is above 7
        (list(range(1, 101)), 95, 95),
        ([1.0, math.inf], 51, math.inf),
    ],
)
def test_percentiles_are_nearest_rank(values: list[float], percent: int, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_a_p95_of_254_ms_fails_a_bound_of_250_ms() -> None:
    """locust's own statistics count 254 ms as 250."""
    samples = samples_of([0.050] * 94 + [0.254] * 6)
    [violation] = judge(samples, SLO)
    assert (violation.where, violation.measure, violation.bound) == ("grpc", "p95 ms", 250.0)
    assert violation.seen == pytest.approx(254.0)
    assert str(violation).startswith("grpc: p95 ms 254")


def test_a_latency_at_the_bound_meets_it() -> None:
    assert (
        judge(
            samples_of([0.0625] * 40, gap_s=0.25),
            SLO.model_copy(update={"latency_ms": LatencyBounds(p50=62.5, p95=62.5, p99=62.5)}),
        )
        == []
    )


def test_every_violation_is_named() -> None:
    slow = samples_of([0.6] * 10, gap_s=2.0)
    broken = samples_of([0.001] * 10, failures=10, protocol="rest-json", gap_s=2.0)
    assert [(v.where, v.measure) for v in judge(slow + broken, SLO)] == [
        ("grpc", "p50 ms"),
        ("grpc", "p95 ms"),
        ("grpc", "p99 ms"),
        ("rest-json", "p50 ms"),
        ("rest-json", "p95 ms"),
        ("rest-json", "p99 ms"),
        ("rest-json", "error rate"),
        ("all protocols", "throughput per s"),  # 10 right answers in 18.6 s
    ]


def test_a_failed_request_was_never_answered_however_fast_it_failed() -> None:
    figures = summarise(samples_of([0.010] * 100, failures=2))
    assert figures.latency_ms == {50: pytest.approx(10), 95: pytest.approx(10), 99: math.inf}
    assert figures.failures == {"client.timeout": 2}
    assert figures.error_rate == 0.02


def test_throughput_counts_right_answers_until_the_last_end() -> None:
    """Nine right answers; due at 0 to 0.9 s, the last one ends at 0.9 + 3.6 s."""
    figures = summarise(samples_of([0.0] * 8 + [0.0, 3.6], failures=1))
    assert figures.throughput_per_s == pytest.approx(9 / 4.5)


def test_latency_counts_from_when_a_request_was_due() -> None:
    late = Sample("grpc", due_s=1.0, sent_s=1.5, ended_s=1.6)
    assert late.latency_s == pytest.approx(0.6)
    assert summarise([late]).late_p99_ms == pytest.approx(500)


def test_no_requests_is_a_violation() -> None:
    assert [str(violation) for violation in judge([], SLO)] == ["all protocols: requests 0 < 1"]
