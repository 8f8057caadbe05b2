"""gRPC's messages are received here, as few at once as there is memory for.

gRPC's core takes a message whole before Python sees its first byte, or its size. So each call that receives is charged the
largest message there may be; the others wait with at most a window of 64 KiB in the core. One of them can always receive,
whatever else is under way.
"""

import asyncio
from collections import deque
from typing import Any

import grpc

from transformer.budget import BODY_WEIGHT, Budget, Charge
from transformer.errors import BodyTooSlow, MemorySpent, ProtobufInvalid, RequestTooLarge

WAIT_S = 5.0
"""How long a call waits to receive."""

HURRY_S = 2.0
"""How long a call receives that others wait for."""

RECEIVE_WEIGHT = 1.75
"""Bytes for each one of the largest message while one is received: the core keeps what it read with the space around it."""

LOOK_S = 0.25
SETTLE_S = 0.02
MAX_WAITING = 256


class Receiver:
    """Receives messages of at most `limit` bytes, each within `timeout_s`; all but one at a time are charged to the budget."""

    def __init__(self, budget: Budget, limit: int, timeout_s: float) -> None:
        self._budget = budget
        self._limit = limit
        self._timeout_s = timeout_s
        self._own_free = True
        self._receiving: dict[asyncio.Timeout, float] = {}  # since when, by `_now`; oldest first
        self._hurried: set[asyncio.Timeout] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._stood = self._looked = 0.0
        budget.watchers.append(lambda _: self._wake())

    async def receive(self, context: Any, charge: Charge) -> bytes:
        """Receive a call's message, and charge what it takes. Raises MemorySpent, BodyTooSlow, ProtobufInvalid for none."""
        body = await self._receive(context, charge, self._timeout_s)
        if body is None:
            raise ProtobufInvalid(f"the call has no message, or one above {self._limit} bytes, which gRPC itself has refused")
        return body

    async def receive_next(self, context: Any, charge: Charge) -> bytes | None:
        """Receive a stream's next message, whenever it comes, and charge what it takes; None after the last. Raises MemorySpent.

        A stream that brings nothing has the place of a message, and is given up where others wait for one.
        """
        return await self._receive(context, charge, None)

    async def _receive(self, context: Any, charge: Charge, timeout_s: float | None) -> bytes | None:
        own = await self._admit(charge)
        try:
            body = await self._read(context, timeout_s)
            await self._settle(charge, BODY_WEIGHT * len(body or b""), wait=own)
        except BaseException:
            charge.close()
            raise
        finally:
            if own:
                self._own_free = True
            self._wake()
        return body

    async def _read(self, context: Any, timeout_s: float | None) -> bytes | None:
        timeout = asyncio.timeout(timeout_s)
        try:
            async with timeout:
                self._receiving[timeout] = self._now()
                body = await context.read()
        except TimeoutError as err:
            if timeout in self._hurried:
                raise MemorySpent(
                    f"others wait, and the message was not received within {HURRY_S:g} s; try again, or elsewhere"
                ) from err
            raise BodyTooSlow(f"the message was not received within {timeout_s:g} s") from err
        finally:
            self._receiving.pop(timeout, None)
            self._hurried.discard(timeout)
        return None if body is grpc.aio.EOF else body

    async def _settle(self, charge: Charge, size: float, *, wait: bool) -> None:
        """Charge what a message takes once it is received; until there is room for it, it may stay in the place of its own."""
        end = self._now() + WAIT_S
        while True:
            try:
                charge.set(size)
            except MemorySpent:
                if not wait or self._now() > end:
                    raise
                await asyncio.sleep(SETTLE_S)
            else:
                return

    async def _admit(self, charge: Charge) -> bool:
        """Wait until a message can be received. Whether it has the place that is free of charge; else the budget is charged."""
        end = self._now() + (WAIT_S if len(self._waiting) < MAX_WAITING else 0)
        while not self._own_free:
            try:
                charge.set(RECEIVE_WEIGHT * self._limit)
            except (MemorySpent, RequestTooLarge) as err:  # the latter where the budget has never room for a second one
                if self._now() >= end:
                    raise MemorySpent("messages under way leave no room to receive another; try again, or elsewhere") from err
            else:
                return False
            await self._wait()
        self._own_free = False
        return True

    async def _wait(self) -> None:
        """Wait for room, or for the time to look whether somebody has to hurry."""
        loop = asyncio.get_running_loop()
        turn, due = loop.create_future(), loop.time() + LOOK_S
        self._waiting.append(turn)
        try:
            async with asyncio.timeout_at(due):
                await turn
        except TimeoutError:
            self._stood += loop.time() - max(due, self._looked)
            self._looked = loop.time()
            self._hurry()
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _now(self) -> float:
        """A clock that stands still while this process does, starved of its CPU: what came meanwhile was not read yet."""
        return asyncio.get_running_loop().time() - self._stood

    def _hurry(self) -> None:
        """Give up the call that has received the longest, where that is too long for those that wait."""
        for timeout, since in self._receiving.items():
            if self._now() - since > HURRY_S and timeout not in self._hurried:
                self._hurried.add(timeout)
                timeout.reschedule(asyncio.get_running_loop().time())
            return

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
