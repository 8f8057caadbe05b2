"""A connection over which the edge asks one thing at a time, whatever the protocol; subclasses read and write their own."""

import asyncio
from typing import NamedTuple, cast

from transformer.tensors import Buffer


class Reply(NamedTuple):
    """A whole response."""

    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """One connection with one request at a time. A subclass parses what comes and calls `_answer` or `fail`."""

    def __init__(self) -> None:
        self._reply: asyncio.Future[Reply] | None = None

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

    def _send(self, *parts: Buffer) -> "asyncio.Future[Reply]":
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.writelines(parts)
        return self._reply

    def _answer(self, reply: Reply) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(reply)

    def fail(self, err: ConnectionError) -> None:
        """Fail the request that is under way, if there is one, and close the connection at once."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(err)
        self._transport.abort()
