"""Find the highest rate of requests at which a server keeps the SLO: a bounded search over rates, each of a window of its own."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from loadtests.slo import Slo
from loadtests.verdict import Violation

GROWTH = 1.5
"""From a rate to the next one, as long as the capacity lies on one side of all that were tried."""
PRECISION = 0.05
"""By which share the lowest rate that fails may be above the highest that holds."""
MOST_STEPS = 12
LEAST_PER_S = 0.5
"""Below this a server is not searched any further."""
WHERE = "capacity"


@dataclass(frozen=True)
class Step:
    """One rate, and whether the SLO held. `violated`: what did not; `answered_per_s`: right answers; `p99_ms`: of all requests.

    `server_cpu_s`, `client_cpu_s`: CPU seconds for each right answer, None where the server's processes are not known.
    """

    rate: float
    violated: tuple[str, ...]
    answered_per_s: float
    p99_ms: float
    server_cpu_s: float | None = None
    client_cpu_s: float = 0.0


@dataclass(frozen=True)
class Capacity:
    """What a search has found. `per_s`: the highest rate that held, 0 for none; `steps`: all that were tried, in order.

    `cores`: how many CPUs the client may use, which are the server's too where both are on one machine.
    """

    per_s: float
    steps: tuple[Step, ...]
    cores: int

    @property
    def best(self) -> Step | None:
        """The step of that rate."""
        return next((step for step in self.steps if step.rate == self.per_s and not step.violated), None)

    @property
    def busy(self) -> float | None:
        """Which share of the cores server and client have used at the capacity; None where the server's are not known."""
        if self.best is None or self.best.server_cpu_s is None:
            return None
        return self.best.answered_per_s * (self.best.server_cpu_s + self.best.client_cpu_s) / self.cores


def search(measure: Callable[[float], Step], first: float, most: float, cores: int) -> Capacity:
    """Search the capacity from the rate `first` on, in MOST_STEPS steps at most, no rate above `most`.

    A rate that holds is followed by a higher one and one that fails by a lower one, GROWTH times or, between one that held and
    one that failed, their geometric mean, until they are PRECISION apart.
    """
    steps: list[Step] = []
    held, failed, rate = 0.0, math.inf, max(LEAST_PER_S, min(first, most))
    while len(steps) < MOST_STEPS and rate >= LEAST_PER_S:
        steps.append(measure(rate))
        if steps[-1].violated:
            failed = rate
        else:
            held = rate
        if held >= most or failed <= held * (1 + PRECISION):
            break
        rate = _next(held, failed, rate, most)
    return Capacity(held, tuple(steps), cores)


def _next(held: float, failed: float, rate: float, most: float) -> float:
    if not held:
        return rate / GROWTH
    return math.sqrt(held * failed) if failed < math.inf else min(rate * GROWTH, most)


def judge_capacity(found: Capacity, slo: Slo) -> list[Violation]:
    """Name the violation of a server whose capacity is below the throughput that the SLO asks for, or which has none."""
    if found.per_s < slo.throughput_per_s or not found.per_s:
        return [Violation(WHERE, "requests per s", slo.throughput_per_s or LEAST_PER_S, found.per_s)]
    return []
