"""The edge asks TorchServe's workers itself: each listens on a Unix socket in a folder that both know.

`visor/serving/worker.py` is the other end and says why; `worker.py` beside this module is one connection. Where the folder is
missing or another user's, where the archive is an older one, or where a worker has just died, no worker can be asked, and images
go through TorchServe. A worker is asked for the first time once it has answered a question about nothing, so that one that hangs
takes one image and no second one.
"""

import asyncio
import bisect
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from transformer.tensors import Buffer
from transformer.upstream.connection import Reply
from transformer.upstream.worker import READS_ONE, Exchange, Worker

logger = logging.getLogger(__name__)

GREETING_S = 0.5
"""How long `connect_new` waits for a new worker's first answer, which then may come later."""
HANG_S = 10.0
"""Without an answer for so long a worker hangs; `visor.serving` kills it after the same time."""
AT_HAND_BYTES = 128 << 10
"""A larger image waits here until a worker is idle: it would not fit into the socket, and the edge would keep it until it is
answered. A round trip is nothing beside the time that such an image takes."""

Elsewhere = Callable[[Mapping[str, str], Buffer], "asyncio.Future[Reply]"]
"""How to ask about an image where no worker can be asked."""


class Workers:
    """Connections to the workers whose sockets are in `folder`; without a folder there are none.

    An image goes to an idle worker; where none is, behind the image of the one that has been at its own for longest; where each
    has two, it waits for a place. A worker that is idle while nothing waits takes the image behind one that takes long, perhaps
    because its worker hangs. Call `connect_new` now and then. `on_change` is called when a worker has come or gone.
    """

    def __init__(
        self, folder: Path | None, elsewhere: Elsewhere, on_change: Callable[[], None] = lambda: None, hang_s: float = HANG_S
    ) -> None:
        self._elsewhere = elsewhere
        self._on_change = on_change
        self._folder = folder
        self._hang_s = hang_s
        self._connections: dict[str, Worker] = {}
        self._working: list[Worker] = []  # those of them that have answered
        self._waiting: deque[Exchange] = deque()
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

    def begin(self, headers: Mapping[str, str], body: Buffer) -> "asyncio.Future[Reply]":
        """Ask about an image and return the reply to come.

        The reply fails with ConnectionError when the worker that is at the image dies or hangs. One that the worker has not
        begun with is asked about anew, once. A reply that is cancelled is dropped when it comes.
        """
        if not self._working:
            return self._elsewhere(headers, body)
        exchange = Exchange(headers, body, asyncio.get_running_loop().create_future(), time.monotonic())
        self._waiting.append(exchange)
        self._advance()
        return exchange.reply

    def withdraw(self, reply: "asyncio.Future[Reply]") -> None:
        """Cancel a reply for which nobody waits any more, if no worker is at its image yet; else see that none asks anew."""
        for worker in self._working:
            worker.withdraw(reply)
        if any(one.reply is reply for one in self._waiting):
            reply.cancel()
            self._waiting = deque(one for one in self._waiting if one.reply is not reply)
            self._advance()

    def _advance(self) -> None:
        while self._waiting:
            exchange = self._waiting[0]
            if not (exchange.reply.done() or self._ask(exchange)):
                return
            self._waiting.popleft()
        while (idle := self._find_idle()) and (second := self._take_from_slow()):
            idle.ask(second)

    def _ask(self, exchange: Exchange) -> bool:
        """Ask about an image if there is a place; whether it is done with, as it is too where it cannot be asked about."""
        worker = self._find_place(exchange)
        if worker is None and self._working:
            return False
        try:
            if worker is None:
                exchange.follow(self._elsewhere(exchange.headers, exchange.body))
            else:
                worker.ask(exchange)
        except Exception as err:
            exchange.fail(err)
        return True

    def _find_place(self, exchange: Exchange) -> Worker | None:
        if idle := self._find_idle():
            return idle
        if len(exchange.body) > AT_HAND_BYTES:
            return None
        return min((one for one in self._working if one.has_place), key=lambda one: one.since, default=None)

    def _find_idle(self) -> Worker | None:
        return next((one for one in self._working if one.idle), None)

    def _take_from_slow(self) -> Exchange | None:
        """Withdraw the image behind the one that takes longest."""
        slow = sorted((one for one in self._working if one.slow), key=lambda one: one.since)
        return next((second for one in slow if (second := one.withdraw_second())), None)

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
            _, worker = await loop.create_unix_connection(
                lambda: Worker(self._hang_s, self._advance, self._leave, self._lose),
                f"{self._folder}/{name}",
            )
        except OSError as err:  # the worker has ended, and its socket stays
            logger.debug("worker %s cannot be asked: %s", name, err)
            self._hung.discard(name)
            return
        if name in self._connections:  # another call has connected meanwhile
            worker.close()
            return
        self._connections[name] = worker
        greeting = worker.greet()
        greeting.add_done_callback(lambda greeting: self._greeted(name, worker, greeting))
        await asyncio.wait([greeting], timeout=GREETING_S)

    def _greeted(self, name: str, worker: Worker, greeting: "asyncio.Future[Reply]") -> None:
        if greeting.cancelled() or greeting.exception():
            return  # it has ended
        self._hung.discard(name)
        if greeting.result().status == READS_ONE:  # else it or its archive is older, and it is asked through TorchServe alone
            self._working.append(worker)
        self._on_change()
        self._advance()

    def _leave(self, worker: Worker) -> None:
        """Leave a worker that hangs to who kills it: its image gets an error, and the others go to other workers."""
        self._hung |= {name for name, one in self._connections.items() if one is worker}
        self._lose(worker, ConnectionError(f"the worker has not answered for {self._hang_s:g} s"))

    def _lose(self, lost: Worker, err: ConnectionError) -> None:
        self._connections = {name: one for name, one in self._connections.items() if one is not lost}
        self._working = [one for one in self._working if one is not lost]  # before its turn goes to another image
        if unread := lost.end(err):
            bisect.insort(self._waiting, unread, key=lambda one: one.came)
        self._on_change()
        self._advance()


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return set()
