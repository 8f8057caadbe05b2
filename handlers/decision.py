"""From logits to a decision that can be defended: calibrated probabilities, a threshold and a review band."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from handlers.arrays import Bools, Float32, Float64, Floats, Int64
from handlers.errors import GroupUnknown, OptionError
from handlers.spec import BetaScaling, GroupRule, PredictionSets, Spec, VectorScaling

SHOWN_GROUPS = 10  # in an error's sentence
Outcome = Literal["pass", "flag", "review"]
Promise = Literal["held", "overridden"]
"""Whether the threshold that decided is within the archive's bound on missed images."""


def probabilities(logits: Floats, temperature: float) -> Float32:
    """Compute softmax(logits / temperature), Guo et al. 2017, section 4.2. logits: (N, K) → (N, K) float32, rows sum to 1."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exp = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True), dtype=np.float32)


def calibrated(logits: Floats, spec: Spec) -> Float32:
    """Compute probabilities as the spec scales them. logits: (N, K) → (N, K) float32, rows sum to 1."""
    return probabilities(scaled(logits, spec.scaling), spec.temperature)


def scaled(logits: Floats, scaling: VectorScaling | BetaScaling | None) -> Float64:
    """Compute logits as a spec's `scaling` makes them, before the temperature. logits: (N, K) → (N, K) float64."""
    z = np.asarray(logits, dtype=np.float64)
    match scaling:
        case VectorScaling(weight=weight, bias=bias):
            return z * weight + bias
        case BetaScaling(slope=slope, bias=bias):  # softplus of the lead is -log of the other's probability
            return np.logaddexp(0.0, z - z[:, ::-1]) * slope + bias
    return z


def scores(probs: Floats, spec: Spec) -> Float64:
    """Compute the scores that the threshold is compared with. probs: (N, K) → (N,) float64 in [0, 1]."""
    return scores_of(probs, spec.positive_index)


def scores_of(probs: Floats, positive: Sequence[int]) -> Float64:
    """Compute `scores` without a spec: the positive classes' summed probability or, without any, the confidence, max over K."""
    if not positive:
        return np.asarray(probs.max(axis=1), dtype=np.float64)
    summed = np.take(probs, positive, axis=1).sum(axis=1, dtype=np.float64)
    return np.asarray(np.minimum(summed, 1.0))


def check_threshold(threshold: float | None, spec: Spec) -> float:
    """Return the request's threshold, or the archive's without one. Raises OptionError outside [0, 1]."""
    if threshold is None:
        return spec.decision.threshold
    if not 0.0 <= threshold <= 1.0:  # NaN fails this too
        raise OptionError(f"threshold must be a number from 0 to 1, got {threshold}")
    return threshold


def check_group(group: str | None, spec: Spec) -> GroupRule | None:
    """Return the rule of the group that a request names, None without one. Raises GroupUnknown."""
    if group is None:
        return None
    for known in spec.decision.groups or ():
        if known.name == group:
            return known
    names = [known.name for known in spec.decision.groups or ()]
    listed = ", ".join(names[:SHOWN_GROUPS]) + f" and {len(names) - SHOWN_GROUPS} more" * (len(names) > SHOWN_GROUPS)
    raise GroupUnknown(f"the archive has no threshold for group {group[:80]!r}; it has {listed or 'none'}")


@dataclass(frozen=True, slots=True)
class Rule:
    """What decides one request's images: `review` for scores in [review_from, review_to), `above` from there on, else `pass`.

    `threshold`: the one that decided, the request's, the group's or the archive's; there is no review where both ends are the
    threshold. `promise`: whether the bound on missed images holds with it, None in an archive that has no bound.
    """

    threshold: float
    review_from: float
    review_to: float
    above: Literal["flag", "pass"]
    promise: Promise | None = None

    def decide(self, score: float) -> Outcome:
        """Decide about an image by its score; whatever is no number is a person's to look at."""
        if score >= self.review_to:
            return self.above
        return "pass" if score < self.review_from else "review"


