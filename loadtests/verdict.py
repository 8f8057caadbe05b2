"""Judge a run: a pure function of raw latencies and the SLO names every violation.

locust's own percentiles are not used: they come from latencies rounded to two digits, where 254 ms counts as 250.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.samples import Sample
from loadtests.slo import Slo

PERCENTS = (50, 95, 99)
ALL = "all protocols"


def percentile(values: Sequence[float], percent: int) -> float:
    """Compute the nearest-rank percentile: the smallest value that at least `percent` % of the values do not exceed.

    It is always a value that was measured, and never one between two of them: index ceil(percent / 100 · n) of the sorted
    values, counted from 1. `values` holds at least one; `percent` is 1 to 100. Among the nine definitions of Hyndman & Fan
    (Sample quantiles in statistical packages, 1996) it is the first.
    """
    rank = -(-percent * len(values) // 100)  # the ceiling, in whole numbers: 0.07 · 100 is 7.000000000000001 in binary
    return sorted(values)[rank - 1]


@dataclass(frozen=True)
class Violation:
    """Describes one limit that was not met. `where`: a protocol or all; `bound`, `seen`: in the unit that `measure` ends with."""

    where: str
    measure: str
    bound: float
    seen: float

    def __str__(self) -> str:
        relation = "<" if self.seen < self.bound else ">"
        return f"{self.where}: {self.measure} {show(self.seen)} {relation} {show(self.bound)}"


@dataclass(frozen=True)
class Figures:
    """Sums up the samples of one protocol, or of all.

    `latency_ms`: percent → milliseconds, infinite where that share was never answered right: a request that failed was
    not answered, however fast it failed. `throughput_per_s`: right answers, from the first due request to the last end.
    `late_p99_ms`: how late requests left; more than a few milliseconds mean that the generator, or its bound on requests
    in flight, was at its limit.
    """

    requests: int
    failures: dict[str, int]
    latency_ms: dict[int, float]
    throughput_per_s: float
    late_p99_ms: float

    @property
    def failed(self) -> int:
        """Return how many requests have no right answer."""
        return sum(self.failures.values())

    @property
    def error_rate(self) -> float:
        """Return the fraction of requests without a right answer."""
        return self.failed / self.requests


def summarise(samples: Sequence[Sample]) -> Figures:
    """Sum up at least one sample."""
    latencies = [math.inf if sample.failure else 1e3 * sample.latency_s for sample in samples]
    failures = Counter(sample.failure for sample in samples if sample.failure)
    seconds = max(sample.ended_s for sample in samples) - min(sample.due_s for sample in samples)
    right = len(samples) - failures.total()
    return Figures(
        requests=len(samples),
        failures=dict(failures.most_common()),
        latency_ms={percent: percentile(latencies, percent) for percent in PERCENTS},
        throughput_per_s=right / seconds if right else 0.0,
        late_p99_ms=1e3 * percentile([sample.late_s for sample in samples], 99),
    )


def by_protocol(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Group the samples by protocol."""
    return {name: [s for s in samples if s.protocol == name] for name in sorted({s.protocol for s in samples})}


def offers_enough(slo: Slo, offered_per_s: float | None) -> bool:
    """Tell whether so many requests a second can show that the throughput is kept; None: as many as are answered."""
    return offered_per_s is None or offered_per_s > slo.throughput_per_s


def judge(samples: Sequence[Sample], slo: Slo, offered_per_s: float | None = None) -> list[Violation]:
    """Name every violation: latency and errors of each protocol on its own, throughput of all together.

    The throughput is not judged where no more than its bound was offered: no server answers what nobody asks.
    """
    if not samples:
        return [Violation(ALL, "requests", 1, 0)]
    found = []
    for name, own in by_protocol(samples).items():
        figures = summarise(own)
        bounds = {50: slo.latency_ms.p50, 95: slo.latency_ms.p95, 99: slo.latency_ms.p99}
        found += [
            Violation(name, f"p{percent} ms", bound, figures.latency_ms[percent])
            for percent, bound in bounds.items()
            if figures.latency_ms[percent] > bound
        ]
        if figures.error_rate > slo.error_rate:
            found.append(Violation(name, "error rate", slo.error_rate, figures.error_rate))
    throughput = summarise(samples).throughput_per_s
    if offers_enough(slo, offered_per_s) and throughput < slo.throughput_per_s:
        found.append(Violation(ALL, "throughput per s", slo.throughput_per_s, throughput))
    return found


def show(value: float) -> str:
    """Format a number for people, to six digits; an infinite latency is an answer that never came."""
    return "never" if math.isinf(value) else f"{value:.6g}"
