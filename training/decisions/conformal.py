"""Bounds that hold for images to come, whatever the network, as long as they are exchangeable with the calibration split's.

Angelopoulos, Bates, Fisch, Lei, Schuster: Conformal Risk Control, ICLR 2024 (arXiv 2208.02814), and split conformal prediction.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from handlers.arrays import Float64, Floats, Int64, Ints
from handlers.decision import nonconformity, scores_of
from handlers.spec import FnrBound, PredictionSets
from training.config import DecisionConfig
from training.errors import DataError


def needed(level: float | Fraction) -> int:
    """Return the least n for which a bound of this level says anything: n / (n + 1) · 0 + 1 / (n + 1) <= level."""
    return math.ceil(1 / _exact(level)) - 1


def spare(n: int, level: float | Fraction) -> int:
    """Return how many of n images and the one to come may err: floor(level · (n + 1)), 0 where n is less than `needed`."""
    return math.floor(_exact(level) * (n + 1))


def check_fnr(n: int, level: float) -> None:
    """Raise DataError where n positive images are too few for a bound of this level, saying how many are needed."""
    if n < needed(level):
        raise DataError(
            f"decision.max_fnr {level:g} needs at least {needed(level)} positive calibration images that nothing else is fitted "
            f"on, there are {n}; give data.splits.calibration a larger share, the data set more images, or allow more misses"
        )


def check_sets(n: int, coverage: float) -> None:
    """Raise DataError where n images are too few for sets of this coverage, saying how many are needed."""
    if n < (least := needed(1 - _exact(coverage))):
        raise DataError(
            f"decision.set_coverage {coverage:g} needs at least {least} calibration images that nothing else is fitted on, there "
            f"are {n}; give data.splits.calibration a larger share, the data set more images, or ask for less coverage"
        )


def fnr_threshold(scores: Floats, level: float) -> float:
    """Find the largest threshold whose corrected risk is within the level, Theorem 1 with B = 1 and lambda = 1 - threshold.

    The loss of a positive image is 1 where its score lies below the threshold, so the risk R of n of them is the share that is
    missed, and n / (n + 1) · R + 1 / (n + 1) <= level means floor(level · (n + 1)) - 1 misses at most. Then the chance that the
    next positive image is missed is `level` at most, and above level - 2 / (n + 1) where no scores are equal (Theorem 2).

    scores: (n,), of the positive calibration images alone, as the rate is one among positives. Raises DataError (n < `needed`).
    """
    check_fnr(len(scores), level)
    return float(np.sort(scores)[spare(len(scores), level) - 1])


def bound_fnr(probs: Floats, truth: Ints, positive: Sequence[int], level: float) -> FnrBound:
    """Find the bound by calibration images. probs: (N, K), calibrated; truth: (N,), classes; positive: classes.

    Raises DataError.
    """
    scores = scores_of(probs, positive)[np.isin(truth, positive)]
    return FnrBound(level=level, threshold=fnr_threshold(scores, level), positives=len(scores))


def fit_sets(probs: Floats, truth: Ints, coverage: float, method: Literal["lac", "aps"]) -> PredictionSets:
    """The limit under which sets hold the true label with the chance `coverage`: the ceil((n + 1) · coverage)-th smallest
    nonconformity of the true labels (Vovk et al. 2005; Sadinle et al. 2019; Romano et al. 2020).

    The chance is `coverage` at least and, where no two are equal, below coverage + 1 / (n + 1).
    probs: (n, K), calibrated; truth: (n,). Raises DataError where n is less than `needed(1 - coverage)`.
    """
    check_sets(n := len(truth), coverage)
    own = nonconformity(probs, method)[np.arange(n), truth]
    limit = float(np.sort(own)[n - spare(n, 1 - _exact(coverage))])
    return PredictionSets(method=method, coverage=coverage, limit=limit, images=n)


def bounds_anything(config: DecisionConfig) -> bool:
    """Tell whether the config asks for any bound of this module."""
    return config.max_fnr is not None or config.set_coverage is not None


def parts(groups: Sequence[Hashable], classes: int, config: DecisionConfig) -> tuple[Int64, Int64]:
    """Split the rows of the calibration split: those that the scaling is fitted on, and those that the bounds are found with.

    A bound takes the scores as given. With two labels no scaling changes the order of the scores (a temperature and a slope are
    positive), and with it which are flagged, so both may be all rows. Prediction sets compare images of one label with those of
    the other, whose order only a temperature keeps. Otherwise every other group goes to each. `config` is as
    `training.decisions.mix.settled`, else "auto" counts as "vector". groups: (N,), what must not be torn.
    """
    rows = np.arange(len(groups))
    keeps_order = classes == 2 and (config.set_coverage is None or config.calibration == "temperature")
    if not bounds_anything(config) or keeps_order:
        return rows, rows
    number = {group: n for n, group in enumerate(dict.fromkeys(groups))}
    second = np.array([number[group] % 2 == 1 for group in groups], dtype=bool)
    return rows[~second], rows[second]


@dataclass(frozen=True)
class Resplits:
    """The results of a bound on S random splits.

    `positives` is n of each split; thresholds, fnr: (S,), fnr of those left over.
    """

    positives: int
    thresholds: Float64
    fnr: Float64


def resplit(scores: Floats, n: int, level: float, splits: int, seed: int = 0) -> Resplits:
    """Split the positive images at random into n that find the threshold and the others that are tested, `splits` times.

    scores: (P,) of positive images that the network has not learnt from, n < P. Raises DataError (n < `needed`).
    """
    rng = np.random.default_rng(seed)
    thresholds, fnr = np.empty(splits), np.empty(splits)
    for split in range(splits):
        drawn = rng.permutation(scores)
        thresholds[split] = fnr_threshold(drawn[:n], level)
        fnr[split] = (drawn[n:] < thresholds[split]).mean()
    return Resplits(n, thresholds, fnr)


def _exact(level: float | Fraction) -> Fraction:
    """The number that was written: as floats, 0.29 · 100 is less than 29."""
    return level if isinstance(level, Fraction) else Fraction(repr(level))
