"""What `metrics.json` says of a run: plain numbers, rounded, the same on every run of the same weights and images.

`null` stands for a number that the split does not define: any of a class without images in it, an AUROC without a second
class, a rate of an empty group. Macro means are over the classes that have images. Beside a rate NAME stand NAME_interval, of
95 % (`chance.rate_interval`, which counts groups where images come in them), and NAME_of, the number of images that it is of.

Where the spec states the mix of labels to come, costs and all of `calibration` count images by it; rates are the split's own.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from handlers import decision
from handlers.arrays import Bools, Float64, Floats, Ints, Strings
from handlers.decision import Outcome
from handlers.spec import Spec
from training.decisions import calibration, mix, selective
from training.decisions.chance import Groups, only, rate_interval
from training.decisions.impact import impact
from training.decisions.scaling import Scaling
from training.decisions.thresholds import paired, side_costs
from training.evaluation.saliency import PointingGame

DIGITS = 6
OUTCOMES = ("pass", "flag", "review")


def evaluate(
    logits: Floats,
    probs: Floats,
    outcomes: Sequence[Outcome],
    truth: Ints,
    spec: Spec,
    scaling: Scaling,
    pointing: PointingGame | None,
    groups: Groups | None = None,
) -> dict[str, Any]:
    """Score a split's answers.

    logits: (N, K), uncalibrated; probs: (N, K), as served; outcomes: N, as served; truth: (N,), classes;
    scaling: how the spec's was fitted; pointing: None where no image has a mask; groups: (N,), what goes together, where
    images come in groups, which intervals then count. Returns JSON's types only.
    """
    predicted = probs.argmax(axis=1)
    classes = np.arange(len(spec.labels))
    per_class, macro = _by_class(probs, predicted, truth, spec.labels, groups)
    results: dict[str, Any] = {
        "images": len(truth),
        **_share("accuracy", predicted == truth, np.ones(len(truth), dtype=bool), groups),
        "macro": macro,
        "per_class": per_class,
        "confusion": confusion_matrix(truth, predicted, labels=classes).tolist(),
        "calibration": _calibration(logits, probs, truth, scaling, spec),
        "decision": _decision(probs, np.array(outcomes), truth, spec, groups),
        "selective": _selective(probs, truth, spec),
        "impact": impact(probs, outcomes, truth, spec, groups),
        "prediction_sets": _sets(probs, truth, spec, groups),
        "pointing_game": None if pointing is None else pointing.summary(),
    }
    return dict(plain(results))


def prevalence(spec: Spec, unmoved: Spec, logits: Floats, truth: Ints) -> dict[str, Any]:
    """Compare the rule for the stated mix of labels with the one for the calibration split's, both on images of the stated mix.

    `unmoved`: the spec as it would be without the statement. logits: (N, K), of the test split; truth: (N,).
    """
    shares = spec.decision.prevalence or ()
    weights = mix.weights(truth, shares)
    rules = {}
    for name, one in (("stated", spec), ("calibration split", unmoved)):
        probs = decision.calibrated(logits, one)
        low, high = band_of(one)
        score, outcomes = decision.scores(probs, one), _outcomes(probs, one)
        alone, looked = _costs(probs, score >= one.decision.threshold, outcomes == "review", truth, one)
        rules[name] = {
            "threshold": one.decision.threshold,
            "review_from": low if low < high else None,
            "review_to": high if low < high else None,
            "expected_cost": np.average(alone, weights=weights),
            "expected_cost_with_review": np.average(looked, weights=weights),
            "mean_score": np.average(score, weights=weights),
            "outcomes": {kind: np.average(outcomes == kind, weights=weights) for kind in OUTCOMES},
        }
    return dict(plain({"shares": dict(zip(spec.labels, shares, strict=True)), "rules": rules}))


def brier(probs: Floats, truth: Ints, weights: Floats | None = None) -> float:
    """Compute the Brier score, the mean over images of the sum over classes of (p - y)², from 0 to 2 (Brier 1950).

    probs: (N, K).
    """
    return float(np.average(np.square(probs - np.eye(probs.shape[1])[truth]).sum(axis=1), weights=weights))


def _by_class(
    probs: Floats, predicted: Ints, truth: Ints, labels: Sequence[str], groups: Groups | None
) -> tuple[dict[str, Any], dict[str, float | None]]:
    """Precision, recall, F1 and one-vs-rest AUROC of each class, and their means. A class never predicted has precision 0."""
    k = range(len(labels))
    columns = precision_recall_fscore_support(truth, predicted, labels=list(k), zero_division=0)
    per_class: dict[str, Any] = {}
    for i, (label, precision, recall, f1, images) in enumerate(zip(labels, *columns, strict=True)):
        scores = {"precision": precision, "recall": recall, "f1": f1, "auroc": _auroc(truth == i, probs[:, i])}
        found = _share("precision", truth == i, predicted == i, groups) | _share("recall", predicted == i, truth == i, groups)
        per_class[label] = {**found, **(scores if images else dict.fromkeys(scores)), "images": int(images)}
    macro = {name: _mean([row[name] for row in per_class.values()]) for name in ("precision", "recall", "f1", "auroc")}
    return per_class, macro


def _calibration(logits: Floats, probs: Floats, truth: Ints, scaling: Scaling, spec: Spec) -> dict[str, Any]:
    """How honest confidences are before and after scaling: of the predicted label, of the score, and class by class."""
    raw, scaled = decision.probabilities(logits, 1.0), scaling.apply(logits)
    weights = mix.weights(truth, spec.decision.prevalence)
    both = ((logits, raw), (scaled, probs))
    per_class = {}
    for k, label in enumerate(spec.labels):
        inside = np.zeros(probs.shape, dtype=bool)
        inside[:, k] = True
        per_class[label] = _honesty([(z, p, inside) for z, p in both], truth, weights)
    score = _honesty([(z, p, score_labels(p, spec)) for z, p in both], truth, weights)
    score["error_by_chance"] = calibration.by_chance(decision.scores(probs, spec), weights)
    each, before = (calibration.nll(z, truth, weights=weights) for z in (scaled, logits))
    return {
        **scaling.summary(),
        "ece_before": _ece(raw, truth, weights),
        "ece_after": _ece(probs, truth, weights),
        "nll_before": before,
        "nll_after": each,
        "brier_before": brier(raw, truth, weights),
        "brier_after": brier(probs, truth, weights),
        "score": score,
        "per_class": per_class,
        "classwise_ece_before": np.mean([row["ece_before"] for row in per_class.values()]),
        "classwise_ece_after": np.mean([row["ece_after"] for row in per_class.values()]),
    }


def score_labels(probs: Floats, spec: Spec) -> Bools:
    """Tell which labels make up each image's score, (N, K): the positive ones, or without any the predicted one."""
    k = np.arange(probs.shape[1])
    if spec.positive_index:
        return np.tile(np.isin(k, spec.positive_index), (len(probs), 1))
    return np.asarray(probs.argmax(axis=1)[:, None] == k)


