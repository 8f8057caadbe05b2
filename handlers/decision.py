"""From logits to a decision that can be defended: calibrated probabilities, a threshold and a review band."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from handlers.arrays import Bools, Float32, Float64, Floats, Int64
from handlers.errors import OptionError
from handlers.spec import PredictionSets, Spec

Outcome = Literal["pass", "flag", "review"]


def probabilities(logits: Floats, temperature: float) -> Float32:
    """Compute softmax(logits / temperature), Guo et al. 2017, section 4.2. logits: (N, K) → (N, K) float32, rows sum to 1."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exp = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True), dtype=np.float32)


def calibrated(logits: Floats, spec: Spec) -> Float32:
    """Compute probabilities as the spec scales them. logits: (N, K) → (N, K) float32, rows sum to 1."""
    if spec.scaling:
        logits = np.asarray(logits, dtype=np.float64) * spec.scaling.weight + spec.scaling.bias
    return probabilities(logits, spec.temperature)


def scores(probs: Floats, spec: Spec) -> Float64:
    """Compute the scores that the threshold is compared with. probs: (N, K) → (N,) float64 in [0, 1]."""
    return scores_of(probs, spec.positive_index)


def scores_of(probs: Floats, positive: Sequence[int]) -> Float64:
    """Compute `scores` without a spec: the positive classes' summed probability or, without any, the confidence, max over K."""
    if not positive:
        return np.asarray(probs.max(axis=1), dtype=np.float64)
    return np.asarray(probs[:, list(positive)].sum(axis=1, dtype=np.float64)).clip(0.0, 1.0)


def check_threshold(threshold: float | None, spec: Spec) -> float:
    """Return the request's threshold, or the archive's without one. Raises OptionError outside [0, 1]."""
    if threshold is None:
        return spec.decision.threshold
    if not 0.0 <= threshold <= 1.0:  # NaN fails this too
        raise OptionError(f"threshold must be a number from 0 to 1, got {threshold}")
    return threshold


def band(threshold: float, spec: Spec) -> tuple[float, float]:
    """Return the review band [low, high) around a threshold; low = high = threshold where nothing is reviewed.

    At the archive's own threshold it is the archive's band. A request's own threshold takes the place of the band's upper end,
    and of its lower one where that lies above it: whatever scores at or above it is flagged, whatever a person would have seen
    below it still is seen. So 0 flags everything, and a higher score never gets a milder decision.
    """
    rule = spec.decision
    if rule.review_below is not None or rule.review_above is not None:  # an archive before 0.3 is decided as it always was
        return threshold - (rule.review_below or 0.0), threshold + (rule.review_above or 0.0)
    if rule.review_from is None or rule.review_to is None:
        return threshold, threshold
    if threshold == rule.threshold:
        return rule.review_from, rule.review_to
    return min(rule.review_from, threshold), threshold


def decide(score: Floats, threshold: float, spec: Spec) -> list[Outcome]:
    """Decide each item. score: (N,) from `scores`.

    With positive labels: `review` inside the `band`, `flag` at or above it, `pass` below it. Without positive labels
    (selective classification, Chow 1970): `pass` at or above the threshold, else `review`.
    """
    if not spec.decision.positive:
        return ["pass" if s >= threshold else "review" for s in score]
    low, high = band(threshold, spec)
    return ["review" if low <= s < high else "flag" if s >= max(low, high) else "pass" for s in score]


def explained_class(probs: Floats, outcomes: list[Outcome], spec: Spec) -> Int64:
    """Return the class whose evidence the heat map shows, (N,): what drove the decision.

    The most probable positive label where the outcome is flag or review, else the predicted label.
    """
    target = np.asarray(probs.argmax(axis=1), dtype=np.int64)
    if spec.positive_index:
        positive = np.array(spec.positive_index)[probs[:, list(spec.positive_index)].argmax(axis=1)]
        target = np.where(np.array(outcomes) == "pass", target, positive)
    return target


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
