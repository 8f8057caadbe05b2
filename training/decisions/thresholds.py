"""The decision rule of least expected cost, fitted on calibrated probabilities that nothing else saw."""

from collections.abc import Sequence

import numpy as np

from handlers.arrays import Bools, Float64, Floats, Ints
from handlers.decision import scores_of
from handlers.spec import Decision, FnrBound
from training.config import DecisionConfig
from training.data.manifest import Sample
from training.decisions import conformal
from training.decisions.selective import budget_band, budget_threshold
from training.errors import ConfigError

# Selective classification needs a price of asking; without one in the config, ten looks cost as much as one error.
LOOKS_PER_ERROR = 10
# Sums of the same costs in another order differ in their last bits; below this share of the largest cost they are equal.
SAME_COST = 1e-12


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
    _, rows = conformal.parts([sample.group or sample.path for sample in calibration], len(labels), config)
    positive = [calibration[row] for row in rows if calibration[row].label in config.positive]
    if config.max_fnr is not None:
        groups = conformal.groups_of(calibration) and {sample.group or sample.path for sample in positive}
        units = len(positive) if groups is None else len(groups)
        conformal.check_fnr(units, config.max_fnr, config.max_fnr_confidence, groups is not None)
    if config.set_coverage is not None:
        conformal.check_sets(len(rows), config.set_coverage)


def fit_decision(
    probs: Floats, truth: Ints, labels: Sequence[str], config: DecisionConfig, bound: FnrBound | None = None
) -> Decision:
    """Fit the threshold on `handlers.decision.scores` with the least mean cost, and the review band around it.

    Tried are 0, 1, the middle between each two neighbouring scores and the Bayes threshold of calibrated scores; among
    equally cheap ones the nearest to Bayes wins, then the lower. So separable scores give the Bayes threshold itself, and
    a plateau gives the middle of its gap that is nearest to it. A bound caps what is tried, itself included: whatever is chosen
    below it misses no more than it does, so the promise holds and the costs decide among what keeps it.

    probs: (N, K), calibrated; truth: (N,), classes. Raises ConfigError.
    """
    cost = cost_matrix(labels, config)
    positive = tuple(i for i, label in enumerate(labels) if label in config.positive)
    review_cost = config.review_cost
    if not positive and review_cost is None:
        review_cost = error_cost(cost) / LOOKS_PER_ERROR
    bayes = bayes_threshold(cost, positive, review_cost)
    score = scores_of(probs, positive)
    distinct = np.unique(score)
    cap = bound.threshold if bound else 1.0
    if config.review_budget is not None and not positive:
        cap = budget_threshold(score, config.review_budget)
    candidates = np.unique(np.concatenate([[0.0, bayes, cap], (distinct[:-1] + distinct[1:]) / 2]))
    candidates = candidates[candidates <= cap]
    costs = cost_curve(score, *side_costs(probs, truth, positive, cost, review_cost), candidates)
    cheapest = candidates[costs <= costs.min() + SAME_COST * cost.max()]
    threshold = float(cheapest[np.abs(cheapest - bayes).argmin()])
    if not positive and config.review_budget is not None and config.review_cost is None:
        threshold = cap  # no price was stated, so the budget is used up
    below, above = _review_band(score, threshold, cost, positive, config)
    return Decision(
        positive=config.positive,
        threshold=threshold,
        review_below=below,
        review_above=above,
        cost=tuple(tuple(float(c) for c in row) for row in cost),
        review_cost=review_cost,
        fnr_bound=bound,
        review_budget=config.review_budget,
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


def cost_curve(score: Floats, at_or_above: Floats, below: Floats, thresholds: Floats) -> Float64:
    """Compute the mean cost of deciding by each threshold, (M,). score, at_or_above, below: (N,)."""
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


def _review_band(
    score: Floats, threshold: float, cost: Float64, positive: Sequence[int], config: DecisionConfig
) -> tuple[float, float]:
    """(review_below, review_above): what a look's price and the budget both allow, or the one that is stated."""
    if not positive:
        return 0.0, 0.0
    bands = []
    if config.review_cost is not None:
        bands.append(_chows_band(threshold, cost, positive, config.review_cost))
    if config.review_budget is not None:
        bands.append(budget_band(score, threshold, config.review_budget))
    return min((below for below, _ in bands), default=0.0), min((above for _, above in bands), default=0.0)


def _chows_band(threshold: float, cost: Float64, positive: Sequence[int], review_cost: float) -> tuple[float, float]:
    """Chow's rule (1970) on calibrated scores p.

    A person sees what costs more to decide than to look at, min(p c_fn, (1 - p) c_fp) > review_cost, which is the band
    from review_cost / c_fn to 1 - review_cost / c_fp. Where the fitted threshold lies outside it, the band reaches to it:
    what the two rules disagree about goes to a person too.
    """
    missed, flagged = mean_costs(cost, positive)
    low, high = review_cost / missed, 1.0 - review_cost / flagged
    if low >= high:
        return 0.0, 0.0
    return max(0.0, threshold - low), max(0.0, high - threshold)


def _stated_matrix(labels: Sequence[str], rows: Sequence[Sequence[float]], positive: Bools) -> Float64:
    k = len(labels)
    if [len(row) for row in rows] != [k] * k:
        raise ConfigError(f"decision.cost must be {k} rows of {k}, cost[true][predicted], in the order of {list(labels)}")
    cost = np.array(rows, dtype=np.float64)
    if not np.isfinite(cost).all() or cost.min() < 0 or np.diag(cost).any():
        raise ConfigError(f"decision.cost must be finite, not negative, and 0 on the diagonal; got {cost.tolist()}")
    free = cost.sum() == 0 if not positive.any() else min(mean_costs(cost, np.flatnonzero(positive).tolist())) == 0
    if free:
        raise ConfigError("decision.cost: missing a positive label and flagging another must both cost something")
    return cost
