"""How many requests an effect needs until it is found, and a release until it is known to be no worse than its margin.

The logarithm of a bet's capital grows by a mean and with a variance in each request. It is taken as normal, so that the number
follows from a quadratic equation. `python -m loadtests.bench.releases` holds the numbers against simulated releases.
"""

import math
from statistics import NormalDist

import numpy as np

from rollout.bets import Factors, against_gap, against_share
from rollout.gates import Gate
from rollout.safe_test import HALVES, LIFTS, excesses, lesser

LEAST = 1e-6
"""No rate is taken as less: of a release that never had an event nobody knows that it never will."""


def requests_to_find(gate: Gate, base: float, effect: float, share: float, alpha: float, power: float = 0.95) -> int | None:
    """Compute within how many of the canary's requests (or images) its rate of base + effect is found, with probability `power`.

    base: the stable release's rate; share: the canary's part of all requests, in (0, 1); alpha: the gate's own, which is that of
    the release over the number of its gates. None where it is never found, as of an effect that is tolerated.
    """
    stable, canary = _rate(base), _rate(base + effect)
    rates = excesses(gate, np.asarray(stable), LIFTS)
    totals = (1.0, (1 - share) / share) if gate.paired else (1.0, 0.0)
    bet = against_gap(rates, np.asarray(stable), gate.tolerance, *totals) if gate.paired else against_share(rates, gate.margin)
    return _requests(bet, (canary, stable), totals, math.log((1 + len(LIFTS)) / alpha), power)


def requests_to_prove(
    gate: Gate, base: float, share: float, alpha: float, power: float = 0.95, difference: float = 0.0, won: float | None = None
) -> int | None:
    """Compute within how many of the canary's requests its rate is known to be less than the margin above the stable's.

    difference: what it is in truth; alpha: the release's; won: the logarithm of the capital so far, None at the beginning. Else
    as in `requests_to_find`.
    """
    goal = -math.log(alpha) - (-math.log(len(HALVES)) if won is None else won)
    stable, canary = _rate(base), _rate(base + difference)
    rates = lesser(gate, np.asarray(stable), (1.0,))[0]
    if not gate.paired:
        return _requests(against_share(rates, gate.margin), (canary, stable), (1.0, 0.0), goal, power)
    totals = (1 - share) / share, 1.0
    bet = against_gap(np.asarray(stable), rates, -gate.margin, *totals)
    return _requests(bet, (stable, canary), totals, goal, power)


def _requests(bets: Factors, rates: tuple[float, float], totals: tuple[float, float], goal: float, power: float) -> int | None:
    """The fewest that one of several bets needs.

    `rates`, `totals`: of both tracks, for each request of the canary; `goal`: by how much the logarithm of its capital must grow.
    """
    means, variances = np.zeros(1), np.zeros(1)
    for rate, total, event, none in zip(rates, totals, (bets[0], bets[2]), (bets[1], bets[3]), strict=True):
        means = means + total * (rate * event + (1 - rate) * none)
        variances = variances + total * rate * (1 - rate) * (event - none) ** 2
    grows = means > 0
    if not grows.any():
        return None
    # requests * mean - z * sqrt(requests * variance) = goal, solved for the root of the number
    means, spreads = means[grows], NormalDist().inv_cdf(power) * np.sqrt(variances[grows])
    roots = (spreads + np.sqrt(spreads**2 + 4 * means * goal)) / (2 * means)
    return math.ceil(float(roots.min()) ** 2)


def _rate(rate: float) -> float:
    return min(max(rate, LEAST), 1 - LEAST)
