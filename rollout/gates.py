"""What of a canary is compared: counted events, each with the difference that a release may have. docs/rollout.md."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Count:
    """Events of one track, and of how many: errors of requests, flagged ones of images."""

    events: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.events <= self.total:
            raise ValueError(f"{self.events} events of {self.total} cannot be: counts are 0 <= events <= total")

    def __add__(self, other: Self) -> "Count":
        return Count(self.events + other.events, self.total + other.total)


@dataclass(frozen=True)
class Gate:
    """An event by which a canary is judged; shares are of requests or images, in [0, 1].

    `margin`: a canary that has as many more than the stable release is promoted with probability alpha at most. `tolerance`: one
    that has at most as many more is rolled back with probability alpha at most, over all gates. `paired`: compared with the
    stable release at the same time; else the canary's own share is held against the margin, which then is both. Of images one
    of each request is counted, as a request's images may share one fate.
    """

    name: str
    margin: float
    tolerance: float
    unit: str = "requests"
    paired: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise ValueError(f"gate {self.name}: a margin of {self.margin} is not within 0 and 1")
        if not 0 <= self.tolerance <= self.margin:
            raise ValueError(f"gate {self.name}: a tolerance of {self.tolerance} is not within 0 and the margin {self.margin}")


GATES = (
    Gate("errors", margin=0.005, tolerance=0.001),
    Gate("refusals", margin=0.005, tolerance=0.001, unit="images"),
    Gate("slow", margin=0.02, tolerance=0.01, unit="answers"),  # than the SLO's bound
    Gate("slower", margin=0.02, tolerance=0.01, unit="answers"),  # than nearly all of the stable release's last answers
    Gate("flagged", margin=0.05, tolerance=0.005, unit="images"),
    Gate("reviewed", margin=0.05, tolerance=0.005, unit="images"),
    Gate("disagreement", margin=0.05, tolerance=0.05, unit="images", paired=False),  # with the stable release, of the same image
)
"""The latency gates tolerate more, as pods of one release differ by where they run; flags less, so that 20 -> 25 % is found."""
