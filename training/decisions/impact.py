"""What the decision rule saves: its expected cost per 1,000 images beside that of simpler rules, at the stated prices."""

from collections.abc import Sequence

import numpy as np

from handlers import decision
from handlers.arrays import Float64, Floats, Ints, Strings
from handlers.decision import Outcome
from handlers.spec import Spec
from training.decisions.thresholds import side_costs

IMAGES = 1000
WIDE = 1.96  # standard errors, for an interval of 95 %
TODAY = "the rule"


def impact(probs: Floats, outcomes: Sequence[Outcome], truth: Ints, spec: Spec) -> dict[str, dict[str, float]]:
    """Compare decision rules, the archive's first: cost and reviews per 1,000 images, and how much more than the archive's it is.

    `difference`: with an interval of 95 % from the pairs' differences, image by image (normal approximation).
    Rules that review are left out where no price of a look is known. probs: (N, K); outcomes: N, as served; truth: (N,).
    """
    costs = _costs(probs, np.array(outcomes), truth, spec)
    rows = {}
    for name, (cost, reviewed) in costs.items():
        gap = cost - costs[TODAY][0]
        half = WIDE * gap.std(ddof=min(1, len(gap) - 1)) / np.sqrt(len(gap))
        rows[name] = {
            "cost": IMAGES * cost.mean(),
            "reviews": IMAGES * reviewed,
            "difference": IMAGES * gap.mean(),
            "difference_low": IMAGES * (gap.mean() - half),
            "difference_high": IMAGES * (gap.mean() + half),
        }
    return rows


def _costs(probs: Floats, outcomes: Strings, truth: Ints, spec: Spec) -> dict[str, tuple[Float64, float]]:
    """By rule: what each image costs, (N,), and the share that is reviewed."""
    rule, score = spec.decision, decision.scores(probs, spec)
    above, below = side_costs(probs, truth, spec.positive_index, np.array(rule.cost), rule.review_cost)
    look, reviewed = rule.review_cost, outcomes == "review"
    alone = np.where(score >= rule.threshold, above, below)
    half = np.where(score >= 0.5, above, below)
    if not rule.positive:  # `below` is the price of a look
        return {
            TODAY: (alone, reviewed.mean()),
            "review everything": (below, 1.0),
            "threshold 0.5": (half, (score < 0.5).mean()),
            "review nothing": (above, 0.0),
        }
    rules = {TODAY: (alone if look is None else np.where(reviewed, look, alone), reviewed.mean())}
    if reviewed.any():
        rules["its threshold without review"] = (alone, 0.0)
    if look is not None:
        rules["review everything"] = (np.full(len(truth), look), 1.0)
    return rules | {"threshold 0.5": (half, 0.0), "flag everything": (above, 0.0), "pass everything": (below, 0.0)}