def score_reliability(probs: Floats, truth: Ints, spec: Spec) -> calibration.Reliability:
    """Compare the score that is thresholded with how often what it is the probability of came true. probs: (N, K)."""
    inside = score_labels(probs, spec)
    weights = mix.weights(truth, spec.decision.prevalence)
    return calibration.reliability_of(_sum(probs, inside), inside[np.arange(len(truth)), truth], weights=weights)


def _honesty(both: Sequence[tuple[Floats, Floats, Bools]], truth: Ints, weights: Floats) -> dict[str, float]:
    """Of a score that is the summed probability of some labels: ECE, debiased error, NLL and Brier score before and after, and
    by how much scaling raised the NLL, with its standard error.

    both: before and after, each logits, probabilities and which labels' are summed, all (N, K).
    """
    found: dict[str, float] = {}
    losses = []
    for when, (logits, probs, inside) in zip(("before", "after"), both, strict=True):
        event, score = inside[np.arange(len(truth)), truth], _sum(probs, inside)
        bins = calibration.reliability_of(score, event, weights=weights)
        losses.append(calibration.side_losses(logits, inside, event))
        found |= {
            f"ece_{when}": bins.ece,
            f"error_{when}": bins.error,
            f"nll_{when}": float(np.average(losses[-1], weights=weights)),
            f"brier_{when}": float(np.average(np.square(score - event), weights=weights)),
        }
    change, error = paired(losses[1] - losses[0], weights)
    return found | {"nll_change": change, "nll_change_error": error if len(truth) > 1 else 0.0}


def _sum(probs: Floats, inside: Bools) -> Float64:
    return np.asarray(np.where(inside, np.asarray(probs, dtype=np.float64), 0.0).sum(axis=1).clip(0.0, 1.0))


