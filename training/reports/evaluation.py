"""The evaluation as one HTML file that needs nothing beside it: numbers with their meaning, plots, the worst errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handlers.spec import Spec
from training.decisions import conformal
from training.reports.pages import UNDEFINED, Picture, environment, number, share


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
    if row.get(name) is None:
        return UNDEFINED
    low, high = row[f"{name}_interval"]
    return f"{share(row[name])} ({share(low)} to {share(high)})"


def describe_rule(spec: Spec) -> list[str]:
    """Describe the decision rule, sentence by sentence, as a person would follow it."""
    rule = spec.decision
    budget = "" if rule.review_budget is None else f"{rule.review_budget:.1%} of the images of the calibration split at most"
    if not rule.positive:
        chosen = f"has the least mean cost on the calibration split, where a person's look costs {rule.review_cost:g}."
        if budget:
            chosen = f"is the one that has a person see {budget}, or a lower one where looks are not worth their stated price."
        return [
            f"Pass an image when the network is at least {rule.threshold:.1%} sure of its label; otherwise ask a person.",
            f"The threshold {chosen}",
        ]
    names = " or ".join(rule.positive)
    sentences = [f"Flag an image when the probability of {names} is at least {rule.threshold:.1%}; otherwise pass it."]
    low, high = max(0.0, rule.threshold - rule.review_below), min(1.0, rule.threshold + rule.review_above)
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
        sentences.append("Among the thresholds that keep the promise it has the least mean cost on the calibration split.")
    else:
        sentences.append("The threshold has the least mean cost on the calibration split, which nothing else saw.")
    return sentences


def figures(spec: Spec, metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """List the summary's figures: (name, value, meaning), most important first."""
    decision, calibration, game = metrics["decision"], metrics["calibration"], metrics["pointing_game"]
    scaled = f"scaling by T = {calibration['temperature']:.3f}" if "temperature" in calibration else "vector scaling"
    rows = [("Accuracy", share(metrics["accuracy"]), f"of {metrics['images']} test images got their right label")]
    if spec.decision.positive:
        names = " or ".join(spec.decision.positive)
        rows += [
            (
                "Recall",
                share(decision["recall"]),
                f"of the images labelled {names} reach the threshold; {share(decision['fnr'])} are missed",
            ),
            ("Precision", share(decision["precision"]), f"of what reaches the threshold is labelled {names}"),
            ("False alarms", share(decision["fpr"]), "of the other images reach the threshold"),
        ]
    else:
        rows += [
            ("Coverage", share(decision["coverage"]), "of the images pass without a person"),
            ("Error among passed", share(decision["error_rate_pass"]), "of those that passed have a wrong label"),
        ]
    rows += [
        ("Expected cost", number(decision["expected_cost"]), "an image, decided by the threshold alone"),
        ("AUROC", number(metrics["macro"]["auroc"]), "mean over the classes; 0.5 is chance, 1 tells all apart"),
        ("Macro F1", number(metrics["macro"]["f1"]), "mean over the classes, each counting the same"),
        (
            "Calibration error",
            number(calibration["ece_after"]),
            f"was {number(calibration['ece_before'])} before {scaled}; 0 is honest",
        ),
    ]
    if game:
        within = f"within {game['tolerance']:.0%} of the picture's side"
        rows.append(("Pointing game", share(game["score"]), f"of {game['images']} heat maps peak on the mask or {within} of it"))
    return rows
