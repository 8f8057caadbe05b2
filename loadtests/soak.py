"""Judge a soak: latencies window by window, and whether the server's memory grows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtests.samples import Sample
from loadtests.verdict import Figures, Violation, summarise

WINDOWS = 30
"""So many windows has a soak: a minute each, in half an hour."""
WARM = 1 / 3
"""This part of the run is not looked at for growth: caches fill, heaps find their size."""
MOST_MIB_PER_MIN = 1.0
NOTHING_MIB_PER_MIN = 1e-6
"""A byte a minute, which is how exact a slope is computed."""
MIB = 1 << 20
Z = 1.959964
"""The quantile of the standard normal distribution of 97.5 %."""
WHERE = "soak"


@dataclass(frozen=True)
class Growth:
    """How fast memory grows, in MiB a minute, with its interval of 95 %, infinite where too little is known for one."""

    mib_per_min: float
    low: float
    high: float


@dataclass(frozen=True)
class SoakFigures:
    """A soak's figures. `rate`: requests a second; `windows`: (its start in seconds, what was due in it), in order.

    `memory`: (seconds, bytes) of the server's processes over the run, without any where they are not known; `growth`: of the
    last two thirds, None without memory.
    """

    rate: float
    windows: tuple[tuple[float, Figures], ...]
    memory: tuple[tuple[float, int], ...]
    growth: Growth | None


def measure(samples: Sequence[Sample], memory: Sequence[tuple[float, int]], rate: float, duration_s: float) -> SoakFigures:
    """Sum up a run of so many seconds."""
    length = duration_s / WINDOWS
    windows: dict[int, list[Sample]] = {}
    for sample in samples:
        windows.setdefault(int(sample.due_s / length), []).append(sample)
    warm = [(at, size) for at, size in memory if at >= WARM * duration_s]
    return SoakFigures(
        rate=rate,
        windows=tuple((number * length, summarise(own)) for number, own in sorted(windows.items())),
        memory=tuple(memory),
        growth=growth(means(warm, length)) if memory else None,
    )


def means(memory: Sequence[tuple[float, int]], window_s: float) -> list[tuple[float, float]]:
    """Average memory window by window: (minutes, MiB)."""
    windows: dict[int, list[tuple[float, int]]] = {}
    for at, size in memory:
        windows.setdefault(int(at / window_s), []).append((at, size))
    found = [np.array(own, dtype=np.float64).mean(axis=0) for _, own in sorted(windows.items())]
    return [(float(at) / 60, float(size) / MIB) for at, size in found]


def growth(points: Sequence[tuple[float, float]]) -> Growth:
    """Fit a line through (minutes, MiB) by least squares, and its slope's interval.

    What memory does in one window it mostly does in the next, too, so that the points are worth fewer: by the residuals'
    correlation r from one to the next, n (1 - r) / (1 + r) of them (Santer et al. 2000, J. Geophys. Res. 105, section 4), which
    count for the residuals' variance and the degrees of freedom of Student's distribution.
    """
    if len(points) < 3:
        return Growth(math.nan, -math.inf, math.inf)
    x, y = np.array(points, dtype=np.float64).T
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread
    residuals = y - y.mean() - slope * centred
    rest = float(residuals @ residuals)
    if rest <= 1e-12 * max(1.0, float(y @ y)):  # all on one line
        return Growth(slope, slope, slope)
    r = max(0.0, float(residuals[1:] @ residuals[:-1]) / rest)
    freedom = len(points) * (1 - r) / (1 + r) - 2
    if freedom < 3:
        return Growth(slope, -math.inf, math.inf)
    half = student(freedom) * math.sqrt(rest / freedom / spread)
    return Growth(slope, slope - half, slope + half)


def student(freedom: float) -> float:
    """Approximate the 97.5 % quantile of Student's distribution, 3 degrees of freedom or more (Abramowitz, Stegun 26.7.5)."""
    z = Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))


def judge_soak(figures: SoakFigures) -> list[Violation]:
    """Name the violation of a server whose memory grows by MOST_MIB_PER_MIN or more, or surely grows at all."""
    grown = figures.growth
    if grown is None or math.isnan(grown.mib_per_min):
        return []
    if grown.mib_per_min >= MOST_MIB_PER_MIN:
        return [Violation(WHERE, "memory MiB/min", MOST_MIB_PER_MIN, grown.mib_per_min)]
    return [Violation(WHERE, "lower end of memory MiB/min", 0.0, grown.low)] if grown.low > NOTHING_MIB_PER_MIN else []
