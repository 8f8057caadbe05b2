"""One worker as the edge sees it: a connection over which it is asked about one image and, before that is answered, one more.

The second lies at hand in the worker's socket, so that it is not idle for a round trip between two images.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from transformer.tensors import Buffer
from transformer.upstream.connection import Connection, Reply

LENGTHS = struct.Struct("!II")
READS_ONE = 202
"""What a worker answers to a question about nothing if it leaves in its socket what comes behind the request that it works at.

Older ones answer 200 and read on: an image that they had read already would wait there until another one came.
"""
SLOW_S = 1.0
"""After so long at one image, nothing is to wait behind it."""


@dataclass(eq=False, slots=True)
class Exchange:
    """One image on its way: what is asked and the reply to come. `came`: when; `again`: whether it was behind another before."""

    headers: Mapping[str, str]
    body: Buffer
    reply: "asyncio.Future[Reply]"
    came: float
    again: bool = False

    def fail(self, err: ConnectionError) -> None:
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

    Nothing that was sent can be taken back: a reply that was cancelled keeps its place, and is dropped when it comes.

    `since`: the time at which the worker came to the first exchange. `slow`: whether it has been at it for too long for anything
    to wait behind it. `pace_s`: how long the last one took. `on_answer`, `on_slow` and `on_hang` are called when it may be asked
    more, when its second exchange had better be asked elsewhere, and when it has not answered for `hang_s`; `on_lost` when the
    connection has ended.
    """

    def __init__(
        self,
        hang_s: float,
        on_answer: "Callable[[Worker], None]",
        on_slow: "Callable[[Worker], None]",
        on_hang: "Callable[[Worker], None]",
        on_lost: "Callable[[Worker, ConnectionError], None]",
    ) -> None:
        self.since = 0.0
        self.slow = False
        self.pace_s = 0.0
        self._hang_s = hang_s
        self._on_answer = on_answer
        self._on_slow = on_slow
        self._on_hang = on_hang
        self._on_lost = on_lost
        self._exchanges: deque[Exchange] = deque()
        self._received = bytearray()
        self._timer: asyncio.TimerHandle | None = None

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
        loop = asyncio.get_running_loop()
        greeting = Exchange({}, b"", loop.create_future(), loop.time())
        self._exchanges.append(greeting)
        self._transport.write(LENGTHS.pack(0, 0))
        return greeting.reply

    def ask(self, exchange: Exchange) -> None:
        """Ask about an image: now if the worker is idle, else behind the one that it works at."""
        head = orjson.dumps(exchange.headers)
        self._transport.writelines((LENGTHS.pack(len(head), len(exchange.body)), head, exchange.body))
        self._exchanges.append(exchange)
        if len(self._exchanges) == 1:
            self._begin_first()

    def give_up_second(self) -> Exchange | None:
        """Give up the exchange behind the first one, if it is waited for and was not given up before, to be asked elsewhere.

        The worker will come to it all the same, and its answer is dropped.
        """
        if len(self._exchanges) < 2 or self._exchanges[1].again or self._exchanges[1].reply.done():
            return None
        exchange, loop = self._exchanges[1], asyncio.get_running_loop()
        self._exchanges[1] = Exchange({}, b"", loop.create_future(), exchange.came)
        self._exchanges[1].reply.cancel()
        exchange.again = True
        return exchange

    def end(self, err: ConnectionError) -> Exchange | None:
        """Close the connection and fail what the worker was asked; return the second exchange, if it may be asked elsewhere.

        The worker answers an image before it takes up the next one, so it has not begun with that one; if it had, no harm would
        come of asking twice, as an answer depends on the image alone.
        """
        second = self.give_up_second()
        self._stop_clock()
        while self._exchanges:
            self._exchanges.popleft().fail(err)
        self.close()
        return second

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
        """Report the worker's end."""
        self._on_lost(self, ConnectionResetError(f"the worker ended before its answer{f' ({exc})' if exc else ''}"))

    def _answer(self, status: int, body: bytes) -> None:
        if not self._exchanges:
            self.close()  # it says what it was not asked
            return
        self._stop_clock()
        first = self._exchanges.popleft()
        if not first.reply.done():
            first.reply.set_result(Reply(status, body, max(0.0, self.since - first.came)))
        if self._exchanges:
            self._begin_first()
        self._on_answer(self)

    def _begin_first(self) -> None:
        self._exchanges[0].body = b""  # nobody else is asked about it any more, and its client may leave
        loop = asyncio.get_running_loop()
        self.since = loop.time()
        # Where every image takes long, one that does is no sign of anything.
        self._timer = loop.call_later(min(self._hang_s / 2, max(SLOW_S, 3 * self.pace_s)), self._be_slow)

    def _be_slow(self) -> None:
        loop = asyncio.get_running_loop()
        self.slow = True
        self._timer = loop.call_at(self.since + self._hang_s, self._on_hang, self)
        self._on_slow(self)

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.pace_s = asyncio.get_running_loop().time() - self.since
        self.slow = False
