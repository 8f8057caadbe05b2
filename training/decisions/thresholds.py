"""The decision rule of least expected cost, fitted on calibrated probabilities that nothing else saw."""

import math
from collections.abc import Sequence

import numpy as np

from handlers.arrays import Bools, Float64, Floats, Ints
from handlers.decision import scores_of
from handlers.spec import CurvePoint, Decision, FnrBound
from training.config import DecisionConfig
from training.config.decisions import HIGHEST_COST
from training.data.manifest import Sample
from training.decisions import conformal, mix
from training.decisions.chance import Groups, number
from training.decisions.selective import budget_band, budget_threshold
from training.errors import ConfigError

# Selective classification needs a price of asking; without one in the config, ten looks cost as much as one error.
LOOKS_PER_ERROR = 10
# Sums of the same costs in another order differ in their last bits; below this share of the largest cost they are equal.
SAME_COST = 1e-12
# One image that is cheaper has a standard error of as much as its mean, which is not to be decided by rounding.
TIE = 1e-9
SHARE_DIGITS = 12  # of sums of weights
POINTS = 100
"""Most points of a `curve`."""


def cost_matrix(labels: Sequence[str], config: DecisionConfig) -> Float64:
    """Build the cost matrix that the config states: (K, K), cost[true, predicted].

    With positive labels: `false_negative` for a positive one missed, `false_positive` for a negative one flagged, and 0
    for one of the same side taken for another, because the decision is the same. Without: 1 for every error.
    Raises ConfigError where the config contradicts itself or the labels.
    """
    if unknown := sorted(set(config.positive) - set(labels)):
        raise ConfigError(f"decision.positive names {unknown}, not among the data's labels {list(labels)}")
    if set(config.positive) == set(labels):
        raise ConfigError("decision.positive names every label; leave out those that should pass")
    if config.max_fnr is not None and not config.positive:
        raise ConfigError("decision.max_fnr bounds how many positive images are missed; name them in decision.positive")
    positive = np.array([label in config.positive for label in labels])
    if config.cost is not None:
        return _stated_matrix(labels, config.cost, positive)
    if not config.positive:
        if (config.false_negative, config.false_positive) != (1.0, 1.0):
            raise ConfigError("decision.false_negative and false_positive need decision.positive, the labels to be flagged")
        return 1.0 - np.eye(len(labels))
    true, predicted = positive[:, None], positive[None, :]
    missed, flagged = true & ~predicted, ~true & predicted
    return np.asarray(config.false_negative * missed + config.false_positive * flagged, dtype=np.float64)


def check(calibration: Sequence[Sample], labels: Sequence[str], config: DecisionConfig) -> None:
    """Find out before any image is read whether the split is enough for the bounds asked for. Raises ConfigError, DataError."""
    cost_matrix(labels, config)
    if mix.to_come(labels, config) is not None:
        mix.shares_of(np.array([labels.index(sample.label) for sample in calibration]), labels)
    _, rows = conformal.parts([sample.group or sample.path for sample in calibration], len(labels), config)
    grouped, bounding = conformal.groups_of(calibration) is not None, [calibration[row] for row in rows]
    positive = [sample for sample in bounding if sample.label in config.positive]

    def units(samples: Sequence[Sample]) -> int:
        return len({sample.group or sample.path for sample in samples}) if grouped else len(samples)

    if config.max_fnr is not None:
        conformal.check_fnr(units(positive), config.max_fnr, config.max_fnr_confidence, grouped)
    if config.set_coverage is not None:
        conformal.check_sets(units(bounding), config.set_coverage, grouped)


def fit_decision(
    probs: Floats, truth: Ints, labels: Sequence[str], config: DecisionConfig, bound: FnrBound | None = None
) -> Decision:
    """Fit the threshold on `handlers.decision.scores`, the review band around it, and the curve of other thresholds.

    The threshold is the Bayes one, which calibrated scores ask for, unless another is cheaper here by more than chance explains:
    see `choose`. A bound caps all that is tried, itself included: whatever is chosen below it misses no more than it does, so
    the promise holds and the costs decide among what keeps it. Where the config states another mix to come, each image counts
    by it.

    probs: (N, K), calibrated for that mix; truth: (N,), classes. Raises ConfigError.
    """
    cost = cost_matrix(labels, config)
    positive = tuple(i for i, label in enumerate(labels) if label in config.positive)
    to_come = mix.to_come(labels, config)
    weights = mix.weights(truth, to_come)
    review_cost = config.review_cost
    if not positive and review_cost is None:
        review_cost = error_cost(cost) / LOOKS_PER_ERROR
    score = scores_of(probs, positive)
    cap = bound.threshold if bound else 1.0
    if config.review_budget is not None and not positive:
        cap = budget_threshold(score, config.review_budget, weights)
    sides = side_costs(probs, truth, positive, cost, review_cost)
    threshold = choose(score, *sides, bayes_threshold(cost, positive, review_cost), cap, weights)
    if not positive and config.review_budget is not None and config.review_cost is None:
        threshold = cap  # no price was stated, so the budget is used up
    start, end = _review_band(score, threshold, cost, positive, config, weights)
    return Decision(
        positive=config.positive,
        threshold=threshold,
        review_from=start,
        review_to=end,
        cost=tuple(tuple(float(c) for c in row) for row in cost),
        review_cost=review_cost,
        fnr_bound=bound,
        review_budget=config.review_budget,
        curve=curve(score, np.isin(truth, positive), weights) if positive else None,
        prevalence=None if to_come is None else tuple(to_come.tolist()),
        on_error=None if config.on_error == "error" else config.on_error,
    )


