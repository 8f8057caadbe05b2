"""Draw a run's figures as PNG bytes."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from loadtests.samples import Sample
from loadtests.slo import Slo
from loadtests.soak import MIB, SoakFigures
from loadtests.verdict import by_protocol

COLOURS = ("#1f6fb2", "#d9730d", "#4c9a5f")
INK, FAINT, BAD = "#333333", "#c8ccd0", "#b3261e"
SIZE, DPI, FONT = (5.0, 3.8), 160, 9  # inches, dots an inch, points


def latency_over_time(samples: Sequence[Sample], slo: Slo) -> bytes:
    """Plot each request's latency at the time that it was due, on a logarithmic axis; failures are crosses."""
    figure, axes = _figure("Latency over the run", "seconds since the start", "ms")
    for colour, (name, own) in zip(COLOURS, by_protocol(samples).items(), strict=False):
        right = [s for s in own if not s.failure]
        axes.plot([s.due_s for s in right], [1e3 * s.latency_s for s in right], ".", color=colour, ms=4, alpha=0.6, label=name)
    failed = [s for s in samples if s.failure]
    if failed:
        axes.plot([s.due_s for s in failed], [1e3 * s.latency_s for s in failed], "x", color=BAD, ms=4, label="failed")
    axes.axhline(slo.latency_ms.p99, color=FAINT, linestyle="--", label=f"p99 bound, {slo.latency_ms.p99:g} ms")
    axes.set_yscale("log")
    _write_out(axes.yaxis)
    _legend(axes)
    return _png(figure)


def latency_distribution(samples: Sequence[Sample], slo: Slo) -> bytes:
    """Plot the share of requests answered right within each latency; failures end it below 1. Crosses: the SLO's limits."""
    figure, axes = _figure("Requests answered right within a latency", "ms", "share of all requests")
    for colour, (name, own) in zip(COLOURS, by_protocol(samples).items(), strict=False):
        latencies = np.sort([1e3 * s.latency_s for s in own if not s.failure])
        axes.plot(latencies, np.arange(1, len(latencies) + 1) / len(own), color=colour, drawstyle="steps-post", label=name)
    bounds = slo.latency_ms
    axes.plot([bounds.p50, bounds.p95, bounds.p99], [0.50, 0.95, 0.99], "x", color=BAD, label="SLO")
    axes.set_xscale("log")
    _write_out(axes.xaxis)
    axes.set_ylim(0, 1.02)
    _legend(axes)
    return _png(figure)


def rates(samples: Sequence[Sample]) -> bytes:
    """Plot the requests due, answered right, refused and failed in each second."""
    figure, axes = _figure("Load and answers", "seconds since the start", "per second")
    last = max((s.ended_s for s in samples), default=0.0)
    edges = np.arange(0, last + 2)
    groups = {
        "due": (FAINT, [s.due_s for s in samples]),
        "answered right": (COLOURS[0], [s.ended_s for s in samples if not s.failure]),
        "refused": (COLOURS[1], [s.ended_s for s in samples if s.refused]),
        "failed otherwise": (BAD, [s.ended_s for s in samples if s.failure and not s.refused]),
    }
    for name, (colour, times) in groups.items():
        if times:
            axes.stairs(np.histogram(times, edges)[0], edges, color=colour, label=name, fill=name == "due", linewidth=1.5)
    _legend(axes)
    return _png(figure)


def memory(figures: SoakFigures) -> bytes:
    """Plot the memory of the server's processes."""
    figure, axes = _figure("Memory of the server", "seconds since the start", "MiB")
    axes.plot([at for at, _ in figures.memory], [size / MIB for _, size in figures.memory], color=COLOURS[0], label="resident")
    axes.set_ylim(bottom=0)
    _legend(axes)
    return _png(figure)


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=FONT + 1, fontweight="bold")
    axes.set_xlabel(x, color=INK, fontsize=FONT)
    axes.set_ylabel(y, color=INK, fontsize=FONT)
    axes.tick_params(colors=INK, labelsize=FONT)
    axes.grid(visible=True, color="#eceef0", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _write_out(axis: Axis) -> None:
    """Write 1, 2 and 5 of each power of ten at a logarithmic axis, and no powers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _legend(axes: Axes) -> None:
    """Name the curves below the axes."""
    handles, names = axes.get_legend_handles_labels()
    style = {"frameon": False, "fontsize": FONT, "labelcolor": INK, "ncols": 2}
    axes.figure.legend(handles, names, loc="outside lower center", **style)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
