"""The evaluation as one HTML file that needs nothing beside it: numbers with their meaning, plots, the worst errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handlers.errors import counted
from handlers.spec import Spec
from training.decisions import conformal
from training.decisions.chance import wilson
from training.evaluation.metrics import band_of
from training.reports import leaks, tables
from training.reports.pages import Picture, environment, number, share, small

CHOSEN = (
    "the threshold is the best one for calibrated scores (Bayes), unless another was cheaper on the calibration split, which "
    "nothing else saw, by more than the difference's standard error."
)
"""How the threshold is chosen, in words."""


@dataclass(frozen=True)
class Case:
    """One answered image: its path, its label, its answer and its pictures. `right`: a right answer to compare an error with."""

    path: str
    truth: str
    label: str
    confidence: float
    score: float
    outcome: str
    pictures: tuple[Picture, ...]
    right: "Case | None" = None


@dataclass(frozen=True)
class Gallery:
    """Cases under one heading; `none` is the sentence where there are none."""

    title: str
    meaning: str
    none: str
    cases: Sequence[Case]


@dataclass(frozen=True)
class Cell:
    """Images of one label that were answered with one label: how many, their share of the true label's, and examples."""

    images: int
    share: float
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Pair:
    """One kind of error: images labelled `truth` that were answered with `label`."""

    truth: str
    label: str
    cell: Cell


@dataclass(frozen=True)
class Confusions:
    """What was taken for what: a matrix of few labels, (true label, cells by answered label), or the most frequent errors."""

    matrix: Sequence[tuple[str, Sequence[Cell]]] = ()
    pairs: Sequence[Pair] = ()


@dataclass(frozen=True)
class Shown:
    """What the report shows of single images. `scale`: the heat maps' colours, with what the strongest means as its caption."""

    galleries: Sequence[Gallery]
    confusions: Confusions | None = None
    scale: Picture | None = None
    masked: bool = False


def render(
    spec: Spec,
    metrics: Mapping[str, Any],
    plots: Mapping[str, Picture],
    shown: Shown,
    lineage: Mapping[str, str],
    notes: Sequence[str] = (),
    steps: Sequence[tuple[str, str]] = (),
) -> str:
    """Render the report's page as HTML. `metrics` are those of `training.evaluation.metrics.evaluate`; `notes` come first.

    `plots`: by name; of a confusion matrix that is shown with examples the plot is left out. `steps`: what to do next, sentences
    and commands.
    """
    matrix = shown.confusions.matrix if shown.confusions else ()
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            digest=lineage.get("dataset digest", ""),
            tables=tables,
            spec=spec,
            metrics=metrics,
            newness=leaks.describe(metrics, " that training never saw"),
            figures=figures(spec, metrics),
            rule=describe_rule(spec),
            plots=[plot for name, plot in plots.items() if name != "confusion_matrix" or not matrix],
            confusions=shown.confusions,
            galleries=shown.galleries,
            scale=shown.scale,
            masked=shown.masked,
            lineage=lineage,
            notes=notes,
            steps=steps,
        )
    )


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
        below = "Pass it below" if low else "None is passed"
        above = f"flag it from {high:.1%} on" if band_of(spec)[1] <= 1 else "and none is flagged"
        sentences = [
            (
                f"Review an image when the probability of {names} is from {low:.1%} up to {high:.1%}: neither of the others is "
                "worth its risk."
            ),
            f"{below}, {above}.",
            f"Recall, precision, false alarms and expected cost are at the threshold, {rule.threshold:.1%}, as if nobody looked.",
        ]
        if budget:
            sentences.append(f"The band is sized to a budget: a person sees {budget}.")
    if bound := rule.fnr_bound:
        capped = "which is this one" if rule.threshold == bound.threshold else f"{bound.threshold:.1%}, and this one lies below"
        method = "conformal risk control" if bound.confidence is None else "Learn then Test"
        among = f"{bound.positives} of them" + (f" in {counted(bound.groups, 'group')}" if bound.groups else "")
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
        _calibration_error(metrics["calibration"], metrics["images"]),
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


def _calibration_error(calibration: Mapping[str, Any], images: int) -> tuple[str, str, str]:
    score = calibration["score"]
    scaled = f"scaling by T = {calibration['temperature']:.3f}" if "temperature" in calibration else "slopes, weights and biases"
    meaning = (
        f"root mean square gap of the score to what comes true, less what chance adds; {small(score['error_before'])} before "
        f"{scaled}. Of {counted(images, 'test image')}, among which honest scores stay within {small(score['error_by_chance'])}"
    )
    return "Calibration error", small(score["error_after"]), meaning


def _range(interval: Sequence[float] | None, of: int) -> str:
    return f" ({share(interval[0])} to {share(interval[1])}, of {counted(of, 'image')})" if interval else ""
