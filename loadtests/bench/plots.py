"""A run's figures as PNG bytes."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from loadtests.bench.figures import Round
from loadtests.bench.growth import Curve

OURS, OTHERS, BASELINE, INK = "#1f6fb2", "#9aa5b1", "#d9730d", "#333333"
WIDTH, ROW, DPI = 9.0, 0.36, 110  # inches, inches, dots an inch


def latency(best: Mapping[str, Round]) -> bytes:
    """p50, p95 and p99 of each row: one request after the other, and at the open loop's rate."""
    figure, axes = _figure(2, len(best))
    for ax, prefix, title in zip(axes, ("", "open_"), ("One request at a time", "Arrivals at a fixed rate"), strict=True):
        for y, (row, figures) in enumerate(best.items()):
            values = [getattr(figures, f"{prefix}{name}_ms") for name in ("p50", "p95", "p99")]
            if None not in values:
                ax.plot(values, [y] * 3, "-", color=colour(row), linewidth=1.5)
                ax.scatter(values, [y] * 3, s=(60, 28, 12), color=colour(row), zorder=3)
        _rows(ax, best, f"{title}\np50, p95 and p99, ms")
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(ScalarFormatter())
    return _png(figure)


def cost(best: Mapping[str, Round]) -> bytes:
    """Throughput, CPU time of an image, memory and start-up of each row."""
    panels = {
        "throughput_per_s": ("Images a second, saturated", 1.0),
        "cpu_s_per_request": ("CPU of an image, ms", 1e3),
        "memory_mb": ("Memory, MB", 1.0),
        "start_s": ("Start to first answer, s", 1.0),
    }
    figure, axes = _figure(len(panels), len(best))
    for ax, (name, (title, scale)) in zip(axes, panels.items(), strict=True):
        values = [(getattr(figures, name) or 0.0) * scale for figures in best.values()]
        bars = ax.barh(range(len(best)), values, color=[colour(row) for row in best], height=0.62)
        ax.bar_label(bars, fmt="%.3g", fontsize=7, padding=2, color=INK)
        ax.margins(x=0.2)
        _rows(ax, best, title)
    return _png(figure)


def growth(curves: Sequence[Curve], label: str) -> bytes:
    """p50 and images a second of each curve, on logarithmic axes."""
    figure = Figure(figsize=(WIDTH, 4.2), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for number, curve in enumerate(curves):
        style = {"marker": "o", "markersize": 3, "linewidth": 1.3, "color": f"C{number % 10}", "label": curve.row}
        left.plot(curve.x, curve.p50_ms, **style)
        right.plot(curve.x, curve.images_per_s, **style)
    for ax, title in ((left, "p50, ms"), (right, "images a second")):
        ax.set_title(title, loc="left", fontsize=9, color=INK)
        ax.set_xlabel(label, fontsize=8, color=INK)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(ScalarFormatter())
        _plain(ax)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    return _png(figure)


def _figure(panels: int, rows: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(WIDTH, 1.2 + ROW * rows), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure, list(np.atleast_1d(figure.subplots(1, panels, sharey=True)))


def _rows(ax: Axes, rows: Mapping[str, Round], title: str) -> None:
    ax.set_yticks(range(len(rows)), list(rows), fontsize=8)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_title(title, loc="left", fontsize=9, color=INK)
    _plain(ax)


def _plain(ax: Axes) -> None:
    ax.tick_params(labelsize=7, colors=INK)
    ax.grid(visible=True, color="#eceef0", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def colour(row: str) -> str:
    """Of a row by its name: the project's own, the baseline's, or one for all others."""
    return OURS if row.startswith("visor") else BASELINE if row == "bare" else OTHERS


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()
