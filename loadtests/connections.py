"""Keep connected clients for the next request, as long as their servers keep the connections."""

import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

IDLE_S = 2.0
"""A connection idle for longer is not used again: servers close theirs (uvicorn after 5 s), and a request must not race that."""


class Closable(Protocol):
    """Has a connection that can be closed, and made anew."""

    def close(self) -> None:
        """Close the connection."""
        ...


C = TypeVar("C", bound=Closable)


class Connections(Generic[C]):
    """Holds as many clients as were ever needed at once; the last used is used next, so that a light load needs few."""

    def __init__(self, connect: Callable[[], C], clock: Callable[[], float] = time.monotonic) -> None:
        self._connect = connect
        self._clock = clock
        self._idle: list[tuple[float, C]] = []

    def take(self) -> C:
        """Take a client for one request, which the caller gives back or closes."""
        if self._idle and self._clock() - self._idle[-1][0] <= IDLE_S:
            return self._idle.pop()[1]
        self.close()  # all others are idle for longer still
        return self._connect()

    def give_back(self, client: C) -> None:
        """Give a client back for the next request."""
        self._idle.append((self._clock(), client))

    def close(self) -> None:
        """Close all idle clients."""
        while self._idle:
            self._idle.pop()[1].close()
