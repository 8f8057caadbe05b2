"""A drawn-up overload of 10 s at three times a capacity of 10 a second, with each figure counted by hand."""

import math

import pytest

from loadtests.overload import judge_overload, measure
from loadtests.samples import Sample
from loadtests.slo import load_slo

SLO = load_slo()
FULL = "server.overloaded"


def overload(answered_per_s: int = 10, refused_s: float = 0.010, failure: str = FULL) -> list[Sample]:
    """30 requests due in each of 10 s; the first few are answered within 100 ms, the others refused."""
    return [
        Sample(
            "grpc",
            due,
            due,
            due + (0.1 if n < answered_per_s else refused_s),
            *(("",) if n < answered_per_s else (failure, failure == FULL)),
        )
        for second in range(10)
        for n in range(30)
        for due in [second + n / 40]
    ]


def recovery(bad_s: float) -> list[Sample]:
    """5 requests a second for 6 s after the overload, refused for the first `bad_s`."""
    return [
        Sample("grpc", 10 + n / 5, 10 + n / 5, 10 + n / 5 + 0.02, FULL if n / 5 < bad_s else "", n / 5 < bad_s) for n in range(30)
    ]


def test_what_meets_every_bound() -> None:
    figures = measure(overload() + recovery(0.0), 10.0, 10.0, SLO)
    assert (figures.offered, figures.refused, figures.failed) == (300, 200, 0)
    assert figures.goodput == pytest.approx(1.0)
    assert figures.refused_p99_ms == pytest.approx(10.0)
    assert figures.recovery_s == 1.0
    assert judge_overload(figures, SLO) == []


def test_every_violation_is_named() -> None:
    figures = measure(overload(8, refused_s=0.060) + recovery(5.5), 10.0, 10.0, SLO)
    assert figures.goodput == pytest.approx(0.8)
    assert [v.measure for v in judge_overload(figures, SLO)] == ["goodput of capacity", "refused p99 ms", "recovery s"]


def test_what_is_neither_answered_nor_refused_has_failed() -> None:
    figures = measure(overload(10, failure="client.timeout") + recovery(0.0), 10.0, 10.0, SLO)
    assert (figures.refused, figures.failed) == (0, 200)
    [violation] = judge_overload(figures, SLO)
    assert violation.seen == pytest.approx(200 / 300)


def test_answers_after_the_overload_are_none_of_its_goodput() -> None:
    late = [Sample("grpc", 9.0, 9.0, 10.5)] * 10
    assert measure(late, 10.0, 10.0, SLO).goodput == 0


@pytest.mark.parametrize(("bad_s", "expected"), [(0.0, 1.0), (0.3, 2.0), (1.0, 2.0), (4.9, 6.0), (6.0, math.inf)])
def test_recovery_ends_with_the_first_good_second(bad_s: float, expected: float) -> None:
    assert measure(recovery(bad_s), 10.0, 10.0, SLO).recovery_s == expected


def test_slow_answers_are_no_recovery() -> None:
    slow = [Sample("grpc", 10 + n / 5, 10 + n / 5, 10 + n / 5 + 0.3) for n in range(10)]
    assert measure(slow, 10.0, 10.0, SLO).recovery_s == math.inf
