"""A connection over which the edge asks, whatever the protocol; subclasses write requests and read replies of their own."""

import asyncio
from typing import NamedTuple, cast


class Reply(NamedTuple):
    """A whole response. `behind_s`: the seconds that its request waited until the other end came to it."""

    status: int
    body: bytes
    behind_s: float = 0.0


class Connection(asyncio.Protocol):
    """One connection, open until it is closed by either end."""

    @property
    def open(self) -> bool:
        """Whether another request can be sent."""
        return not self._transport.is_closing()

    def close(self) -> None:
        """Close the connection at once, whatever is under way."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)
