"""Bounds that hold for images to come, whatever the network, as long as they are exchangeable with the calibration split's.

Angelopoulos, Bates, Fisch, Lei, Schuster: Conformal Risk Control, ICLR 2024 (arXiv 2208.02814), which holds on average over
calibration splits; Angelopoulos, Bates, Candès, Jordan, Lei: Learn then Test, 2021 (arXiv 2110.01052), which holds with a
probability over the draw of the split; and split conformal prediction.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Literal

import numpy as np
from scipy.stats import binom

from handlers.arrays import Float64, Floats, Int64, Ints
from handlers.decision import nonconformity, scores_of
from handlers.spec import FnrBound, PredictionSets
from training.config import DecisionConfig
from training.data.manifest import Sample
from training.decisions import chance
from training.decisions.chance import Groups
from training.errors import DataError

SAME = 1e-12
"""By which a computed probability may exceed 1 - confidence and still be it."""
LARGEST = 1 << 62
"""Below which sums of losses are computed in 64 bits."""


def needed(level: float | Fraction, confidence: float | None = None) -> int:
    """Return the least n for which a bound of this level says anything, of n images or groups none of which is missed.

    On average: n / (n + 1) · 0 + 1 / (n + 1) <= level. With a confidence: (1 - level)^n <= 1 - confidence.
    """
    if confidence is None:
        return math.ceil(1 / _exact(level)) - 1
    hit, delta = float(1 - _exact(level)), float(1 - _exact(confidence))
    return math.ceil(math.log(delta) / math.log(hit) - 1e-9)


def spare(n: int, level: float | Fraction) -> int:
    """Return how many of n images and the one to come may err: floor(level · (n + 1)), 0 where n is less than `needed`."""
    return math.floor(_exact(level) * (n + 1))


@cache
def allowed(n: int, level: float | Fraction, confidence: float | None = None) -> int:
    """Return how many of n positive images may be missed, -1 where n is less than `needed`.

    On average: `spare` - 1. With a confidence: the largest number k of which the upper limit of Clopper and Pearson (1934) is
    at most the level, P(Bin(n, level) <= k) <= 1 - confidence. The (k + 1)-th smallest score is then a tolerance limit (Wilks
    1941): the chance that more than `level` of all positive images lie below it is P(Bin(n, level) <= k), whatever their
    distribution. It is Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052) for a rate that rises with the threshold.
    """
    if confidence is None:
        return spare(n, level) - 1
    return int((binom.cdf(np.arange(n + 1), n, float(level)) <= float(1 - _exact(confidence)) + SAME).sum()) - 1


def check_fnr(n: int, level: float | Fraction, confidence: float | None = None, groups: bool = False) -> None:
    """Raise DataError where n positive images, or groups with one, are too few for a bound, saying how many are needed."""
    if n < (least := needed(level, confidence)):
        asked = f"decision.max_fnr {float(level):g}" + (f" with max_fnr_confidence {confidence:g}" if confidence else "")
        what = "groups of calibration images with a positive one" if groups else "positive calibration images"
        raise DataError(
            f"{asked} needs at least {least} {what} that nothing else is fitted on, there are {n}; give data.splits.calibration "
            f"a larger share, the data set more {'groups' if groups else 'images'}, or allow more misses"
        )


def check_sets(n: int, coverage: float, groups: bool = False) -> None:
    """Raise DataError where n images, or groups of them, are too few for this coverage, saying how many are needed."""
    if n < (least := needed(1 - _exact(coverage))):
        what = "groups of calibration images" if groups else "calibration images"
        raise DataError(
            f"decision.set_coverage {coverage:g} needs at least {least} {what} that nothing else is fitted on, there are {n}; "
            f"give data.splits.calibration a larger share, the data set more {'groups' if groups else 'images'}, or ask for less "
            "coverage"
        )


def fnr_threshold(
    scores: Floats, level: float | Fraction, confidence: float | None = None, groups: Groups | None = None
) -> float:
    """Find the largest threshold whose corrected risk is within the level. scores: (n,), of the positive images alone.

    **On average** (no confidence), conformal risk control, Theorem 1 with B = 1 and lambda = 1 - threshold. The loss of a
    positive image is 1 where its score lies below the threshold, so the risk R of n of them is the share that is missed, and
    n / (n + 1) · R + 1 / (n + 1) <= level means floor(level · (n + 1)) - 1 misses at most. Then the chance that the next
    positive image is missed is `level` at most, and above level - 2 / (n + 1) where no scores are equal (Theorem 2).

    **With a confidence**: at most `allowed` misses.

    **Groups**, where images come in them, are what is exchangeable: n is the number of groups with a positive image and the
    loss of a group the share of its positive images that are missed. On average Theorem 1 holds as it is: the losses sum to
    level · (n + 1) - 1 at most. With a confidence, their sum must be one at which `chance.hoeffding_bentkus` rejects a mean
    above the level. Each group counts the same, however many images it has.

    Raises DataError (n < `needed`).
    """
    sizes = np.ones(len(scores), dtype=np.int64) if groups is None else _sizes(groups)
    n = len(scores) if groups is None else len(set(groups))
    check_fnr(n, level, confidence, groups is not None)
    order = np.argsort(scores, kind="stable")
    # In whole numbers, since sums of floats may step over the bound: an image counts `whole` / (its group's images).
    whole = math.lcm(*np.unique(sizes).tolist())
    kind = np.int64 if whole * n < LARGEST else object
    losses = np.cumsum(np.array([whole // size for size in sizes[order].tolist()], dtype=kind))  # (n,), if each is missed
    if groups is None:
        within = losses <= allowed(n, level, confidence)
    elif confidence is None:
        within = losses <= math.floor((_exact(level) * (n + 1) - 1) * whole)
    else:
        within = chance.hoeffding_bentkus((losses / whole).astype(np.float64), n, float(level)) <= 1 - confidence + SAME
    kept = int(within.sum())  # losses rise, so these are the first ones
    return float(scores[order[kept]])


def _sizes(groups: Groups) -> Int64:
    """How many images each image's group has, (N,)."""
    numbers = chance.number(groups)
    return np.bincount(numbers)[numbers]


