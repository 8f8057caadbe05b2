"""The search for the capacity: bounded, and as near as it says, whatever the server."""

import math

import pytest

from loadtests.capacity import LEAST_PER_S, MOST_STEPS, PRECISION, Capacity, Step, judge_capacity, search
from loadtests.slo import load_slo

SLO = load_slo()


def server(true, tried):
    """Measures a server that keeps the SLO up to a rate."""

    def measure(rate):
        tried.append(rate)
        return Step(rate, () if rate <= true else ("all: p99 ms 600 > 500",), min(rate, true), 400.0, 0.016, 0.002)

    return measure


@pytest.mark.parametrize("true", [0.7, 3, 19, 80, 100, 101, 119, 250, 1999])
@pytest.mark.parametrize("first", [1.0, 100.0])
def test_the_capacity_is_found_within_the_precision(true, first):
    tried = []
    found = search(server(true, tried), first, 2000.0, 2)
    assert len(tried) == len(found.steps) <= MOST_STEPS
    if len(tried) < MOST_STEPS:  # from 1 to 1999 the way is too long
        assert true / (1 + PRECISION) <= found.per_s <= true
    assert found.per_s == max((step.rate for step in found.steps if not step.violated), default=0.0)
    assert tried[:2] == [first, first * 1.5 if first <= true else first / 1.5]


def test_the_first_rates_are_arithmetic():
    """98 holds; 108 and 103 do not, and 103 is 5.2 % above 98, so that there is one more, which does not, either."""
    tried = []
    found = search(server(100, tried), 80.0, 2000.0, 2)
    assert tried == pytest.approx([80, 120, 97.98, 108.43, 103.07, 100.49], abs=0.01)
    assert found.per_s == tried[2]


def test_a_server_that_keeps_any_rate_is_not_asked_for_more_than_the_most():
    tried = []
    assert search(server(math.inf, tried), 80.0, 200.0, 2).per_s == 200.0
    assert max(tried) == 200.0


def test_a_server_that_keeps_none_has_no_capacity():
    tried = []
    found = search(server(0.0, tried), 4.0, 200.0, 2)
    assert (found.per_s, found.best, found.busy) == (0.0, None, None)
    assert min(tried) >= LEAST_PER_S
    [violation] = judge_capacity(found, SLO)
    assert str(violation) == "capacity: requests per s 0 < 10"
    assert judge_capacity(found, SLO.model_copy(update={"throughput_per_s": 0.0})) != []


def test_a_slow_server_is_tried_at_one_rate_at_least():
    assert [step.rate for step in search(server(0.0, []), 0.01, 200.0, 2).steps] == [LEAST_PER_S]


def test_the_capacity_is_held_against_the_throughput():
    assert judge_capacity(search(server(100, []), 80.0, 2000.0, 2), SLO) == []
    assert str(judge_capacity(search(server(8, []), 8.0, 2000.0, 2), SLO)[0]) == "capacity: requests per s 8 < 10"


def test_what_server_and_client_use_is_a_share_of_the_cores():
    steps = (Step(100.0, (), 95.0, 400.0, 0.016, 0.002), Step(150.0, ("no",), 99.0, 900.0, 0.02, 0.002))
    assert Capacity(100.0, steps, 2).busy == pytest.approx(95 * 0.018 / 2)
    assert Capacity(100.0, (Step(100.0, (), 95.0, 400.0),), 2).busy is None
