"""TorchServe's workers, asked by the edge itself: one Unix socket each, in a folder that both know, one image at a time.

`visor/worker.py` is the other end and says why. A folder that is not there or not ours, an older archive, a worker that has
just died: then there is nobody to ask, and the caller goes through TorchServe.
"""

import asyncio
import logging
import os
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import orjson

from transformer.loopback import Reply
from transformer.tensors import Buffer

logger = logging.getLogger(__name__)

LENGTHS = struct.Struct("!II")
# Between two looks for workers that were started anew.
LOOK_S = 1.0


class Workers:
    """Connections to the workers whose sockets are in `folder`; without a folder there are none.

    `on_change` is called when a worker has come or gone.
    """

    def __init__(self, folder: Path | None) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._folder = folder
        self._connections: dict[str, _Connection] = {}
        self._idle: list[_Connection] = []
        self._look_at = 0.0
        self._looking: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def close(self) -> None:
        """Close the connections."""
        for connection in list(self._connections.values()):
            connection.close()

    def begin(self, headers: Mapping[str, str], body: Buffer) -> "asyncio.Future[Reply] | None":
        """Ask a worker that has nothing else to do, None where there is none.

        The reply to come fails with ConnectionError when the worker dies meanwhile. Cancelled, it closes its connection.
        """
        if self._folder is not None and self._look_due():
            self._looking = asyncio.create_task(self.look())  # for the calls to come
        if not self._idle:
            return None
        connection = self._idle.pop()
        reply = connection.exchange(orjson.dumps(headers), body)

        def end(reply: "asyncio.Future[Reply]") -> None:
            if reply.cancelled():
                connection.close()
            elif connection.open:
                self._idle.append(connection)

        reply.add_done_callback(end)
        return reply

    async def look(self) -> None:
        """Connect to workers that are new, once in a while."""
        if self._folder is None or not self._look_due():
            return
        self._look_at = time.monotonic() + LOOK_S
        for name in _names(self._folder) - self._connections.keys():
            await self._connect(name)

    def _look_due(self) -> bool:
        return time.monotonic() >= self._look_at

    async def _connect(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_unix_connection(lambda: _Connection(self._forget), f"{self._folder}/{name}")
        except OSError as err:  # a worker's that has ended: its socket stays
            logger.debug("worker %s cannot be asked: %s", name, err)
            return
        if name in self._connections:  # somebody else looked at the same time
            connection.close()
            return
        self._connections[name] = connection
        self._idle.append(connection)
        self.on_change()

    def _forget(self, lost: "_Connection") -> None:
        self._connections = {name: one for name, one in self._connections.items() if one is not lost}
        self._idle = [one for one in self._idle if one is not lost]
        self.on_change()


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return set()


class _Connection(asyncio.Protocol):
    """One worker, one image at a time."""

    def __init__(self, on_lost: "Callable[[_Connection], None]") -> None:
        self._on_lost = on_lost
        self._received = bytearray()
        self._reply: asyncio.Future[Reply] | None = None

    @property
    def open(self) -> bool:
        return not self._transport.is_closing()

    def close(self) -> None:
        self._transport.abort()

    def exchange(self, head: bytes, body: Buffer) -> "asyncio.Future[Reply]":
        self._received.clear()
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.writelines((LENGTHS.pack(len(head), len(body)), head, body))
        return self._reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) < LENGTHS.size:
            return
        status, length = LENGTHS.unpack_from(self._received)
        if len(self._received) >= LENGTHS.size + length and self._reply is not None and not self._reply.done():
            self._reply.set_result(Reply(status, bytes(self._received[LENGTHS.size :])))

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost(self)
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(ConnectionResetError(f"the worker ended before its answer{f' ({exc})' if exc else ''}"))