def rule_of(spec: Spec, threshold: float | None = None, group: str | None = None) -> Rule:
    """Make the rule for a request. `threshold`: its own one, None for the group's or else the archive's. `group`: its name.

    With positive labels, at the archive's threshold the review band is the archive's. A group's threshold stretches the band
    as far as it has to be for holding that threshold. A request's own threshold, also one equal to the archive's, takes the
    place of the band's end: whatever scores at or above it is flagged, and what the band has below it still is reviewed. So
    0 flags everything, and a higher score never gets a milder decision. Archives before 0.3 state their band as two offsets
    from the threshold, which every threshold carries along, as it always did.

    Without positive labels (selective classification, Chow 1970) scores from the threshold on pass, and all others are
    reviewed. Raises OptionError, GroupUnknown.
    """
    wanted, named = spec.decision, check_group(group, spec)
    bound = (named and named.fnr_bound) or wanted.fnr_bound
    at = check_threshold(named.threshold if named and threshold is None else threshold, spec)
    low = high = at
    if not wanted.positive:
        low = 0.0
    elif wanted.by_offsets:
        low, high = max(0.0, at - (wanted.review_below or 0.0)), at + (wanted.review_above or 0.0)
    elif wanted.review_from is not None and wanted.review_to is not None:
        low = min(wanted.review_from, at)
        high = at if threshold is not None else max(wanted.review_to, at)
    promise: Promise | None = None if bound is None else "held" if at <= bound.threshold else "overridden"
    return Rule(at, low, high, "flag" if wanted.positive else "pass", promise)


def decide(score: Floats, spec: Spec, threshold: float | None = None, group: str | None = None) -> list[Outcome]:
    """Decide each item by `rule_of`. score: (N,) from `scores`. Raises OptionError, GroupUnknown."""
    rule = rule_of(spec, threshold, group)
    return [rule.decide(one) for one in score.tolist()]


def explained_class(probs: Floats, outcomes: Sequence[Outcome], spec: Spec) -> Int64:
    """Return the class that the heat map is named after, (N,): the one that drove the decision most.

    The most probable positive label where the outcome is flag or review, else the predicted label.
    """
    target = np.asarray(probs.argmax(axis=1), dtype=np.int64)
    if spec.positive_index:
        positive = np.array(spec.positive_index)[probs[:, list(spec.positive_index)].argmax(axis=1)]
        target = np.where(np.array(outcomes) == "pass", target, positive)
    return target


def explained_shares(probs: Float32, outcome: Outcome, spec: Spec) -> Float32:
    """Compute by what share each class's evidence is in the heat map of one image. probs: (K,) → (K,) float32, of sum 1.

    Where the outcome is flag or review, class k of the positive ones P has p_k / sum over P of p: the score s is that sum, and
    ds/dz_k = p_k (1 - s) is how much the logit of k moves it (softmax; z are the scaled logits). So with one positive label
    the map is that label's. Where the outcome is pass, or no label is positive, the map is the predicted label's. Of archives
    before 0.3 the map is of one label alone, as it always was.
    """
    shares = np.zeros(len(probs), dtype=np.float32)
    positive = list(spec.positive_index)
    total = probs[positive].sum() if positive and outcome != "pass" and not spec.decision.by_offsets else 0.0
    if total > 0:
        shares[positive] = probs[positive] / total
    else:
        shares[explained_class(probs[None], [outcome], spec)] = 1.0
    return shares


def nonconformity(probs: Floats, method: Literal["lac", "aps"]) -> Float64:
    """Compute how little each label fits each image, which a prediction set's limit bounds. (N, K) → (N, K) float64 in [0, 1].

    "lac", least ambiguous sets: 1 - p (Sadinle, Lei, Wasserman 2019). "aps", adaptive sets: the summed probability of the
    labels that are more probable, of equal ones those that come first; that is Romano, Sesia, Candès 2020, eq. 5, with u = 1
    for each image, so that the most probable label is in every set and an image's set is always the same.
    """
    p = np.asarray(probs, dtype=np.float64)
    if method == "lac":
        return 1.0 - p
    order = np.argsort(-p, axis=1, kind="stable")
    ranked = np.take_along_axis(p, order, axis=1)
    above = np.empty_like(p)
    np.put_along_axis(above, order, np.cumsum(ranked, axis=1) - ranked, axis=1)
    return above.clip(0.0, 1.0)


def prediction_sets(probs: Floats, rule: PredictionSets) -> Bools:
    """Tell which labels are in each image's prediction set, (N, K). probs: (N, K), calibrated."""
    return nonconformity(probs, rule.method) <= rule.limit
