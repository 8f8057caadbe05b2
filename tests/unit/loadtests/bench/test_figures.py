"""Figures of loads and rounds, against arithmetic by hand."""

import math

import pytest

from loadtests.bench.figures import Load, Round, figure_names, in_turns, merged, percentiles_ms, ratio, throughput


def test_percentiles_are_interpolated_between_the_sorted_latencies() -> None:
    hundred_and_one = [number / 1000 for number in range(101)]  # 0 to 100 ms, so that percentile q is q ms
    assert percentiles_ms(Load(hundred_and_one[::-1], 1.0)) == pytest.approx((50.0, 95.0, 99.0))
    assert percentiles_ms(Load([0.010, 0.020], 1.0)) == pytest.approx((15.0, 19.5, 19.9))


def test_nothing_answered_has_no_percentiles() -> None:
    assert all(math.isnan(value) for value in percentiles_ms(Load([], 1.0, failures=3)))


def test_throughput_counts_what_was_answered_and_not_what_failed() -> None:
    assert throughput(Load([0.1] * 30, 2.0, failures=7)) == 15.0


def test_loads_side_by_side_add_up_over_the_longest() -> None:
    both = merged([Load([0.1, 0.2], 1.0, 1), Load([0.3], 1.5, 2)])
    assert (both.latencies_s, both.elapsed_s, both.failures) == ([0.1, 0.2, 0.3], 1.5, 3)


def test_of_each_figure_the_best_round_counts_and_failures_add_up() -> None:
    first = Round(p50_ms=5.0, p99_ms=20.0, throughput_per_s=100.0, memory_mb=300.0, failures=1, open_failures=3)
    second = Round(p50_ms=6.0, p99_ms=10.0, throughput_per_s=120.0, memory_mb=290.0, failures=2)
    best = Round.best([first, second])
    assert best == Round(p50_ms=5.0, p99_ms=10.0, throughput_per_s=120.0, memory_mb=290.0, failures=3, open_failures=3)


def test_a_figure_that_no_round_has_stays_missing() -> None:
    assert Round.best([Round(p50_ms=1.0), Round()]) == Round(p50_ms=1.0)
    assert "failures" not in figure_names()


def test_rounds_go_there_and_back() -> None:
    assert in_turns(["a", "b", "c"], 3) == [["a", "b", "c"], ["c", "b", "a"], ["a", "b", "c"]]


def test_a_ratio_needs_both_figures() -> None:
    rows = {"bare": Round(throughput_per_s=50.0), "visor": Round(throughput_per_s=45.0), "lost": Round()}
    assert ratio(rows, "visor", "bare", "throughput_per_s") == pytest.approx(0.9)
    assert ratio(rows, "lost", "bare", "throughput_per_s") is None
    assert ratio(rows, "visor", "nobody", "throughput_per_s") is None