def cheapest(score: Floats, at_or_above: Floats, below: Floats, bayes: float, cap: float, weights: Floats | None = None) -> float:
    """Find the threshold up to `cap` with the least mean cost of these images.

    Tried are 0, 1, the middle between each two neighbouring scores, the cap and the Bayes threshold; among equally cheap ones
    the nearest to Bayes wins, then the lower. So separable scores give the Bayes threshold itself, and a plateau gives the
    middle of its gap that is nearest to it. score, at_or_above, below, weights: (N,).
    """
    distinct = np.unique(score)
    candidates = np.unique(np.concatenate([[0.0, 1.0, bayes, cap], _middles(distinct)]))
    candidates = candidates[candidates <= cap]
    costs = cost_curve(score, at_or_above, below, candidates, weights)
    found = candidates[costs <= costs.min() + SAME_COST * max(at_or_above.max(), below.max())]
    return float(found[np.abs(found - bayes).argmin()])


def choose(score: Floats, at_or_above: Floats, below: Floats, bayes: float, cap: float, weights: Floats | None = None) -> float:
    """Take the Bayes threshold, or the cap below it, unless the cheapest one is cheaper by more than its standard error.

    The difference is taken image by image, so that only images between the two thresholds count. The cheapest threshold of few
    images is mostly theirs alone: it costs more on others than the Bayes threshold of the same calibrated scores.
    score, at_or_above, below, weights: (N,), as in `cost_curve`.
    """
    start = min(bayes, cap)
    best = cheapest(score, at_or_above, below, bayes, cap, weights)
    w = np.ones(len(score)) if weights is None else weights
    here, there = (np.where(score >= threshold, at_or_above, below) for threshold in (start, best))
    mean, error = paired(here - there, w)
    return best if mean > error * (1 + TIE) else start


def paired(difference: Floats, weights: Floats, groups: Groups | None = None) -> tuple[float, float]:
    """Compute the mean of paired differences and its standard error, infinite of one image, or of one group of images.

    difference, weights, groups: (N,).
    """
    mean = float(np.average(difference, weights=weights))
    residual = weights * (difference - mean)
    if groups is not None:
        residual = np.bincount(number(groups), residual)
    n = len(residual)
    if n < 2:
        return mean, math.inf
    return mean, float(np.sqrt(np.square(residual).sum() * n / (n - 1)) / weights.sum())


def curve(score: Floats, positive: Bools, weights: Floats | None = None, most: int = POINTS) -> tuple[CurvePoint, ...] | None:
    """Describe by at most `most` thresholds what others would miss and flag in vain, None without images of both sides.

    Both shares change by about as much from each point to the next, from the threshold 0, which misses nothing, on; the missed
    share never falls and false alarms never grow. Thresholds lie in the middle between two scores. score, positive, weights:
    (N,).
    """
    if not positive.any() or positive.all():
        return None
    w = np.ones(len(score)) if weights is None else weights
    distinct, group = np.unique(score, return_inverse=True)
    bad, good = (np.bincount(group, w * side, len(distinct)) / w[side].sum() for side in (positive, ~positive))
    # With the threshold at[i], the i lowest of the distinct scores fall below it.
    at = np.concatenate([[0.0], _middles(distinct), [1.0]])
    missed, passed = (np.concatenate([[0.0], side.cumsum()]).round(SHARE_DIGITS).clip(0, 1) for side in (bad, good))
    alarms = (1 - passed).round(SHARE_DIGITS)
    if distinct[-1] >= 1.0:  # a score of 1 is at or above every threshold
        at, missed, alarms = at[:-1], missed[:-1], alarms[:-1]
    way = missed - alarms  # grows from -1 to 1
    picks = np.unique(np.searchsorted(way, np.linspace(way[0], way[-1], most)).clip(0, len(at) - 1))
    return tuple(
        CurvePoint(threshold=float(at[i]), missed=float(missed[i]), false_alarms=float(alarms[i])) for i in picks.tolist()
    )


