"""Judge an overload: how much was still answered, how fast the rest was refused, how soon the server recovered."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.samples import Sample
from loadtests.slo import Slo
from loadtests.verdict import Violation, percentile

WINDOW_S = 1.0
WHERE = "overload"


@dataclass(frozen=True)
class OverloadFigures:
    """Holds an overload's figures.

    `capacity_per_s`: right answers a second in the closed loop just before; `goodput_per_s`: those during the overload.
    `refused`: how many were; `refused_p99_ms`: how long 99 of 100 of them took, counted from when they left, since the
    generator's own lateness is no fault of the server (0 where none was refused). `failed`: requests of the overload that
    were neither answered right nor refused. `recovery_s`: infinite where the run ended first.
    """

    capacity_per_s: float
    offered: int
    goodput_per_s: float
    refused: int
    refused_p99_ms: float
    failed: int
    recovery_s: float

    @property
    def goodput(self) -> float:
        """Return the right answers as a fraction of the capacity."""
        return self.goodput_per_s / self.capacity_per_s


def measure(samples: Sequence[Sample], capacity_per_s: float, overload_s: float, slo: Slo) -> OverloadFigures:
    """Measure a run that was overloaded until `overload_s` and lightly loaded from then on."""
    offered = [sample for sample in samples if sample.due_s < overload_s]
    refusals = [1e3 * (sample.ended_s - sample.sent_s) for sample in offered if sample.refused]
    answered = sum(not sample.failure and sample.ended_s <= overload_s for sample in samples)
    return OverloadFigures(
        capacity_per_s=capacity_per_s,
        offered=len(offered),
        goodput_per_s=answered / overload_s,
        refused=len(refusals),
        refused_p99_ms=percentile(refusals, 99) if refusals else 0.0,
        failed=sum(bool(sample.failure) and not sample.refused for sample in offered),
        recovery_s=_recovery(samples, overload_s, slo.latency_ms.p95),
    )


def judge_overload(figures: OverloadFigures, slo: Slo) -> list[Violation]:
    """Name every violation of the SLO's overload limits."""
    bounds = slo.overload
    found = []
    if figures.goodput < bounds.goodput:
        found.append(Violation(WHERE, "goodput of capacity", bounds.goodput, figures.goodput))
    if figures.refused_p99_ms > bounds.refused_p99_ms:
        found.append(Violation(WHERE, "refused p99 ms", bounds.refused_p99_ms, figures.refused_p99_ms))
    if figures.offered and figures.failed / figures.offered > slo.error_rate:
        found.append(Violation(WHERE, "failed but not refused, rate", slo.error_rate, figures.failed / figures.offered))
    if figures.recovery_s > bounds.recovery_s:
        found.append(Violation(WHERE, "recovery s", bounds.recovery_s, figures.recovery_s))
    return found


def _recovery(samples: Sequence[Sample], overload_s: float, p95_ms: float) -> float:
    """Measure the seconds from the overload's end to the end of the first second with all requests answered right and in time.

    In time: their 95th percentile, from when they were due, is at most `p95_ms`. A second without requests says nothing.
    """
    windows: dict[int, list[Sample]] = {}
    for sample in samples:
        if sample.due_s >= overload_s:
            windows.setdefault(int((sample.due_s - overload_s) / WINDOW_S), []).append(sample)
    for number, own in sorted(windows.items()):
        if not any(s.failure for s in own) and 1e3 * percentile([s.latency_s for s in own], 95) <= p95_ms:
            return (number + 1) * WINDOW_S
    return math.inf
