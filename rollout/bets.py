"""Bets on counted events of two tracks, each of which is expected to lose or to keep its stake while a statement is true.

The statement: the first track's rate of an event is at most the second's plus a gap. The bet: rates (a, b) for which it is
false. The payoff is the likelihood of what was counted under (a, b), over that under the nearest rates for which the
statement is true, nearest by Kullback-Leibler divergence weighted by the totals. Without a gap these are the common mean of a
and b, and the bet is the safe 2x2 test of Turner, Ly, Grünwald 2022; with one, that of Turner, Grünwald 2022 ("Exact
anytime-valid confidence intervals for contingency tables and beyond").

Why it is fair: a request's expected factor, A(x), is a straight line in its track's true rate x. At the nearest rates it is 1,
and as these are nearest, no rates of the statement have n_first A_first + n_second A_second above n_first + n_second. The
expected payoff of all is A_first^n_first A_second^n_second, which is then 1 at most (the mean of logarithms). So it holds
whatever the rates are in this interval, and of the next one anew: rates may swing as they like.
"""

from typing import NamedTuple

import numpy as np

from handlers.arrays import Float64, Ints

Totals = Ints | float
POLISH = 3
"""Steps of Newton's method, after which a rate is exact to a float's last digits, also where two roots lie close together."""


class Factors(NamedTuple):
    """Logarithms of what one event multiplies the stake by, and of what its absence does, for each track; of one shape."""

    first_event: Float64
    first_none: Float64
    second_event: Float64
    second_none: Float64


def against_gap(first: Float64, second: Float64, gap: Float64 | float, first_total: Totals, second_total: Totals) -> Factors:
    """Make the bet on rates `first` and `second`, in (0, 1), against "the first is at most the second + gap".

    Totals: how many are about to be counted, or numbers in their proportion. All of one shape, or to be broadcast to it.
    A bet on rates for which the statement is true pays 1. Where a total is 0 the factors may be NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        nearest = _nearest(first, second, gap, first_total, second_total)
    return _idle_where(np.asarray(first - gap <= second), _factors(first, second, nearest + gap, nearest))


def against_share(rate: Float64, share: Float64 | float) -> Factors:
    """Make the bet on a rate against a known share, of the first track alone; it is fair for all rates beyond the share."""
    first = np.asarray(np.log(rate / share))
    return Factors(first, np.asarray(np.log((1 - rate) / (1 - share))), np.zeros_like(first), np.zeros_like(first))


def payoff(factors: Factors, first_events: Ints, first_total: Ints, second_events: Ints, second_total: Ints) -> Float64:
    """Compute the logarithm of what a stake of 1 has become by these counts; NaN where the factors are."""
    with np.errstate(invalid="ignore"):  # of bets that nothing is counted of
        return np.asarray(
            first_events * factors.first_event
            + (first_total - first_events) * factors.first_none
            + second_events * factors.second_event
            + (second_total - second_events) * factors.second_none
        )


def _nearest(first: Float64, second: Float64, gap: Float64 | float, first_total: Totals, second_total: Totals) -> Float64:
    """The second track's rate t of the nearest pair (t + gap, t): where the divergence's derivative in t is 0.

    Times both variances it is a cubic, -t³ + b t² + c t + d, of which t is the middle one of three real roots (Viète).
    """
    ours = np.asarray(first_total / (first_total + second_total))
    theirs, shift = 1 - ours, gap * (1 - gap)
    b = ours * (1 - gap + first) + theirs * (1 - 2 * gap + second)
    c = ours * (gap - first) + theirs * (shift - second * (1 - 2 * gap))
    d = -theirs * second * shift
    radius = np.sqrt((c + b * b / 3) / 3)
    turn = np.arccos(np.clip((2 * b**3 / 27 + b * c / 3 + d) / (2 * radius**3), -1, 1)) / 3
    rate = b / 3 + 2 * radius * np.cos(turn - 2 * np.pi / 3)
    low, high = np.maximum(second, -gap), np.minimum(first - gap, 1.0)
    for _ in range(POLISH):
        beside = rate + gap
        slope = ours * (beside - first) * rate * (1 - rate) + theirs * (rate - second) * beside * (1 - beside)
        rate = np.clip(rate - slope / (c + rate * (2 * b - 3 * rate)), low, high)
    return np.asarray(rate)


def _factors(first: Float64, second: Float64, first_true: Float64, second_true: Float64) -> Factors:
    with np.errstate(divide="ignore", invalid="ignore"):  # of bets that are idle, or that nothing is counted of
        return Factors(
            np.log(first / first_true),
            np.log((1 - first) / (1 - first_true)),
            np.log(second / second_true),
            np.log((1 - second) / (1 - second_true)),
        )


def _idle_where(idle: Float64, factors: Factors) -> Factors:
    return Factors(*(np.where(idle, 0.0, one) for one in factors))
