"""One worker as the edge sees it: a connection over which it is asked about one image and, before that is answered, one more.

The second lies at hand in the worker's socket, so that it is not idle for a round trip between two images. It can be withdrawn
until the worker has come to it: a mark behind it says so.
"""

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from transformer.tensors import Buffer
from transformer.upstream.connection import Connection, Reply

LENGTHS = struct.Struct("!II")
READS_ONE = 202
"""What a worker answers to a question about nothing if it leaves in its socket what comes behind the request that it works at,
and heeds the mark `WITHDRAWN`.

Older ones answer 200 and read on: an image that they had read already would wait there until another one came.
"""
WITHDRAWN, WITHDRAWN_STATUS = LENGTHS.pack(0xFFFFFFFF, 0), 204
"""Right behind a request: it is withdrawn, and what a worker answers then that had not begun with it. One that had answers as
ever, and passes over the mark."""
SLOW_S = 1.0
"""After so long at one image, nothing is to wait behind it."""


@dataclass(eq=False, slots=True)
class Exchange:
    """One image on its way: what is asked and the reply to come.

    `body`: empty once it is not to be asked about elsewhere. `came`: when. `again`: whether it is asked about anew. `withdrawn`:
    whether this is what is left of it at a worker that perhaps answers it all the same.
    """

    headers: Mapping[str, str]
    body: Buffer
    reply: "asyncio.Future[Reply]"
    came: float
    again: bool = False
    withdrawn: bool = False

    def fail(self, err: Exception) -> None:
        """Fail it, if anybody waits for it."""
        if not self.reply.done():
            self.reply.set_exception(err)

    def follow(self, call: "asyncio.Future[Reply]") -> None:
        """Reply what another call replies, which ends with this one."""

        def end(call: "asyncio.Future[Reply]") -> None:
            err = None if call.cancelled() else call.exception()
            if self.reply.done():
                return
            if call.cancelled():
                self.reply.cancel()
            elif err is not None:
                self.reply.set_exception(err)
            else:
                self.reply.set_result(call.result())

        call.add_done_callback(end)
        self.reply.add_done_callback(lambda _: call.cancel())


class Worker(Connection):
    """Its exchanges are answered in their order: it works at the first, and the second is at hand.

    What is withdrawn, and a reply that was cancelled, keep their places until the worker has answered.

    `since`: the time at which the worker came to the first exchange. `slow`: whether it has been at it for too long for anything
    to wait behind it. `pace_s`: how long the last one took. `on_change` is called when it may be asked more and when it is slow,
    `on_hang` when it has not answered for `hang_s`, `on_lost` when the connection has ended.
    """

    def __init__(
        self,
        hang_s: float,
        on_change: Callable[[], None],
        on_hang: "Callable[[Worker], None]",
        on_lost: "Callable[[Worker, ConnectionError], None]",
    ) -> None:
        self.since = 0.0
        self.slow = False
        self.pace_s = 0.0
        self._hang_s = hang_s
        self._on_change = on_change
        self._on_hang = on_hang
        self._on_lost = on_lost
        self._exchanges: deque[Exchange] = deque()
        self._received = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._left_unread = False

    @property
    def idle(self) -> bool:
        """Whether it can be asked and has nothing to work at."""
        return not self._exchanges and self.open

    @property
    def has_place(self) -> bool:
        """Whether it works at an image behind which another one may lie at hand."""
        return len(self._exchanges) == 1 and not self.slow and self.open

    def greet(self) -> "asyncio.Future[Reply]":
        """Ask about nothing, whose answer may wait for what TorchServe has asked."""
        greeting = Exchange({}, b"", asyncio.get_running_loop().create_future(), time.monotonic())
        self._exchanges.append(greeting)
        self._transport.write(LENGTHS.pack(0, 0))
        return greeting.reply

    def ask(self, exchange: Exchange) -> None:
        """Ask about an image: now if the worker is idle, else behind the one that it works at."""
        head = orjson.dumps(exchange.headers)
        self._transport.writelines((LENGTHS.pack(len(head), len(exchange.body)), head, exchange.body))
        self._exchanges.append(exchange)
        if len(self._exchanges) == 1:
            exchange.body = b""  # it is not asked about elsewhere any more, and its client may leave
            self._begin_first()

    def withdraw_second(self) -> Exchange | None:
        """Withdraw the exchange behind the first one and return it, to be asked elsewhere, if anybody waits for it.

        Should the worker have come to it just now, it is answered twice, and the first answer counts.
        """
        if len(self._exchanges) < 2 or self._exchanges[1].withdrawn or self._exchanges[1].reply.done():
            return None
        second = self._exchanges[1]
        self._transport.write(WITHDRAWN)
        self._exchanges[1] = Exchange({}, b"", second.reply, second.came, withdrawn=True)
        return second

    def withdraw(self, reply: "asyncio.Future[Reply]") -> None:
        """Withdraw and cancel what nobody waits for any more; at what the worker has come to already, it goes on."""
        for exchange in self._exchanges:
            if exchange.reply is reply:
                exchange.body = b""
        if len(self._exchanges) == 2 and self._exchanges[1].reply is reply and self.withdraw_second():
            reply.cancel()

    def end(self, err: ConnectionError) -> Exchange | None:
        """Close the connection and fail what the worker was asked; return what it had not read, if that may be asked elsewhere.

        The worker answers an image before it takes up the next one, so it has not begun with the second one; nor with the only
        one, if that was at hand and the worker has ended with something unread.
        """
        self._stop_clock()
        self.close()
        unread = self._exchanges[-1] if len(self._exchanges) == 2 or (self._left_unread and self._exchanges) else None
        if unread and (unread.again or not unread.body):
            unread = None
        for exchange in self._exchanges:
            if exchange is not unread and not exchange.withdrawn:
                exchange.fail(err)
        self._exchanges.clear()
        if unread:
            unread.again = True
        return unread

    def data_received(self, data: bytes) -> None:
        """Answer the exchanges of which the data bring the replies."""
        self._received += data
        while len(self._received) >= LENGTHS.size:
            status, length = LENGTHS.unpack_from(self._received)
            end = LENGTHS.size + length
            if len(self._received) < end:
                return
            body = bytes(self._received[LENGTHS.size : end])
            del self._received[:end]
            self._answer(status, body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the worker's end. A reset says that the worker has left something unread (`unix_release_sock` in Linux)."""
        self._left_unread = isinstance(exc, ConnectionResetError)
        self._on_lost(self, ConnectionResetError(f"the worker ended before its answer{f' ({exc})' if exc else ''}"))

    def _answer(self, status: int, body: bytes) -> None:
        if not self._exchanges:
            self.close()  # it says what it was not asked
            return
        first = self._exchanges.popleft()
        if not (first.withdrawn and status == WITHDRAWN_STATUS):
            if self._timer is not None:  # else it was asked about nothing
                self.pace_s = time.monotonic() - self.since
            if not first.reply.done():
                first.reply.set_result(Reply(status, body, max(0.0, self.since - first.came)))
        self._stop_clock()
        if self._exchanges:
            self._begin_first()
        self._on_change()

    def _begin_first(self) -> None:
        self.since = time.monotonic()  # the loop's own clock is one of milliseconds (uvloop)
        # Where every image takes long, one that does is no sign of anything.
        self._timer = asyncio.get_running_loop().call_later(min(self._hang_s / 2, max(SLOW_S, 3 * self.pace_s)), self._be_slow)

    def _be_slow(self) -> None:
        self.slow = True
        left_s = self.since + self._hang_s - time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(left_s, self._on_hang, self)
        self._on_change()

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.slow = False
