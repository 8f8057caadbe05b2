"""What the decision rule saves: its expected cost per 1,000 images beside that of simpler rules, at the stated prices."""

import math
from collections.abc import Sequence

import numpy as np

from handlers import decision
from handlers.arrays import Bools, Float64, Floats, Ints, Strings
from handlers.decision import Outcome
from handlers.spec import Spec
from training.decisions import mix
from training.decisions.chance import Groups, rate_interval
from training.decisions.thresholds import paired, side_costs

IMAGES = 1000
WIDE = 1.96  # standard errors, for an interval of 95 %
TODAY = "the rule"


def impact(
    probs: Floats, outcomes: Sequence[Outcome], truth: Ints, spec: Spec, groups: Groups | None = None
) -> dict[str, dict[str, float]]:
    """Compare decision rules, the archive's first: cost and reviews per 1,000 images, and how much more than the archive's it is.

    `difference`: with an interval of 95 % from the pairs' differences, image by image (normal approximation), or
    group by group where images come in groups.
    Rules that review are left out where no price of a look is known. Where the spec states the mix to come, images count by it.
    probs: (N, K); outcomes: N, as served; truth, groups: (N,).
    """
    costs, weights = _costs(probs, np.array(outcomes), truth, spec), mix.weights(truth, spec.decision.prevalence)
    rows = {}
    for name, (cost, reviewed) in costs.items():
        mean, error = paired(cost - costs[TODAY][0], weights, groups)
        half = WIDE * error if math.isfinite(error) else 0.0
        rows[name] = {
            "cost": IMAGES * np.average(cost, weights=weights),
            "reviews": IMAGES * np.average(reviewed, weights=weights),
            **_interval(reviewed, groups, None if spec.decision.prevalence is None else weights),
            "difference": IMAGES * mean,
            "difference_low": IMAGES * (mean - half),
            "difference_high": IMAGES * (mean + half),
        }
    return rows


def _interval(reviewed: Bools, groups: Groups | None, weights: Float64 | None) -> dict[str, float]:
    """The interval of 95 % for how many images are reviewed, (N,)."""
    low, high = rate_interval(reviewed, groups, weights) or (0.0, 1.0)
    return {"reviews_low": IMAGES * low, "reviews_high": IMAGES * high}


def _costs(probs: Floats, outcomes: Strings, truth: Ints, spec: Spec) -> dict[str, tuple[Float64, Bools]]:
    """By rule: what each image costs, (N,), and which are reviewed, (N,)."""
    rule, score = spec.decision, decision.scores(probs, spec)
    above, below = side_costs(probs, truth, spec.positive_index, np.array(rule.cost), rule.review_cost)
    look, reviewed = rule.review_cost, outcomes == "review"
    alone = np.where(score >= rule.threshold, above, below)
    half = np.where(score >= 0.5, above, below)
    none, every = np.zeros(len(truth), dtype=bool), np.ones(len(truth), dtype=bool)
    if not rule.positive:  # `below` is the price of a look
        return {
            TODAY: (alone, reviewed),
            "review everything": (below, every),
            "threshold 0.5": (half, score < 0.5),
            "review nothing": (above, none),
        }
    rules = {TODAY: (alone if look is None else np.where(reviewed, look, alone), reviewed)}
    if reviewed.any():
        rules["its threshold without review"] = (alone, none)
    if look is not None:
        rules["review everything"] = (np.full(len(truth), look), every)
    return rules | {"threshold 0.5": (half, none), "flag everything": (above, none), "pass everything": (below, none)}
