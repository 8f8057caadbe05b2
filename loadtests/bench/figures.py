"""Figures of a load, and which of several rounds counts. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np

# A machine that others use too only ever makes a round worse: the best round is the nearest to what a server can do.
LARGER_IS_BETTER = frozenset({"throughput_per_s"})
COUNTS = ("failures", "open_failures")
"""Added up over the rounds."""


@dataclass(frozen=True)
class Load:
    """What one loop measured: seconds of each answered request, how long the loop took, and what was not answered right."""

    latencies_s: Sequence[float]
    elapsed_s: float
    failures: int = 0


@dataclass(frozen=True)
class Round:
    """One server's figures in one round; None for what was not measured.

    p50, p95 and p99 are of one request after the other, `open_*` of arrivals at a fixed rate, counted from when each was due.
    `throughput_per_s`, `cpu_s_per_request` (of the server's whole process tree) and `memory_mb` (its proportional share, of
    all processes, in units of 10^6 bytes) are under saturation. `failures`: of the loops that wait for answers;
    `open_failures`: of the arrivals, which a server that cannot keep up may refuse.
    """

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    open_p50_ms: float | None = None
    open_p95_ms: float | None = None
    open_p99_ms: float | None = None
    throughput_per_s: float | None = None
    cpu_s_per_request: float | None = None
    memory_mb: float | None = None
    start_s: float | None = None
    failures: int = 0
    open_failures: int = 0

    @classmethod
    def best(cls, rounds: Sequence[Self]) -> Self:
        """Each figure's best value over the rounds, on its own; failures are added up."""
        values: dict[str, Any] = {name: sum(getattr(one, name) for one in rounds) for name in COUNTS}
        for name in figure_names():
            seen = [value for one in rounds if (value := getattr(one, name)) is not None]
            values[name] = (max if name in LARGER_IS_BETTER else min)(seen, default=None)
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def figure_names() -> list[str]:
    """The fields of a Round that are measured values."""
    return [field.name for field in fields(Round) if field.name not in COUNTS]


def percentiles_ms(load: Load) -> tuple[float, float, float]:
    """(p50, p95, p99) in milliseconds, interpolated; NaN where nothing was answered."""
    if not load.latencies_s:
        return (float("nan"),) * 3
    p50, p95, p99 = np.percentile(load.latencies_s, [50, 95, 99]) * 1e3
    return float(p50), float(p95), float(p99)


def throughput(load: Load) -> float:
    """Answered requests a second."""
    return len(load.latencies_s) / load.elapsed_s


def merged(loads: Sequence[Load]) -> Load:
    """Loops that ran side by side, as one."""
    return Load(
        [latency for load in loads for latency in load.latencies_s],
        max(load.elapsed_s for load in loads),
        sum(load.failures for load in loads),
    )


def in_turns(names: Sequence[str], rounds: int) -> list[list[str]]:
    """The order of each round: there and back again, so that no server always follows the same one."""
    return [list(names) if number % 2 == 0 else list(reversed(names)) for number in range(rounds)]


def ratio(rows: Mapping[str, Round], name: str, baseline: str, figure: str) -> float | None:
    """A row's figure over the baseline's; None where one of them is missing."""
    ours, theirs = (getattr(rows[row], figure) if row in rows else None for row in (name, baseline))
    return ours / theirs if ours is not None and theirs else None
