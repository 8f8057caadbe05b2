"""One client's connection, below HTTP: its flow in both directions, how long its client is waited for, and its end."""

import asyncio
import fcntl
import sys
import termios
from dataclasses import dataclass
from typing import Any, cast

from uvicorn.server import ServerState

LINGER_BYTES = 256 << 20
"""The largest rest of a refused body that is thrown away."""


@dataclass(frozen=True)
class Patience:
    """How long a client is waited for, in seconds.

    `head_s`: for a whole head, from the connection's begin or the last answer. `body_s`: for a whole body. `grace_s`: for a
    body's bytes, plus a second for each `min_rate` of them that have come. `unread_s`: for any of an answer to be read.
    `linger_s`: for the end of a body that was refused.
    """

    head_s: float = 75.0
    body_s: float = 60.0
    grace_s: float = 20.0
    min_rate: int = 4 << 10
    unread_s: float = 30.0
    linger_s: float = 5.0


class Connection(asyncio.Protocol):
    """One client's connection. What is read from it, and what a client that sends nothing is waited for, its subclass says."""

    def __init__(self, server: ServerState, loop: asyncio.AbstractEventLoop, patience: Patience) -> None:
        self.gone = False
        self._server = server
        self._loop = loop
        self._patience = patience
        self._rest = b""  # what was read and not parsed
        self._deaf = False  # what comes is thrown away
        self._lingering = False
        self._closing = False
        self._paused = False
        self._stopping = False
        self._unread = 0
        self._drained: asyncio.Future[None] | None = None  # while the client has to read before more is sent
        self._deadline = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait for the first head."""
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(cast(Any, self))
        self._wait(self._patience.head_s)

    def connection_lost(self, _: Exception | None) -> None:
        """Stop waiting."""
        self._server.connections.discard(cast(Any, self))
        self.gone = self._deaf = True
        if self._timer is not None:
            self._timer.cancel()
        self._rest = b""
        self.resume_writing()

    def pause_writing(self) -> None:
        """Send no more until the client has read, and give it a time for that."""
        if self._drained is None:
            self._drained = self._loop.create_future()
            self._unread = self._count_unread()
            self._wait(self._patience.unread_s)

    def resume_writing(self) -> None:
        """Send on."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # What an exchange calls.

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._transport.write(data)

    async def written(self) -> None:
        """Wait until the client has read most of what was sent."""
        while self._drained is not None:
            await self._drained

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self._rest and not self.gone:
            self._paused = False
            self._transport.resume_reading()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    # The end.

    def _linger(self) -> None:
        """Read and throw away what still comes, for a while: closed at once, the client would be reset before its answer."""
        self._deaf = self._lingering = True
        self._unread = LINGER_BYTES
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._rest = b""
        self.resume()
        self._wait(min(self._patience.linger_s, 1.0) if self._stopping else self._patience.linger_s)

    def _throw_away(self, size: int) -> None:
        if self._lingering:
            self._unread -= size
            if self._unread < 0:
                self._close()

    def _close(self) -> None:
        """Close the connection once what was sent has been read, and break it where that takes too long."""
        self._closing = self._deaf = True
        self._transport.close()
        self._wait(self._patience.unread_s)

    # The times.

    def _wait(self, seconds: float | None) -> None:
        """Look after this many seconds whether the client has done what it is waited for; None: there is nothing to wait for."""
        if seconds is None:
            self._deadline = float("inf")
            return
        self._deadline = when = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > when:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        if now < self._deadline:  # it was moved: one timer serves many requests
            if self._deadline != float("inf"):
                self._timer = self._loop.call_at(self._deadline, self._look)
        elif self._closing:
            self._transport.abort()
        elif self._lingering:
            self._close()
        elif self._drained is not None:
            self._look_at_reader()
        else:
            self._look_at_request(now)

    def _look_at_request(self, now: float) -> None:
        """Decide about a client that has not sent in time what it was waited for; `now`: of the loop's clock."""
        raise NotImplementedError

    def _look_at_reader(self) -> None:
        unread = self._count_unread()
        if unread >= self._unread:
            self._transport.abort()
            return
        self._unread = unread
        self._wait(self._patience.unread_s)

    def _count_unread(self) -> int:
        """The bytes that the client's machine has not acknowledged: here and in the kernel, whose part moves in smaller steps."""
        queued = bytearray(4)
        fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        return self._transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)
