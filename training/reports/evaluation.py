"""The evaluation as one HTML file that needs nothing beside it: numbers with their meaning, plots, the worst errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handlers.spec import Spec
from training.decisions import conformal
from training.decisions.chance import wilson
from training.evaluation.metrics import band_of
from training.reports.pages import UNDEFINED, Picture, environment, number, share
from training.reports.plots import score_of

CHOSEN = (
    "the threshold is the best one for calibrated scores (Bayes), unless another was cheaper on the calibration split, which "
    "nothing else saw, by more than the difference's standard error."
)
"""How the threshold is chosen, in words."""


@dataclass(frozen=True)
class Case:
    """One answered image: its path, its label, its answer and its pictures."""

    path: str
    truth: str
    label: str
    confidence: float
    score: float
    outcome: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """Cases under one heading; `none` is the sentence where there are none."""

    title: str
    meaning: str
    none: str
    cases: Sequence[Case]


def render(
    spec: Spec,
    metrics: Mapping[str, Any],
    plots: Sequence[Picture],
    galleries: Sequence[Gallery],
    lineage: Mapping[str, str],
    notes: Sequence[str] = (),
) -> str:
    """Render the report's page as HTML. `metrics` are those of `training.evaluation.metrics.evaluate`; `notes` come first."""
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            interval=interval,
            of_images=of_images,
            calibration_head=CALIBRATION_HEAD,
            calibration_rows=calibration_rows(spec, metrics["calibration"]),
            mix_head=MIX_HEAD,
            mix_rows=mix_rows(metrics["prevalence"]) if metrics.get("prevalence") else [],
            spec=spec,
            metrics=metrics,
            figures=figures(spec, metrics),
            rule=describe_rule(spec),
            plots=plots,
            galleries=galleries,
            lineage=lineage,
            notes=notes,
        )
    )


def interval(row: Mapping[str, Any], name: str) -> str:
    """Write a share with its interval of 95 %, and a dash for what is not defined."""
    if row.get(name) is None or row[f"{name}_interval"] is None:  # a rate of nothing, such as the precision of no prediction
        return UNDEFINED
    low, high = row[f"{name}_interval"]
    return f"{share(row[name])} ({share(low)} to {share(high)})"


def describe_rule(spec: Spec) -> list[str]:
    """Describe the decision rule, sentence by sentence, as a person would follow it."""
    rule = spec.decision
    budget = "" if rule.review_budget is None else f"{rule.review_budget:.1%} of the images of the calibration split at most"
    if not rule.positive:
        chosen = f"A person's look costs {rule.review_cost:g}. At these costs, {CHOSEN}"
        if budget:
            chosen = f"The threshold has a person see {budget}, or is a lower one where looks are not worth their stated price."
        return [
            f"Pass an image when the network is at least {rule.threshold:.1%} sure of its label; otherwise ask a person.",
            chosen,
        ]
    names = " or ".join(rule.positive)
    sentences = [f"Flag an image when the probability of {names} is at least {rule.threshold:.1%}; otherwise pass it."]
    low, high = (min(1.0, max(0.0, end)) for end in band_of(spec))
    if high > low:
        sentences.append(f"From {low:.1%} up to {high:.1%} neither is worth its risk, so a person looks: review.")
        if budget:
            sentences.append(f"The band is sized to a budget: a person sees {budget}.")
    if bound := rule.fnr_bound:
        capped = "which is this one" if rule.threshold == bound.threshold else f"{bound.threshold:.1%}, and this one lies below"
        method = "conformal risk control" if bound.confidence is None else "Learn then Test"
        among = f"{bound.positives} of them" + (f" in {bound.groups} groups" if bound.groups else "")
        sentences.append(
            f"{conformal.promise(bound, names)}: {method} with {among} caps the threshold at the largest that keeps this "
            f"promise, {capped}. It is for images like those of the split, and not where a request brings its own threshold."
        )
        sentences.append(f"Among those that keep the promise, {CHOSEN}")
    else:
        sentences.append(f"At these costs, {CHOSEN}")
    return sentences


