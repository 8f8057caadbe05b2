"""Bets: what they pay, against arithmetic, and that none is expected to win where the statement is true, over all counts."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom

from rollout.bets import against_gap, against_share, payoff
from tests.unit.rollout.naive import nearest, product

RATES = np.array([0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.8, 0.99, 1.0])
PAIRS = [(0.02, 0.001), (0.5, 0.05), (0.3, 0.2), (0.9, 0.02), (0.999, 0.998)]
TOTALS = [(1, 1), (2, 9), (7, 3), (12, 12)]


def expected(factors, first_total, second_total, first_rate, second_rate):
    """The mean of a bet's payoff over all counts there can be."""
    first, second = np.arange(first_total + 1)[:, None], np.arange(second_total + 1)[None, :]
    chance = binom.pmf(first, first_total, first_rate) * binom.pmf(second, second_total, second_rate)
    return float((chance * np.exp(payoff(factors, first, first_total, second, second_total))).sum())


def test_without_a_gap_it_is_the_safe_2x2_test():
    """Turner, Ly, Grünwald 2022: the likelihood over that at the common mean, in fractions."""
    a, b, first_total, second_total = Fraction(1, 4), Fraction(1, 20), 3, 9
    mean = (first_total * a + second_total * b) / (first_total + second_total)
    for first, second in itertools.product(range(first_total + 1), range(second_total + 1)):
        by_hand = (a / mean) ** first * ((1 - a) / (1 - mean)) ** (first_total - first)
        by_hand *= (b / mean) ** second * ((1 - b) / (1 - mean)) ** (second_total - second)
        bet = against_gap(np.array(0.25), np.array(0.05), 0.0, np.array(first_total), np.array(second_total))
        assert payoff(bet, first, first_total, second, second_total) == pytest.approx(math.log(by_hand), abs=1e-9)


AGAINST = [(a, b, gap) for (a, b), gap in itertools.product(PAIRS, (0.03, 0.001, -0.02, -0.4)) if a - gap > b]


@pytest.mark.parametrize(("a", "b", "gap"), AGAINST)
@pytest.mark.parametrize("totals", TOTALS)
def test_with_a_gap_it_is_the_likelihood_over_that_of_the_nearest_rates(a, b, gap, totals):
    first, second = nearest(a, b, gap, *totals)
    bet = against_gap(np.array(a), np.array(b), gap, *map(np.array, totals))
    by_hand = product(1, totals[0], a, first) * product(1, totals[1], b, second)
    assert payoff(bet, 1, totals[0], 1, totals[1]) == pytest.approx(math.log(by_hand), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("gap", [0.0, 0.005, 0.1, -0.005, -0.05, -0.5])
@pytest.mark.parametrize(("a", "b"), [*PAIRS, (0.001, 0.001), (0.2, 0.2), (0.05, 0.07)])
@pytest.mark.parametrize("totals", TOTALS)
def test_no_bet_is_expected_to_win_where_the_statement_is_true(a, b, gap, totals):
    """The first rate at most the second + gap: on the edge and within, whatever the rates are."""
    bet = against_gap(np.array(a), np.array(b), gap, *map(np.array, totals))
    for first, second in itertools.product(RATES, RATES):
        edge = min(first, second + gap)
        if edge >= 0:
            assert expected(bet, *totals, edge, second) <= 1 + 1e-9


EXTREMES = [
    (0.5, 1e-6, 0.001, 1, 100_000),
    (1e-4, 2e-5, 1e-5, 3, 50_000),
    (1e-5, 1e-4, -0.3, 9_000, 7),
    (0.9999, 0.5, -1e-4, 2, 2),
]


@pytest.mark.parametrize(("a", "b", "gap", "first_total", "second_total"), EXTREMES)
def test_a_bet_is_fair_on_average_over_requests_also_at_extreme_rates_and_totals(a, b, gap, first_total, second_total):
    """At both ends of the statement's edge: what a request is expected to multiply by is a straight line in the rate."""
    bet = against_gap(np.array(a), np.array(b), gap, np.array(first_total), np.array(second_total))
    for second in (max(0.0, -gap), min(1.0, 1 - gap)):
        first = second + gap
        ours = first * math.exp(bet.first_event) + (1 - first) * math.exp(bet.first_none)
        theirs = second * math.exp(bet.second_event) + (1 - second) * math.exp(bet.second_none)
        assert first_total * ours + second_total * theirs == pytest.approx(first_total + second_total, rel=1e-8)


def test_a_bet_is_expected_to_win_where_it_is_right():
    for (a, b), gap in itertools.product(PAIRS, (0.0, -0.02)):
        bet = against_gap(np.array(a), np.array(b), gap, np.array(5), np.array(5))
        assert expected(bet, 5, 5, a, b) > 1


def test_a_bet_on_rates_that_the_statement_allows_is_none():
    bet = against_gap(np.array([0.1, 0.3]), np.array([0.2, 0.3]), 0.0, np.array(5), np.array(5))
    assert payoff(bet, 3, 5, 1, 5).tolist() == [0, 0]


@pytest.mark.parametrize(("rate", "share"), [(0.2, 0.05), (0.01, 0.05), (0.9, 0.5)])
def test_a_bet_against_a_share_is_fair_at_it_and_beyond(rate, share):
    bet = against_share(np.array(rate), share)
    assert payoff(bet, 2, 7, 0, 0) == pytest.approx(math.log(product(2, 7, rate, share)))
    for true in RATES:
        if (true - share) * (rate - share) <= 0:
            assert expected(bet, 7, 0, true, 0.5) <= 1 + 1e-12
    assert expected(bet, 7, 0, share, 0.5) == pytest.approx(1)
    assert expected(bet, 7, 0, rate, 0.5) > 1
