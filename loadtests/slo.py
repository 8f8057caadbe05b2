"""Read `slo.yaml`, which says what a served classifier promises, to this verdict and to charts and canary gates alike."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from loadtests import documents
from loadtests.documents import Document
from loadtests.errors import SloInvalid

DEFAULT = Path(__file__).with_name("slo.yaml")
Milliseconds = Annotated[float, Field(gt=0)]


class LatencyBounds(Document):
    """Bounds, in milliseconds, by which 50, 95 and 99 % of all requests must have a right and whole answer."""

    p50: Milliseconds
    p95: Milliseconds
    p99: Milliseconds

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        if not self.p50 <= self.p95 <= self.p99:
            raise ValueError(f"p50 {self.p50:g} ≤ p95 {self.p95:g} ≤ p99 {self.p99:g} does not hold")
        return self


class OverloadBounds(Document):
    """Bounds what must hold at a multiple of the capacity.

    `goodput`: right answers a second, as a fraction of the capacity. `refused_p99_ms`: 99 of 100 refusals come within
    it. `recovery_s`: seconds after the overload until a whole second of traffic is answered within `latency_ms.p95`.
    """

    goodput: float = Field(gt=0, le=1)
    refused_p99_ms: Milliseconds
    recovery_s: float = Field(gt=0)


class Slo(Document):
    """Holds the promise. `error_rate`: largest fraction without a right answer; `throughput_per_s`: fewest right answers."""

    latency_ms: LatencyBounds
    error_rate: float = Field(ge=0, lt=1)
    throughput_per_s: float = Field(ge=0)
    overload: OverloadBounds


def load_slo(path: Path = DEFAULT) -> Slo:
    """Load an SLO. Raises SloInvalid, which names each wrong key."""
    return documents.load(path, Slo, SloInvalid)
