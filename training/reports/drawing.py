"""What all plots share: colours, sizes, dressed axes, and PNG bytes that are the same for the same numbers."""

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, INK, FAINT, GRID = "#1f6fb2", "#d9730d", "#333333", "#c8ccd0", "#eceef0"
SIZE = (6.4, 4.6)
"""Width and height of a plot in inches."""
DPI = 120
MOST_NAMES = 40
"""Number of labels up to which their names can be read on an axis."""


def blank_figure(size: tuple[float, float] = SIZE) -> Figure:
    """Make an empty figure that no global state of matplotlib knows. size: width and height in inches."""
    figure = Figure(figsize=size, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def titled_figure(title: str, x: str, y: str, size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    """Make a figure with one pair of dressed axes. x, y: what they show."""
    figure = blank_figure(size)
    axes = figure.subplots()
    dress(axes, title, x, y)
    return figure, axes


def dress(axes: Axes, title: str, x: str, y: str) -> None:
    """Give axes their title, their names and the style of all plots."""
    axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.tick_params(colors=INK, length=0)
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)


def say(axes: Axes, sentence: str) -> None:
    """Write a sentence into the middle of axes that have nothing to show."""
    axes.text(0.5, 0.5, sentence, ha="center", va="center", color=INK, transform=axes.transAxes)


def verbatim(label: str) -> str:
    """Escape a label: matplotlib would set what stands between two dollar signs as a formula."""
    return label.replace("$", r"\$")


def png(figure: Figure) -> bytes:
    """Encode a figure as PNG."""
    buffer = io.BytesIO()
    # Without the version of matplotlib in the file's text, an update does not change every picture.
    figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()
