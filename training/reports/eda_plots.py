"""The plots of a data set's report, in the style of the evaluation's."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from handlers.arrays import Floats
from training.data.tree import SPLITS
from training.reports.drawing import BLUE, FAINT, MOST_NAMES, ORANGE, SIZE, legend, png, short, titled_figure

COLOURS = dict(zip(SPLITS, (BLUE, "#7fb2dd", FAINT, ORANGE), strict=True))
BINS = 40


def balance(counts: Mapping[str, Counter[str]], split: bool) -> bytes:
    """Draw the number of images of each label, stacked by split. counts: by label and split."""
    labels = list(counts)
    figure, axes = titled_figure("Images of each label", "images", "", size=(SIZE[0], min(14.0, 1.8 + 0.25 * len(labels))))
    rows, left = np.arange(len(labels)), np.zeros(len(labels))
    for name in SPLITS if split else SPLITS[:1]:
        width = np.array([counts[label][name] for label in labels])
        axes.barh(rows, width, left=left, color=COLOURS[name], label=name)
        left += width
    axes.set_yticks([])
    if len(labels) <= MOST_NAMES:
        axes.set_yticks(rows, [short(label) for label in labels])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    if split:
        legend(axes, columns=4)
    return png(figure)


def sizes(width: Floats, height: Floats) -> bytes:
    """Draw width and height of every image in pixels, both (N,); a dot's area is how many images have this size."""
    figure, axes = titled_figure("Sizes", "width, pixels", "height, pixels")
    points = Counter(zip(width.tolist(), height.tolist(), strict=True))
    x, y = np.array(list(points)).T
    most = max(points.values())
    axes.scatter(x, y, s=[12 + 260 * n / most for n in points.values()], color=BLUE, alpha=0.5, linewidths=0)
    limit = 1.08 * max(x.max(), y.max())
    axes.plot([0, limit], [0, limit], color=FAINT, linestyle="--", label="square")
    axes.set(xlim=(0, limit), ylim=(0, limit))
    legend(axes)
    return png(figure)


def spread(title: str, x: str, values: Floats, outlying: Sequence[float], logarithmic: bool = False) -> bytes:
    """Draw a histogram. values: (N,); `outlying`: those of them that stand out, marked on the axis."""
    figure, axes = titled_figure(title, x, "images")
    bins, marked = BINS, np.asarray(outlying)
    if logarithmic and values.max() > values.min():
        bins = np.geomspace(max(values.min(), values.max() / 1e6, 1e-9), values.max(), BINS + 1)  # type: ignore[assignment]
        marked = np.maximum(marked, bins[0])  # type: ignore[index]  # 0 is nowhere on such an axis
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.hist(values, bins=bins, color=BLUE)
    if outlying:
        axes.plot(marked, np.zeros(len(marked)), "|", color=ORANGE, markersize=16, markeredgewidth=1.5, clip_on=False,
                  label=f"{len(outlying)} that stand out")  # fmt: skip
        legend(axes)
    return png(figure)