def figures(spec: Spec, metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """List the summary's figures: (name, value, meaning), most important first; a rate's meaning ends with its interval."""
    decision, game = metrics["decision"], metrics["pointing_game"]
    rows = [("Accuracy", share(metrics["accuracy"]), "of the test images got their right label" + known(metrics, "accuracy"))]
    if spec.decision.positive:
        names = " or ".join(spec.decision.positive)
        missed = f"{share(decision['fnr'])} are missed{known(decision, 'fnr')}"
        rows += [
            (
                "Recall",
                share(decision["recall"]),
                f"of the images labelled {names} reach the threshold{known(decision, 'recall')}; {missed}",
            ),
            (
                "Precision",
                share(decision["precision"]),
                f"of what reaches the threshold is labelled {names}{known(decision, 'precision')}",
            ),
            ("False alarms", share(decision["fpr"]), f"of the other images reach the threshold{known(decision, 'fpr')}"),
        ]
    else:
        rows += [
            (
                "Coverage",
                share(decision["coverage"]),
                f"of the images pass without a person{known(decision, 'coverage')}",
            ),
            (
                "Error among passed",
                share(decision["error_rate_pass"]),
                f"of those that passed have a wrong label{known(decision, 'error_rate_pass')}",
            ),
        ]
    rows += [
        ("Expected cost", number(decision["expected_cost"]), "an image, decided by the threshold alone"),
        ("AUROC", number(metrics["macro"]["auroc"]), "mean over the classes; 0.5 is chance, 1 tells all apart"),
        ("Macro F1", number(metrics["macro"]["f1"]), "mean over the classes, each counting the same"),
        _calibration_error(metrics["calibration"]),
    ]
    if game:
        within = f"within {game['tolerance']:.0%} of the picture's side"
        meaning = (
            f"of the heat maps peak on the mask or {within} of it{_range(wilson(game['hits'], game['images']), game['images'])}"
        )
        rows.append(("Pointing game", share(game["score"]), meaning))
    rows.append(("Backend", spec.backend, "answers; calibration, rule and all figures are of its answers"))
    return rows


def known(row: Mapping[str, Any], name: str) -> str:
    """Write how well a rate is known, to stand behind its meaning; nothing where it is a rate of nothing."""
    return _range(row.get(f"{name}_interval"), row.get(f"{name}_of", 0))


def of_images(rate: float | None, images: int) -> str:
    """Write a rate of so many images with its interval of 95 %, and a dash for what is not defined."""
    if rate is None:
        return UNDEFINED
    return interval({"rate": rate, "rate_interval": wilson(round(rate * images), images)}, "rate")


CALIBRATION_HEAD = (
    "probability of",
    "ECE before",
    "after",
    "error before",
    "after",
    "NLL before",
    "after",
    "Brier before",
    "after",
)
"""The head of the table of `calibration_rows`."""


def calibration_rows(spec: Spec, calibration: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """List the errors of calibration before and after scaling: of the score that is thresholded, then of each label."""
    rows = {score_of(spec.decision): calibration["score"]} | calibration["per_class"]
    columns = [f"{what}_{when}" for what in ("ece", "error", "nll", "brier") for when in ("before", "after")]
    return [(name, *(f"{row[column]:.4f}" for column in columns)) for name, row in rows.items()]


MIX_HEAD = ("rule for the mix", "threshold", "review band", "mean score", "cost", "cost with review", "pass", "flag", "review")
"""The head of the table of `mix_rows`."""


def mix_rows(prevalence: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """List what the stated mix of labels changes: the rule made for it beside the one for the calibration split's."""
    return [
        (
            name,
            number(rule["threshold"]),
            UNDEFINED if rule["review_from"] is None else f"{number(rule['review_from'])} to {number(rule['review_to'])}",
            *(number(rule[key]) for key in ("mean_score", "expected_cost", "expected_cost_with_review")),
            *(share(rule["outcomes"][outcome]) for outcome in ("pass", "flag", "review")),
        )
        for name, rule in prevalence["rules"].items()
    ]


def _calibration_error(calibration: Mapping[str, Any]) -> tuple[str, str, str]:
    score = calibration["score"]
    scaled = f"scaling by T = {calibration['temperature']:.3f}" if "temperature" in calibration else "slopes, weights and biases"
    meaning = (
        f"root mean square gap of the score to what comes true, less what chance adds; {number(score['error_before'])} before "
        f"{scaled}. Honest scores of as many images stay within {number(score['error_by_chance'])}"
    )
    return "Calibration error", number(score["error_after"]), meaning


def _range(interval: Sequence[float] | None, of: int) -> str:
    return f" ({share(interval[0])} to {share(interval[1])}, of {of} images)" if interval else ""