def side_costs(
    probs: Floats, truth: Ints, positive: Sequence[int], cost: Float64, review_cost: float | None
) -> tuple[Float64, Float64]:
    """Compute what each image costs at or above the threshold, and below it: (N,) and (N,).

    With positive classes: flagged it stands for its most probable positive class, passed for its most probable other.
    Without: accepted it stands for its most probable class, and below the threshold a person sees it.
    """
    if not positive:
        return cost[truth, probs.argmax(axis=1)], np.full(len(probs), review_cost, dtype=np.float64)
    flags = np.isin(np.arange(probs.shape[1]), positive)
    flagged = np.where(flags, probs, -1.0).argmax(axis=1)
    passed = np.where(flags, -1.0, probs).argmax(axis=1)
    return cost[truth, flagged], cost[truth, passed]


def cost_curve(score: Floats, at_or_above: Floats, below: Floats, thresholds: Floats, weights: Floats | None = None) -> Float64:
    """Compute the mean cost of deciding by each threshold, (M,). score, at_or_above, below, weights: (N,)."""
    if weights is not None:
        at_or_above, below = at_or_above * weights, below * weights  # of mean 1
    order = np.argsort(score, kind="stable")
    # saved[n]: the sum of all costs when the n lowest scores fall below the threshold.
    total = at_or_above.sum() + np.concatenate([[0.0], np.cumsum((below - at_or_above)[order])])
    return np.asarray(total[np.searchsorted(score[order], thresholds, side="left")] / len(score), dtype=np.float64)


def bayes_threshold(cost: Float64, positive: Sequence[int], review_cost: float | None) -> float:
    """Return the best threshold for scores that are true probabilities.

    It is c_fp / (c_fp + c_fn), or 1 - review_cost / c_error (Chow 1970).
    """
    if not positive:
        return float(np.clip(1.0 - (review_cost or 0.0) / error_cost(cost), 0.0, 1.0))
    missed, flagged = mean_costs(cost, positive)
    return flagged / (flagged + missed)


def mean_costs(cost: Float64, positive: Sequence[int]) -> tuple[float, float]:
    """Return (c_fn, c_fp): the mean cost of a positive class missed and of a negative one flagged."""
    flags = np.isin(np.arange(len(cost)), positive)
    return float(cost[np.ix_(flags, ~flags)].mean()), float(cost[np.ix_(~flags, flags)].mean())


def error_cost(cost: Float64) -> float:
    """Return the mean cost of taking one class for another."""
    return float(cost[~np.eye(len(cost), dtype=bool)].mean())


def _middles(distinct: Floats) -> Float64:
    """The middle between each two neighbouring scores, above the lower one also where they are neighbours as floats."""
    return np.asarray(np.maximum((distinct[:-1] + distinct[1:]) / 2, np.nextafter(distinct[:-1], 1.0)), dtype=np.float64)


def _review_band(
    score: Floats, threshold: float, cost: Float64, positive: Sequence[int], config: DecisionConfig, weights: Floats
) -> tuple[float, float] | tuple[None, None]:
    """(review_from, review_to): what a look's price and the budget both allow, or the one that is stated; None without a band."""
    if not positive:
        return None, None
    bands = []
    if config.review_cost is not None:
        bands.append(_chows_band(threshold, cost, positive, config.review_cost))
    if config.review_budget is not None:
        bands.append(budget_band(score, threshold, config.review_budget, weights))
    start, end = max((low for low, _ in bands), default=0.0), min((high for _, high in bands), default=0.0)
    return (start, end) if start < end else (None, None)


def _chows_band(threshold: float, cost: Float64, positive: Sequence[int], review_cost: float) -> tuple[float, float]:
    """Chow's rule (1970) on calibrated scores p.

    A person sees what costs more to decide than to look at, min(p c_fn, (1 - p) c_fp) > review_cost, which is the band
    from review_cost / c_fn to 1 - review_cost / c_fp. Where the fitted threshold lies outside it, the band reaches to it:
    what the two rules disagree about goes to a person too.
    """
    missed, flagged = mean_costs(cost, positive)
    low, high = review_cost / missed, 1.0 - review_cost / flagged
    if low >= high:
        return threshold, threshold
    return min(low, threshold), max(high, threshold)


def _stated_matrix(labels: Sequence[str], rows: Sequence[Sequence[float]], positive: Bools) -> Float64:
    k = len(labels)
    if [len(row) for row in rows] != [k] * k:
        raise ConfigError(f"decision.cost must be {k} rows of {k}, cost[true][predicted], in the order of {list(labels)}")
    cost = np.array(rows, dtype=np.float64)
    if not np.isfinite(cost).all() or cost.min() < 0 or cost.max() > HIGHEST_COST or np.diag(cost).any():
        raise ConfigError(
            f"decision.cost must be finite, from 0 to {HIGHEST_COST:.0f}, and 0 on the diagonal; got {cost.tolist()}"
        )
    free = cost.sum() == 0 if not positive.any() else min(mean_costs(cost, np.flatnonzero(positive).tolist())) == 0
    if free:
        raise ConfigError("decision.cost: missing a positive label and flagging another must both cost something")
    return cost
