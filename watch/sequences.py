"""Confidence sequences for a share: bounds that hold at all times at once, however often one looks and whenever one stops.

Each share p is tested by a bet against it (Waudby-Smith, Ramdas, JRSS B 2024, section 4): the likelihood ratio of alternatives
above p, mixed, begins at 1, is expected to stay where p or less is true, and so reaches 1 / alpha, ever, with a probability of
alpha at most (Ville 1939). The bound is the least p whose bet has not reached it. The chance of each event, given those before
it, must be p or less for the lower bound, p or more for the upper one. Near-duplicates break both: once one picture of an object
is missed, the others are, too. The alternatives are mixed as in Robbins 1970 and Howard, Ramdas,
McAuliffe, Sekhon 2021, section 3.2: a beta distribution cut at p, which finds any excess in the end, and beside it one
alternative, EXCESS above p (Wald 1945), which finds an excess of some points soon.

Labels may count by weights: an event and its trial then add w in (0, 1] in the place of 1. Where an image is looked at with
the chance c, which may depend on how it was answered, w = (the least chance of all) / c makes the bounds hold for all images,
looked at or not (weights: Horvitz, Thompson 1952). The factor f of a bet on an image becomes f^w <= 1 + w (f - 1) (Bernoulli),
so that an image makes 1 - c + c f^w <= 1 + (the least chance) (f - 1) in the mean, and over all answers 1 or less.

`python -m loadtests.bench.sequences` measures both, docs/audit.md has the figures.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from handlers.arrays import Float64
from watch.beta import log_above

Counts = npt.NDArray[np.number[Any]]
"""Numbers of labels, or sums of their weights."""
EXCESS, WEIGHT = 0.035, 0.8
"""The one alternative lies so far above the share that is tested, and has this part of the bet."""
FALLS = 20.0
"""The others have a density that falls as (1 - q)^(FALLS - 1) above the share: most of it lies within 1 / FALLS."""
STEPS = 50
"""Halvings of the unit interval, after which a bound is exact to the last digits of a float."""


def evidence(events: Counts, trials: Counts, share: Float64 | float) -> Float64:
    """Compute the logarithm of what a bet against "the share is at most this" has made, from a stake of 1.

    events, trials: numbers or sums of weights, events <= trials; share: in (0, 1); all of one shape or scalars. It falls as
    `share` grows.
    """
    at = np.asarray(share, dtype=np.float64)
    one = _ratio(events, trials, at, np.minimum(at + EXCESS, 1.0))
    return np.logaddexp(math.log(WEIGHT) + one, math.log(1 - WEIGHT) + _mixed(events, trials, at, FALLS))


def evidence_below(events: Counts, trials: Counts, share: Float64 | float) -> Float64:
    """Compute the same of a bet against "the share is at least this": all shares below are as good an alternative.

    Of the small shares that promises are about none stands out.
    """
    return _mixed(np.subtract(trials, events), trials, 1.0 - np.asarray(share, dtype=np.float64), 1.0)


def lower(events: Counts, trials: Counts, alpha: float) -> Float64:
    """Compute the lower bound at each time: over all times together it exceeds the true share with probability alpha at most.

    events, trials: (T,) numbers or sums of weights, up to each time → (T,) float64, 0 where no event was seen.
    """
    return _edge(evidence, np.asarray(events), np.asarray(trials), alpha)


def upper(events: Counts, trials: Counts, alpha: float) -> Float64:
    """Compute the upper bound at each time, likewise; with alpha / 2 for each of the two, both hold with 1 - alpha."""
    missing = np.subtract(trials, events)

    def against(these: Counts, of: Counts, share: Float64) -> Float64:
        return evidence_below(np.subtract(of, these), of, 1.0 - share)

    return 1.0 - _edge(against, missing, np.asarray(trials), alpha)


def _edge(bet: Callable[[Any, Any, Float64], Float64], events: Counts, trials: Counts, alpha: float) -> Float64:
    """The largest share that is known to be rejected, 0 for none; at the share that was seen no bet has made anything."""
    rejected, open_ = np.zeros(np.shape(events)), np.divide(events, np.maximum(trials, 1))
    for _ in range(STEPS):
        middle = (rejected + open_) / 2
        with np.errstate(divide="ignore", invalid="ignore"):  # a share of 0 is not tested where no event was seen
            out = bet(events, trials, middle) >= -math.log(alpha)
        rejected, open_ = np.where(out, middle, rejected), np.where(out, open_, middle)
    return rejected


def _ratio(events: Counts, trials: Counts, share: Float64, other: Float64) -> Float64:
    """Log of the likelihood of `other` over that of `share`."""
    rest = np.maximum(np.subtract(trials, events), 0.0)  # sums of weights end in other digits
    with np.errstate(divide="ignore", invalid="ignore"):  # an alternative of 1 is out once anything else was seen, and not before
        against = np.where(rest == 0, 0.0, rest * np.log1p(-other))
    return np.asarray(events * np.log(other / share) + against - rest * np.log1p(-share))


def _mixed(events: Counts, trials: Counts, share: Float64, falls: float) -> Float64:
    """Log of the likelihood of the shares q above `share` over its own, mixed by the density falls (1 - q)^(falls - 1) /
    (1 - share)^falls: an incomplete beta function, as the beta distribution is conjugate."""
    rest = np.subtract(trials, events)
    total = math.log(falls) + log_above(events + 1.0, rest + falls, share)
    return np.asarray(total - events * np.log(share) - (rest + falls) * np.log1p(-share))
