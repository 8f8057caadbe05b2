"""What all plots share: colours, sizes, dressed axes, and PNG bytes that are the same for the same numbers."""

import io
import textwrap
import warnings

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, INK, FAINT, GRID = "#1f6fb2", "#d9730d", "#333333", "#c8ccd0", "#eceef0"
SIZE = (5.0, 3.8)
"""Width and height of a plot in inches. All plots are as wide, so that a page that scales them keeps one size of letters."""
FONT, DPI = 9, 160
MOST_NAMES = 40
"""Number of labels up to which their names can be read on an axis."""


def blank_figure(size: tuple[float, float] = SIZE) -> Figure:
    """Make an empty figure that no global state of matplotlib knows. size: width and height in inches."""
    figure = Figure(figsize=size, dpi=DPI, facecolor="white", layout="constrained")
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
    if title:
        title_of(axes.figure, title)  # type: ignore[arg-type]
    axes.set_xlabel("\n".join(textwrap.wrap(x, 60)), color=INK, fontsize=FONT)
    axes.set_ylabel("\n".join(textwrap.wrap(y, 40)), color=INK, fontsize=FONT)
    axes.tick_params(colors=INK, length=0, labelsize=FONT)
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)


def title_of(figure: Figure, title: str) -> None:
    """Set a figure's title, flush left and wrapped to its width."""
    wide = round(figure.get_figwidth() * 12)  # letters of a bold title that fit
    figure.suptitle("\n".join(textwrap.wrap(title, wide)), x=0.01, ha="left", color=INK, fontsize=FONT + 1, fontweight="bold")


def legend(axes: Axes, columns: int = 1) -> None:
    """Name the curves below the axes."""
    handles, names = axes.get_legend_handles_labels()
    style = {"frameon": False, "fontsize": FONT, "labelcolor": INK, "ncols": columns}
    axes.figure.legend(handles, names, loc="outside lower center", **style)


def say(axes: Axes, sentence: str) -> None:
    """Write a sentence into the middle of axes that have nothing to show."""
    axes.text(0.5, 0.5, sentence, ha="center", va="center", color=INK, fontsize=FONT, transform=axes.transAxes)


def short(label: str, most: int = 24) -> str:
    """Shorten a label, and escape it: matplotlib would set what stands between two dollar signs as a formula."""
    return verbatim(label if len(label) <= most else f"{label[: most - 1]}…")


def verbatim(label: str) -> str:
    """Escape a label: matplotlib would set what stands between two dollar signs as a formula."""
    return label.replace("$", r"\$")


def png(figure: Figure) -> bytes:
    """Encode a figure as PNG."""
    buffer = io.BytesIO()
    # Without the version of matplotlib in the file's text, an update does not change every picture.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter that the font lacks, as an emoji of a label, is drawn as a box
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