def _ece(probs: Floats, truth: Ints, weights: Floats) -> float:
    return calibration.reliability_of(probs.max(axis=1), probs.argmax(axis=1) == truth, weights=weights).ece


def _outcomes(probs: Floats, spec: Spec) -> Strings:
    return np.array(decision.decide(decision.scores(probs, spec), spec))


def _costs(probs: Floats, flagged: Bools, reviewed: Bools, truth: Ints, spec: Spec) -> tuple[Float64, Float64]:
    """What each image costs by the threshold alone, and where a person sees the reviewed ones: (N,) and (N,)."""
    rule = spec.decision
    above, below = side_costs(probs, truth, spec.positive_index, np.array(rule.cost), rule.review_cost)
    alone = np.where(flagged, above, below)
    return alone, np.where(reviewed, alone if rule.review_cost is None else rule.review_cost, alone)


def _decision(probs: Floats, outcomes: Strings, truth: Ints, spec: Spec, groups: Groups | None) -> dict[str, Any]:
    """Numbers of the decision: by the threshold alone, then by the outcomes, where a person sees the review band."""
    rule, positive = spec.decision, spec.positive_index
    at_or_above, reviewed = decision.scores(probs, spec) >= rule.threshold, outcomes == "review"
    alone, looked = _costs(probs, at_or_above, reviewed, truth, spec)
    weights = mix.weights(truth, rule.prevalence)
    # What `pass` answers wrongly: a positive image, or without positive labels an image of another class.
    wrong_pass = np.isin(truth, positive) if positive else probs.argmax(axis=1) != truth
    low, high = band_of(spec)
    return {
        "threshold": rule.threshold,
        "review_from": low if low < high else None,
        "review_to": high if low < high else None,
        **({"fnr_bound": rule.fnr_bound.model_dump()} if rule.fnr_bound else {}),
        **_binary(np.isin(truth, positive), at_or_above, bool(positive), groups),
        "expected_cost": np.average(alone, weights=weights),
        "expected_cost_with_review": np.average(looked, weights=weights),
        "outcomes": {outcome: int((outcomes == outcome).sum()) for outcome in OUTCOMES},
        **_share("coverage", ~reviewed, np.ones(len(truth), dtype=bool), groups),
        **_share("error_rate_pass", wrong_pass, outcomes == "pass", groups),
        **_share("error_rate_flag", ~wrong_pass, outcomes == "flag", groups),
    }


def band_of(spec: Spec) -> tuple[float, float]:
    """Return the archive's own review band [low, high) around its threshold, empty where there is none."""
    rule = decision.rule_of(spec)
    return (rule.review_from if spec.decision.positive else rule.threshold), rule.review_to


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


def _sets(probs: Floats, truth: Ints, spec: Spec, groups: Groups | None) -> dict[str, Any] | None:
    """How often the prediction sets hold the true label, and how large they are; None where the spec has none."""
    rule = spec.prediction_sets
    if rule is None:
        return None
    sets = decision.prediction_sets(probs, rule)
    covered, size = sets[np.arange(len(truth)), truth], sets.sum(axis=1)
    return {
        **rule.model_dump(),
        **_share("test_coverage", covered, np.ones(len(truth), dtype=bool), groups),
        "mean_size": size.mean(),
        "sizes": {str(n): int((size == n).sum()) for n in np.unique(size)},
        "coverage_per_class": {label: _rate(covered, truth == k) for k, label in enumerate(spec.labels)},
        "coverage_per_class_interval": {
            label: rate_interval(covered[truth == k], only(groups, truth == k)) for k, label in enumerate(spec.labels)
        },
    }


def _binary(truth: Bools, flagged: Bools, defined: bool, groups: Groups | None) -> dict[str, Any]:
    """Positive against the rest at the threshold, reviewed images included; null without positive labels."""
    rates = {
        **_share("accuracy", truth == flagged, np.ones(len(truth), dtype=bool), groups),
        **_share("precision", truth, flagged, groups),
        **_share("recall", flagged, truth, groups),
        **_share("fnr", ~flagged, truth, groups),
        **_share("fpr", flagged, ~truth, groups),
    }
    return rates if defined else dict.fromkeys(rates)


def _share(name: str, event: Bools, among: Bools, groups: Groups | None) -> dict[str, Any]:
    """A rate, its interval and what it is a rate of. event, among, groups: (N,)."""
    known = rate_interval(event[among], only(groups, among))
    return {name: _rate(event, among), f"{name}_interval": known, f"{name}_of": int(among.sum())}


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
