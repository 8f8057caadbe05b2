"""The tables of report and model card, each from what metrics.json holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handlers.spec import Spec
from training.decisions.chance import wilson
from training.reports.pages import UNDEFINED, number, share
from training.reports.plots import score_of


@dataclass(frozen=True)
class Table:
    """Rows under a head; the first cell of a row names it. `caption` says what is counted, `name` what the table is of."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    name: str = ""


def interval(row: Mapping[str, Any], name: str) -> str:
    """Write a share with its interval of 95 %, and a dash for what is not defined."""
    if row.get(name) is None or row[f"{name}_interval"] is None:  # a rate of nothing, such as the precision of no prediction
        return UNDEFINED
    low, high = row[f"{name}_interval"]
    return f"{share(row[name])} ({share(low)} to {share(high)})"


def of_images(rate: float | None, images: int) -> str:
    """Write a rate of so many images with its interval of 95 %, and a dash for what is not defined."""
    if rate is None:
        return UNDEFINED
    return interval({"rate": rate, "rate_interval": wilson(round(rate * images), images)}, "rate")


def outcomes(spec: Spec, decision: Mapping[str, Any]) -> Table:
    """Count the rule's outcomes, and how many of each were wrong."""
    rows = [
        (outcome, str(count), "a person decides" if outcome == "review" else interval(decision, f"error_rate_{outcome}"))
        for outcome, count in decision["outcomes"].items()
        if spec.decision.positive or outcome != "flag"
    ]
    return Table(("", "images", "wrong among them"), rows, "What the rule did with the test images")


def impact(costs: Mapping[str, Mapping[str, float]]) -> Table:
    """Set the rule's cost beside that of simpler rules; the first of them is the rule's own."""
    rows = list[Sequence[str]]()
    for name, row in costs.items():
        seen = f"{row['reviews']:.0f} ({row['reviews_low']:.0f} to {row['reviews_high']:.0f})"
        more = ("", "")
        if rows:
            more = (f"{row['difference']:+.1f}", f"{row['difference_low']:+.1f} to {row['difference_high']:+.1f}")
        rows.append((name, f"{row['cost']:.1f}", seen, *more))
    caption = (
        "Expected cost of 1,000 images like those of the test split, at the stated prices, and by how much it exceeds the rule's."
    )
    return Table(("", "cost", "seen by a person", "difference", "interval of 95 %"), rows, caption, "Expected cost")


def classes(metrics: Mapping[str, Any]) -> Table:
    """Write each label's figures, and their means where those are known."""
    rows = [
        (
            label,
            str(row["images"]),
            *(interval(row, name) for name in ("precision", "recall")),
            *(number(row[name]) for name in ("f1", "auroc")),
        )
        for label, row in metrics["per_class"].items()
    ]
    mean = metrics["macro"]
    rows.append(("mean", "", share(mean["precision"]), share(mean["recall"]), number(mean["f1"]), number(mean["auroc"])))
    caption = (
        "Each image under its most probable label; shares with Wilson's intervals of 95 %. A dash: the split has no such image."
    )
    return Table(("label", "images", "precision", "recall", "F1", "AUROC"), rows, caption, "Figures of each label")


def calibration(spec: Spec, errors: Mapping[str, Any]) -> Table:
    """Write the errors of calibration before and after scaling: of the score that is thresholded, then of each label."""
    named = {score_of(spec.decision): errors["score"]} | errors["per_class"]
    columns = [f"{what}_{when}" for what in ("ece", "error", "nll", "brier") for when in ("before", "after")]
    rows = [(name, *(f"{row[column]:.4f}" for column in columns)) for name, row in named.items()]
    head = tuple(name for what in ("ECE", "error", "NLL", "Brier") for name in (f"{what} before", "after"))
    return Table(("probability of", *head), rows, "On the test split, before scaling and after it", "Calibration")


def mix(rules: Mapping[str, Mapping[str, Any]]) -> Table:
    """Write what the stated mix of labels changes: the rule made for it beside the one for the calibration split's."""
    rows = [
        (
            name,
            number(rule["threshold"]),
            UNDEFINED if rule["review_from"] is None else f"{number(rule['review_from'])} to {number(rule['review_to'])}",
            *(number(rule[key]) for key in ("mean_score", "expected_cost", "expected_cost_with_review")),
            *(share(rule["outcomes"][outcome]) for outcome in ("pass", "flag", "review")),
        )
        for name, rule in rules.items()
    ]
    head = ("rule for the mix", "threshold", "review band", "mean score", "cost", "cost with review", "pass", "flag", "review")
    return Table(head, rows, "Two rules on the test images, each image weighted as the stated mix has it", "Rules for the mix")


def set_sizes(sizes: Mapping[str, int]) -> Table:
    """Count the test images by the size of their prediction sets."""
    rows = [(size, str(count)) for size, count in sizes.items()]
    return Table(("labels in the set", "images"), rows, "How many test images have sets of this size")


def subgroup(column: str, spec: Spec, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """Write the figures of each group that a column of the metadata tells apart."""
    positive, bound = spec.decision.positive, spec.decision.fnr_bound
    head = ["", "images", "accuracy"]
    head += ["positive", "missed"] if positive else []
    head += ["ECE", "review", *(["over the bound", "own threshold"] if bound else [])]
    caption = "Shares with Wilson's intervals of 95 %; missed are positive images below the threshold."
    if bound:
        caption += (
            " The last column is the threshold that the bound would set for the group alone, a dash where it has too few "
            "calibration images."
        )
    cells = []
    for name, row in rows.items():
        line = [name, str(row["images"]), interval(row, "accuracy")]
        line += [str(row["positives"]), interval(row, "fnr")] if positive else []
        line += [number(row["ece"]), interval(row, "review_share")]
        line += [str(row["breaks_bound"]), number(row["threshold"])] if bound else []
        cells.append(tuple(line))
    return Table(tuple(head), cells, caption, f"Figures by {column}")


def explanations(quality: Mapping[str, Any]) -> Table:
    """Set the served heat maps beside those of shuffled weights."""
    images = quality["images"]

    def areas(which: str) -> tuple[str, str]:
        return number(quality[which]["deletion_auc"]), number(quality[which]["insertion_auc"])

    def pointing(which: str) -> str:
        return of_images(quality.get(f"pointing_{which}"), images)

    rows = [
        ("served", *areas("served"), number(1), pointing("served")),
        ("all weights shuffled", *areas("shuffled"), number(quality["rank_correlation_all"]), pointing("shuffled_all")),
        ("the head's weights shuffled", "", "", number(quality["rank_correlation_head"]), pointing("shuffled_head")),
    ]
    for key, name in (("elsewhere", "the served map of another image"), ("chance", "a point at random")):
        if quality.get(f"pointing_{key}") is not None:
            rows.append((name, "", "", "", share(quality[f"pointing_{key}"])))
    caption = (
        "Rank correlation is Spearman's with the served maps; a dash there: of every image one of the two maps is flat, the same "
        "everywhere, and has no ranks. A dash in the pointing game: no masks to point at."
    )
    return Table(("", "deletion AUC", "insertion AUC", "rank correlation", "pointing game"), rows, caption, "Heat maps")