def bound_fnr(
    probs: Floats,
    truth: Ints,
    positive: Sequence[int],
    level: float,
    confidence: float | None = None,
    groups: Groups | None = None,
) -> FnrBound:
    """Find the bound by calibration images. probs: (N, K), calibrated; truth: (N,), classes; positive: classes; groups: (N,).

    Raises DataError.
    """
    bad = np.isin(truth, positive)
    scores, of = scores_of(probs, positive)[bad], chance.only(groups, bad)
    return FnrBound(
        level=level,
        threshold=fnr_threshold(scores, level, confidence, of),
        positives=len(scores),
        confidence=confidence,
        groups=None if of is None else len(set(of)),
    )


def promise(bound: FnrBound, names: str) -> str:
    """Say in a sentence which promise a bound is. names: of the positive labels."""
    of = f"the images labelled {names}"
    if bound.groups is not None:
        of += ", averaged over groups,"
    if bound.confidence is None:
        return f"On average over calibration splits, at most {bound.level:.1%} of {of} are missed"
    drawn = f"With a probability of {bound.confidence:.1%} over the draw of the calibration split"
    return f"{drawn}, at most {bound.level:.1%} of {of} are missed"


def groups_of(samples: Sequence[Sample]) -> list[str] | None:
    """Return each image's group, None where `data.group_pattern` made none."""
    if not any(sample.group for sample in samples):
        return None
    return [sample.group or sample.path for sample in samples]


