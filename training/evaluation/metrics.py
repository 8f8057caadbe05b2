"""What `metrics.json` says of a run: plain numbers, rounded, the same on every run of the same weights and images.

`null` stands for a number that the split does not define: any of a class without images in it, an AUROC without a second
class, a rate of an empty group. Macro means are over the classes that have images.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from handlers import decision
from handlers.arrays import Bools, Floats, Ints, Strings
from handlers.decision import Outcome
from handlers.spec import Spec
from training.decisions import calibration, selective
from training.decisions.calibration import Scaling
from training.decisions.impact import impact
from training.decisions.thresholds import side_costs
from training.evaluation.saliency import PointingGame

DIGITS = 6


def evaluate(
    logits: Floats,
    probs: Floats,
    outcomes: Sequence[Outcome],
    truth: Ints,
    spec: Spec,
    scaling: Scaling,
    pointing: PointingGame | None,
) -> dict[str, Any]:
    """Score a split's answers.

    logits: (N, K), uncalibrated; probs: (N, K), as served; outcomes: N, as served; truth: (N,), classes;
    scaling: how the spec's was fitted; pointing: None where no image has a mask. Returns JSON's types only.
    """
    predicted = probs.argmax(axis=1)
    classes = np.arange(len(spec.labels))
    per_class, macro = _by_class(probs, predicted, truth, spec.labels)
    results: dict[str, Any] = {
        "images": len(truth),
        "accuracy": (predicted == truth).mean(),
        "macro": macro,
        "per_class": per_class,
        "confusion": confusion_matrix(truth, predicted, labels=classes).tolist(),
        "calibration": _calibration(logits, probs, truth, scaling),
        "decision": _decision(probs, np.array(outcomes), truth, spec),
        "selective": _selective(probs, truth, spec),
        "impact": impact(probs, outcomes, truth, spec),
        "prediction_sets": _sets(probs, truth, spec),
        "pointing_game": None if pointing is None else pointing.summary(),
    }
    return dict(plain(results))


def brier(probs: Floats, truth: Ints) -> float:
    """Compute the Brier score, the mean over images of the sum over classes of (p - y)², from 0 to 2 (Brier 1950).

    probs: (N, K).
    """
    return float(np.square(probs - np.eye(probs.shape[1])[truth]).sum(axis=1).mean())


def _by_class(
    probs: Floats, predicted: Ints, truth: Ints, labels: Sequence[str]
) -> tuple[dict[str, Any], dict[str, float | None]]:
    """Precision, recall, F1 and one-vs-rest AUROC of each class, and their means. A class never predicted has precision 0."""
    k = range(len(labels))
    columns = precision_recall_fscore_support(truth, predicted, labels=list(k), zero_division=0)
    per_class: dict[str, Any] = {}
    for i, (label, precision, recall, f1, images) in enumerate(zip(labels, *columns, strict=True)):
        scores = {"precision": precision, "recall": recall, "f1": f1, "auroc": _auroc(truth == i, probs[:, i])}
        per_class[label] = {**(scores if images else dict.fromkeys(scores)), "images": int(images)}
    macro = {name: _mean([row[name] for row in per_class.values()]) for name in ("precision", "recall", "f1", "auroc")}
    return per_class, macro


def _calibration(logits: Floats, probs: Floats, truth: Ints, scaling: Scaling) -> dict[str, Any]:
    raw = decision.probabilities(logits, 1.0)
    return {
        **scaling.summary(),
        "ece_before": calibration.ece(raw, truth),
        "ece_after": calibration.ece(probs, truth),
        "nll_before": calibration.nll(logits, truth),
        "nll_after": calibration.nll(scaling.apply(logits), truth),
        "brier_before": brier(raw, truth),
        "brier_after": brier(probs, truth),
    }


def _decision(probs: Floats, outcomes: Strings, truth: Ints, spec: Spec) -> dict[str, Any]:
    """Numbers of the decision: by the threshold alone, then by the outcomes, where a person sees the review band."""
    rule, positive = spec.decision, spec.positive_index
    at_or_above = decision.scores(probs, spec) >= rule.threshold
    above_cost, below_cost = side_costs(probs, truth, positive, np.array(rule.cost), rule.review_cost)
    alone = np.where(at_or_above, above_cost, below_cost)
    # What `pass` answers wrongly: a positive image, or without positive labels an image of another class.
    wrong_pass = np.isin(truth, positive) if positive else probs.argmax(axis=1) != truth
    reviewed = outcomes == "review"
    priced = np.where(reviewed, alone if rule.review_cost is None else rule.review_cost, alone)
    return {
        "threshold": rule.threshold,
        "review_below": rule.review_below,
        "review_above": rule.review_above,
        **({"fnr_bound": rule.fnr_bound.model_dump()} if rule.fnr_bound else {}),
        **_binary(np.isin(truth, positive), at_or_above, bool(positive)),
        "expected_cost": alone.mean(),
        "expected_cost_with_review": priced.mean(),
        "outcomes": {outcome: int((outcomes == outcome).sum()) for outcome in ("pass", "flag", "review")},
        "coverage": (~reviewed).mean(),
        "error_rate_pass": _rate(wrong_pass, outcomes == "pass"),
        "error_rate_flag": _rate(~wrong_pass, outcomes == "flag"),
    }


def doubts(probs: Floats, truth: Ints, spec: Spec) -> tuple[Floats, Bools]:
    """Compute how sure each answer is, and whether the threshold alone answers wrongly: (N,) and (N,)."""
    score = decision.scores(probs, spec)
    if not spec.positive_index:
        return score, probs.argmax(axis=1) != truth
    threshold = spec.decision.threshold
    return -selective.doubt(score, threshold), np.isin(truth, spec.positive_index) != (score >= threshold)


def _selective(probs: Floats, truth: Ints, spec: Spec) -> dict[str, Any]:
    """What leaving the most doubtful answers to a person would give."""
    certainty, wrong = doubts(probs, truth, spec)
    curve = selective.risk_coverage(certainty, wrong)
    return {
        "aurc": curve.aurc,
        "excess_aurc": curve.aurc - selective.least(wrong).aurc,
        "risk_at_coverage": {f"{coverage:g}": curve.at(coverage) for coverage in selective.COVERAGES},
    }


def _sets(probs: Floats, truth: Ints, spec: Spec) -> dict[str, Any] | None:
    """How often the prediction sets hold the true label, and how large they are; None where the spec has none."""
    rule = spec.prediction_sets
    if rule is None:
        return None
    sets = decision.prediction_sets(probs, rule)
    covered, size = sets[np.arange(len(truth)), truth], sets.sum(axis=1)
    return {
        **rule.model_dump(),
        "test_coverage": covered.mean(),
        "mean_size": size.mean(),
        "sizes": {str(n): int((size == n).sum()) for n in np.unique(size)},
        "coverage_per_class": {label: _rate(covered, truth == k) for k, label in enumerate(spec.labels)},
    }


def _binary(truth: Bools, flagged: Bools, defined: bool) -> dict[str, float | None]:
    """Positive against the rest at the threshold, reviewed images included; null without positive labels."""
    rates = {
        "accuracy": float((truth == flagged).mean()),
        "precision": _rate(truth, flagged),
        "recall": _rate(flagged, truth),
        "fnr": _rate(~flagged, truth),
        "fpr": _rate(flagged, ~truth),
    }
    return rates if defined else dict.fromkeys(rates)


def _auroc(truth: Bools, score: Floats) -> float | None:
    return float(roc_auc_score(truth, score)) if truth.any() and not truth.all() else None


def _rate(event: Bools, among: Bools) -> float | None:
    return float(event[among].mean()) if among.any() else None


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None


def plain(value: Any) -> Any:
    """Convert NumPy's scalars to Python's, rounded to DIGITS."""
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain(child) for child in value]
    if isinstance(value, float | np.floating):
        return round(float(value), DIGITS)
    return value
