"""The evaluation's pictures as PNG bytes: the same numbers give the same bytes."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from handlers.arrays import Bools, Floats, Ints
from handlers.spec import Decision
from training.decisions.calibration import Reliability
from training.decisions.chance import wilson
from training.decisions.selective import RiskCoverage
from training.reports.drawing import (
    BLUE,
    FAINT,
    FONT,
    INK,
    MOST_NAMES,
    ORANGE,
    SIZE,
    blank_figure,
    dress,
    legend,
    png,
    say,
    short,
    titled_figure,
)

# Beyond these, numbers in the cells and lines in a legend are no longer read.
MOST_NUMBERS, MOST_LINES = 15, 10


def confusion(counts: Ints, labels: Sequence[str]) -> bytes:
    """Draw the confusion matrix, coloured by the share of the true class. counts: (K, K), counts[true, predicted]."""
    k = len(labels)
    side = min(12.0, max(SIZE[0], 0.45 * k + 1.5))
    figure, axes = titled_figure("Confusion matrix", "predicted", "true", size=(side, 0.85 * side))
    axes.grid(visible=False)
    images = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, images, out=np.zeros(counts.shape), where=images > 0)
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    bar = figure.colorbar(picture, ax=axes, shrink=0.8, format=PercentFormatter(1))
    bar.set_label("share of the true class", color=INK, fontsize=FONT)
    bar.ax.tick_params(colors=INK, length=0, labelsize=FONT)
    bar.outline.set_visible(False)
    axes.set(xticks=[], yticks=[])
    if k <= MOST_NAMES:
        names = [short(label) for label in labels]
        slanted = max(len(name) for name in names) * k > 28
        axes.set_xticks(range(k), names, rotation=90 if slanted else 0)
        axes.set_yticks(range(k), names)
    if k <= MOST_NUMBERS:
        for (row, column), n in np.ndenumerate(counts):
            text = f"{n}\n{share[row, column]:.1%}" if k <= 5 else str(n)
            light = share[row, column] > 0.55
            axes.text(column, row, text, ha="center", va="center", color="white" if light else INK, fontsize=FONT)
    axes.spines[:].set_visible(False)
    return png(figure)


def reliability(before: Reliability, after: Reliability, score: str) -> bytes:
    """Draw how often it came true against the score before and after scaling, and how many images have which score.

    The bars of `after` are intervals of 95 % (Wilson 1927), the numbers its images. score: what it is called.
    """
    figure = blank_figure((SIZE[0], 5.0))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    dress(top, "Reliability: how often it is so when the score says so", "", "share in which it is so")
    dress(bottom, "", short(score, 60), "images")
    top.plot([0, 1], [0, 1], color=FAINT, linestyle="--", label="perfectly calibrated")
    edges = np.linspace(0, 1, len(after.count) + 1)
    for bins, name, colour, marker in ((before, "before scaling", ORANGE, "s"), (after, "after scaling", BLUE, "o")):
        filled = bins.count > 0
        label = f"{name}: error {bins.error:.3f}, ECE {bins.ece:.3f}"
        top.plot(bins.confidence[filled], bins.accuracy[filled], color=colour, marker=marker, markersize=5, label=label)
        bottom.stairs(bins.count, edges, color=colour, fill=colour == BLUE, alpha=0.8, linewidth=1.5)
    for n, x, y, middle in zip(after.count, after.confidence, after.accuracy, (edges[:-1] + edges[1:]) / 2, strict=True):
        if interval := wilson(round(n * y) if n else 0, int(n)):
            top.plot([x, x], interval, color=BLUE, linewidth=1.2, alpha=0.6)
            told = str(n) if n < 1000 else f"{n / 1000:.0f}k"  # as wide as a bar
            bottom.text(middle, n, told, ha="center", va="bottom", color=INK, fontsize=FONT)
    top.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    legend(top)
    bottom.margins(y=0.35)
    bottom.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return png(figure)


def score_of(rule: Decision) -> str:
    """Name the score that the threshold is compared with."""
    return f"probability of {' or '.join(rule.positive)}" if rule.positive else "confidence of the predicted class"


def precision_recall(curves: Mapping[str, tuple[Bools, Floats]], threshold: float | None) -> bytes:
    """Draw precision against recall. curves: by name, truth (N,) and score (N,); `threshold` is marked on a single curve.

    A curve without positive images, or with nothing else, says nothing and is left out.
    """
    figure, axes = titled_figure("Precision and recall on the test split", "recall", "precision")
    drawn = {name: curve for name, curve in curves.items() if curve[0].any() and not curve[0].all()}
    most = 30 if len(drawn) == 1 else 12  # letters of a name: a line, or half of one
    for n, (name, (truth, score)) in enumerate(drawn.items()):
        precision, recall, _ = precision_recall_curve(truth, score)
        label = f"{short(name, most)}: AP {average_precision_score(truth, score):.3f}" if n < MOST_LINES else None
        axes.plot(recall, precision, color=BLUE if len(drawn) == 1 else f"C{n % 10}", drawstyle="steps-post", label=label)
        if threshold is not None and len(drawn) == 1:
            flagged = score >= threshold
            axes.axhline(truth.mean(), color=FAINT, linestyle="--", label=f"flag everything: {truth.mean():.3f}")
            if flagged.any():
                point = (flagged[truth].mean(), truth[flagged].mean())
                says = f"threshold {threshold:.3f}: recall {point[0]:.3f}, precision {point[1]:.3f}"
                axes.plot(*point, "o", color=ORANGE, markersize=8, label=says, clip_on=False, zorder=3)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
    _name_curves(axes, len(drawn))
    return png(figure)


def roc(curves: Mapping[str, tuple[Bools, Floats]], threshold: float | None) -> bytes:
    """Draw true against false positives; `curves` and `threshold` as in `precision_recall`."""
    figure, axes = titled_figure("ROC on the test split", "false positive rate", "true positive rate")
    drawn = {name: curve for name, curve in curves.items() if curve[0].any() and not curve[0].all()}
    most = 30 if len(drawn) == 1 else 12  # letters of a name: a line, or half of one
    for n, (name, (truth, score)) in enumerate(drawn.items()):
        false, true, _ = roc_curve(truth, score)
        label = f"{short(name, most)}: AUROC {roc_auc_score(truth, score):.3f}" if n < MOST_LINES else None
        axes.plot(false, true, color=BLUE if len(drawn) == 1 else f"C{n % 10}", label=label)
        if threshold is not None and len(drawn) == 1:
            flagged = score >= threshold
            point = (flagged[~truth].mean(), flagged[truth].mean())
            says = f"threshold {threshold:.3f}: {point[1]:.3f} found, {point[0]:.3f} false alarms"
            axes.plot(*point, "o", color=ORANGE, markersize=8, label=says, clip_on=False, zorder=3)
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", label="chance")
    axes.set(xlim=(-0.01, 1.01), ylim=(0, 1.02))
    _name_curves(axes, len(drawn))
    return png(figure)


def _name_curves(axes: Axes, count: int) -> None:
    """The legend of so many curves, below them."""
    if count > MOST_LINES:
        axes.plot([], [], " ", label=f"and {count - MOST_LINES} more")
    if count:
        legend(axes, columns=1 if count == 1 else 2)
    else:
        say(axes, "the test split has no two sides to tell apart")


def risk_coverage(curve: RiskCoverage, best: RiskCoverage, answered: float, risk: float | None) -> bytes:
    """Draw the error rate among the surest answers.

    best: an oracle's curve; (answered, risk): the archive's rule, with review.
    """
    x, y = "coverage: share answered without a person", "error rate among them"
    figure, axes = titled_figure("Risk and coverage on the test split", x, y)
    axes.plot(curve.coverage, curve.risk, color=BLUE, label=f"the surest first: AURC {curve.aurc:.4f}")
    axes.plot(best.coverage, best.risk, color=FAINT, linestyle="--", label=f"every error known: {best.aurc:.4f}")
    if risk is not None:
        axes.plot(
            answered,
            risk,
            "o",
            color=ORANGE,
            markersize=8,
            clip_on=False,
            zorder=3,
            label=f"the rule: {risk:.1%} of {answered:.1%}",
        )
    axes.set(xlim=(0, 1.01))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    legend(axes)
    return png(figure)


def learning_curves(history: Sequence[Mapping[str, float]]) -> bytes:
    """Draw loss and accuracy of training and validation, epoch by epoch, with lines where a phase begins."""
    figure = blank_figure((SIZE[0], 5.0))
    top, bottom = figure.subplots(2, 1, sharex=True)
    dress(top, "Learning curves", "", "loss")
    dress(bottom, "", "epoch", "accuracy")
    epochs = [epoch["epoch"] for epoch in history]
    for axes, what in ((top, "loss"), (bottom, "accuracy")):
        for split, colour, marker in (("train", ORANGE, "s"), ("val", BLUE, "o")):
            if all(f"{split}_{what}" in epoch for epoch in history):
                values = [epoch[f"{split}_{what}"] for epoch in history]
                axes.plot(
                    epochs,
                    values,
                    color=colour,
                    marker=marker,
                    markersize=4,
                    label={"train": "training", "val": "validation"}[split],
                )
        for before, after in pairwise(history):
            if before.get("phase") != after.get("phase"):
                axes.axvline(after["epoch"] - 0.5, color=FAINT, linestyle="--")
    top.set_ylim(bottom=0)
    legend(top, columns=2)
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    return png(figure)


def resplits(fnr: Floats, level: float, positives: int, tested: int, confidence: float | None = None) -> bytes:
    """Draw the missed share of `tested` images or groups on the test side of random splits, and its mean. fnr: (S,).

    `confidence`: of the bound; None for the bound on the mean.
    """
    figure, axes = titled_figure(f"Missed share over {len(fnr)} random splits", "false-negative rate on the test side", "splits")
    step = max(1, tested // 150)  # a bar for each rate that is possible, or for so many of them
    axes.hist(fnr, bins=(np.arange(-0.5, fnr.max() * tested + step, step) / tested).tolist(), color=BLUE, alpha=0.8)
    axes.axvline(fnr.mean(), color=ORANGE, label=f"mean {fnr.mean():.4f}")
    kind = "on the mean" if confidence is None else f"for {confidence:.0%} of the draws"
    axes.axvline(level, color=INK, linestyle="--", label=f"the bound {kind}, {level:g}")
    if confidence is None:
        axes.axvline(level - 2 / (positives + 1), color=FAINT, linestyle="--", label=f"{level:g} - 2 / ({positives} + 1)")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    legend(axes)
    return png(figure)


def threshold_cost(
    thresholds: Floats, costs: Mapping[str, Floats], decision: Decision, band: tuple[float, float], bayes: float
) -> bytes:
    """Draw the mean cost against the threshold.

    costs: by split, (M,) at `thresholds`; `band`: the review band's ends; `bayes`: the best threshold if scores were true.
    """
    score = "probability of the positive labels" if decision.positive else "confidence"
    figure, axes = titled_figure("What a threshold costs", f"threshold on the {score}", "mean cost of an image")
    low, high = max(0.0, band[0]), min(1.0, band[1])
    if high > low:
        axes.axvspan(low, high, color=BLUE, alpha=0.1, linewidth=0, label=f"review band {low:.3f} to {high:.3f}")
    for (split, cost), colour, style in zip(costs.items(), (BLUE, INK), ("-", ":"), strict=False):
        axes.plot(thresholds, cost, color=colour, linestyle=style, label=split)
    axes.axvline(bayes, color=FAINT, linestyle="--", label=f"Bayes threshold {bayes:.3f}")
    axes.axvline(decision.threshold, color=ORANGE, label=f"chosen threshold {decision.threshold:.3f}")
    axes.set(xlim=(0, 1))
    axes.set_ylim(bottom=0)
    legend(axes, columns=2)
    return png(figure)