def fit_sets(
    probs: Floats, truth: Ints, coverage: float, method: Literal["lac", "aps"], groups: Groups | None = None
) -> PredictionSets:
    """The limit under which sets hold the true label with the chance `coverage`: the ceil((n + 1) · coverage)-th smallest
    nonconformity of the true labels (Vovk et al. 2005; Sadinle et al. 2019; Romano et al. 2020).

    The chance is `coverage` at least and, where no two are equal, below coverage + 1 / (n + 1). Where images come in groups,
    these are what is exchangeable: n is their number, and what a group loses is the share of its images whose set lacks the true
    label (`fnr_threshold`), so that the chance is averaged over groups.
    probs: (N, K), calibrated; truth: (N,); groups: (N,). Raises DataError where n is less than `needed(1 - coverage)`.
    """
    n = len(truth)
    check_sets(n if groups is None else len(set(groups)), coverage, groups is not None)
    own = nonconformity(probs, method)[np.arange(n), truth]
    limit = abs(fnr_threshold(-own, 1 - _exact(coverage), groups=groups))
    return PredictionSets(method=method, coverage=coverage, limit=limit, images=n)


def bounds_anything(config: DecisionConfig) -> bool:
    """Tell whether the config asks for any bound of this module."""
    return config.max_fnr is not None or config.set_coverage is not None


def parts(groups: Sequence[Hashable], classes: int, config: DecisionConfig) -> tuple[Int64, Int64]:
    """Split the rows of the calibration split: those that the scaling is fitted on, and those that the bounds are found with.

    A bound takes the scores as given. With two labels no scaling changes the order of the scores (temperature and slopes are
    positive), and with it which are flagged, so both may be all rows. Prediction sets compare images of one label with those of
    the other, whose order only a temperature keeps, and not with a stated prevalence, which adds a bias that the split's own
    shares give. Otherwise every other group goes to each. `config` is as
    `training.decisions.mix.settled`, else "auto" counts as "vector". groups: (N,), what must not be torn.
    """
    rows = np.arange(len(groups))
    keeps_sets = config.set_coverage is None or (config.calibration == "temperature" and config.prevalence is None)
    keeps_order = classes == 2 and keeps_sets
    if not bounds_anything(config) or keeps_order:
        return rows, rows
    number = {group: n for n, group in enumerate(dict.fromkeys(groups))}
    second = np.array([number[group] % 2 == 1 for group in groups], dtype=bool)
    return rows[~second], rows[second]


@dataclass(frozen=True)
class Resplits:
    """The results of a bound on S random splits.

    `units`: how many positive images, or groups with one, find each threshold; `tested`: how many are left over. thresholds,
    fnr: (S,), fnr of those left over: the share of images, or the mean of the groups' shares.
    """

    units: int
    tested: int
    thresholds: Float64
    fnr: Float64


def resplit(
    scores: Floats,
    n: int,
    level: float,
    splits: int,
    seed: int = 0,
    confidence: float | None = None,
    groups: Groups | None = None,
) -> Resplits:
    """Split the positive images at random into n that find the threshold and the others that are tested, `splits` times.

    scores: (P,) of positive images that the network has not learnt from; n < P. With groups, (P,), n counts groups, and whole
    groups are dealt. Raises DataError (n < `needed`).
    """
    rng = np.random.default_rng(seed)
    numbers = None if groups is None else chance.number(groups)
    total = len(scores) if numbers is None else int(numbers.max()) + 1
    thresholds, fnr = np.empty(splits), np.empty(splits)
    for split in range(splits):
        if numbers is None:
            drawn = rng.permutation(scores)
            thresholds[split] = fnr_threshold(drawn[:n], level, confidence)
            fnr[split] = (drawn[n:] < thresholds[split]).mean()
            continue
        finds = np.isin(numbers, rng.permutation(total)[:n])
        thresholds[split] = fnr_threshold(scores[finds], level, confidence, numbers[finds].tolist())
        fnr[split] = chance.group_shares(scores[~finds] < thresholds[split], numbers[~finds].tolist()).mean()
    return Resplits(n, total - n, thresholds, fnr)


def _exact(level: float | Fraction) -> Fraction:
    """The number that was written: as floats, 0.29 · 100 is less than 29."""
    return level if isinstance(level, Fraction) else Fraction(repr(level))
