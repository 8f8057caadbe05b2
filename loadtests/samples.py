"""Record what became of each request, as raw as it was measured."""

import csv
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """Records one request. Times are seconds since the run began.

    `due_s`: when it should have left: by the schedule in an open loop, which is earlier than `sent_s` when the generator or
    the server was behind; in a closed loop the two are the same. `failure`: empty for a right answer, else a code: the
    server's own, `payload.*` for an answer that is wrong, or `client.*` where there was none. `refused`: the server said
    that it is full (HTTP 503, RESOURCE_EXHAUSTED).
    """

    protocol: str
    due_s: float
    sent_s: float
    ended_s: float
    failure: str = ""
    refused: bool = False

    @property
    def latency_s(self) -> float:
        """Return the seconds from when the request was due: a queue before a slow server counts (no coordinated omission)."""
        return self.ended_s - self.due_s

    @property
    def late_s(self) -> float:
        """Return how many seconds the request left too late."""
        return self.sent_s - self.due_s


def write(samples: Iterable[Sample], path: Path) -> None:
    """Write all samples as CSV, one row a request, in the order of their ends."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(field.name for field in fields(Sample))
        rows.writerows(astuple(sample) for sample in samples)
