"""The edge asks TorchServe's workers itself: each listens on a Unix socket in a folder that both know, for one image at a time.

`visor/serving/worker.py` is the other end and says why. Where the folder is missing or another user's, where the archive is
an older one, or where a worker has just died, no worker can be asked, and the caller goes through TorchServe. A worker is asked
for the first time once it has answered a question about nothing, so that one that hangs takes one image and no second one.
"""

import asyncio
import logging
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson

from transformer.tensors import Buffer
from transformer.upstream.connection import Connection, Reply

logger = logging.getLogger(__name__)

LENGTHS = struct.Struct("!II")
GREETING_S = 0.5
"""How long `connect_new` waits for a new worker's first answer, which then may come later."""
HANG_S = 10.0
"""Without an answer for so long a worker hangs; `visor.serving` kills it after the same time."""


class Workers:
    """Connections to the workers whose sockets are in `folder`; without a folder there are none.

    Call `connect_new` now and then. `on_change` is called when a worker has come or gone.
    """

    def __init__(self, folder: Path | None, on_change: Callable[[], None] = lambda: None, hang_s: float = HANG_S) -> None:
        self._on_change = on_change
        self._folder = folder
        self._hang_s = hang_s
        self._connections: dict[str, _Connection] = {}
        self._working: set[_Connection] = set()  # those of them that have answered
        self._idle: list[_Connection] = []  # those of these that nothing is asked
        self._hung: set[str] = set()

    def __len__(self) -> int:
        return len(self._working)

    @property
    def hang(self) -> bool:
        """Whether all workers hang that could be asked."""
        return bool(self._hung) and not self._working

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._connections.values()):
            connection.close()

    def begin(self, headers: Mapping[str, str], body: Buffer) -> "asyncio.Future[Reply] | None":
        """Ask an idle worker and return the reply to come; None where no worker is idle.

        The reply fails with ConnectionError when the worker dies meanwhile or hangs. Cancelled, it closes its connection.
        """
        if not self._idle:
            return None
        connection = self._idle.pop()
        reply = connection.exchange(orjson.dumps(headers), body)
        timer = asyncio.get_running_loop().call_later(self._hang_s, self._leave, connection)

        def end(reply: "asyncio.Future[Reply]") -> None:
            timer.cancel()
            if reply.cancelled():
                self._forget(connection)
                connection.close()
            elif connection.open:
                self._idle.append(connection)

        reply.add_done_callback(end)
        return reply

    async def connect_new(self) -> None:
        """Connect to the workers that are new in the folder, and anew to those that hung."""
        if self._folder is None:
            return
        names = _names(self._folder)
        self._hung &= names
        for name in names - self._connections.keys():
            await self._connect(name)

    async def _connect(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_unix_connection(lambda: _Connection(self._forget), f"{self._folder}/{name}")
        except OSError as err:  # the worker has ended, and its socket stays
            logger.debug("worker %s cannot be asked: %s", name, err)
            self._hung.discard(name)
            return
        if name in self._connections:  # another call has connected meanwhile
            connection.close()
            return
        self._connections[name] = connection
        greeting = connection.exchange(b"", b"")
        greeting.add_done_callback(lambda greeting: self._greeted(name, connection, greeting))
        await asyncio.wait([greeting], timeout=GREETING_S)

    def _greeted(self, name: str, connection: "_Connection", greeting: "asyncio.Future[Reply]") -> None:
        if greeting.cancelled() or greeting.exception():
            return  # it has ended
        self._hung.discard(name)
        if greeting.result().status == 200:  # else its archive is older, and it is asked through TorchServe alone
            self._working.add(connection)
            self._idle.append(connection)
        self._on_change()

    def _leave(self, connection: "_Connection") -> None:
        """Leave a worker that hangs to who kills it: its image gets an error, and the others go to other workers."""
        self._hung |= {name for name, one in self._connections.items() if one is connection}
        self._forget(connection)  # before its turn goes to another image
        connection.fail(ConnectionError(f"the worker has not answered for {self._hang_s:g} s"))

    def _forget(self, lost: "_Connection") -> None:
        self._connections = {name: one for name, one in self._connections.items() if one is not lost}
        self._working.discard(lost)
        self._idle = [one for one in self._idle if one is not lost]
        self._on_change()


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return set()


class _Connection(Connection):
    """One worker, one image at a time."""

    def __init__(self, on_lost: "Callable[[_Connection], None]") -> None:
        super().__init__()
        self._on_lost = on_lost
        self._received = bytearray()

    def exchange(self, head: bytes, body: Buffer) -> "asyncio.Future[Reply]":
        self._received.clear()
        return self._send(LENGTHS.pack(len(head), len(body)), head, body)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) < LENGTHS.size:
            return
        status, length = LENGTHS.unpack_from(self._received)
        if len(self._received) >= LENGTHS.size + length:
            self._answer(Reply(status, bytes(self._received[LENGTHS.size :])))

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost(self)
        self.fail(ConnectionResetError(f"the worker ended before its answer{f' ({exc})' if exc else ''}"))
