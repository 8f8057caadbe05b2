"""Which loop may move a release, by clocks that need not agree."""

import logging
import time
from collections.abc import Callable

from rollout.errors import RolloutBusy
from rollout.plan import FINAL
from rollout.record import Record

logger = logging.getLogger(__name__)

LEASE_S = 30.0
"""After which a loop that says nothing is taken for dead."""


def steady() -> Callable[[], float]:
    """A clock of seconds since the epoch that nobody sets back or forward while this process lasts."""
    began = time.time() - time.monotonic()
    return lambda: began + time.monotonic()


class Lease:
    """What a loop knows of another one that has a release. `me`: this one's name."""

    def __init__(self, release: str, me: str) -> None:
        self._release, self._me = release, me
        self._theirs: tuple[float, float] | None = None  # their `held_at`, and when it was first seen here

    def is_held(self, known: Record, now: float) -> bool:
        """Whether another loop may still be at work. Raises RolloutBusy where it is.

        Its node's clock may be ahead: a time to come counts from when it was first seen here.
        """
        if known.state.phase in FINAL or known.holder in ("", self._me):
            return False
        if self._theirs is None:
            self._theirs = known.held_at, now
            ago = "by a clock that is ahead of this one" if known.held_at > now else f"{now - known.held_at:.0f} s ago"
            if now - known.held_at < LEASE_S:
                logger.info("%s moved %s %s; waiting whether it still does", known.holder, self._release, ago)
        elif known.held_at != self._theirs[0]:
            raise RolloutBusy(f"{known.holder} moves {self._release} already; end that first")
        return now - min(self._theirs) < LEASE_S
