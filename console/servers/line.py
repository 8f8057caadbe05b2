"""The console's bounded line in front of a server: so many pictures are asked at once, so many wait, and each for so long.

A server that is full says when to ask again (503 with Retry-After). Who was refused waits for so long and keeps its place, which
asks the server the less, the fuller it is: so many uploads at once are all answered, as fast as the server answers.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from console.errors import LineFull, ServerRefused
from console.metrics import Metrics

Result = TypeVar("Result")
LEAST_PAUSE_S = 0.05


class Line:
    """A line. `concurrency`: asked at once; `most`: waiting, with those; `most_s`: a picture's seconds in it."""

    def __init__(self, concurrency: int, most: int, most_s: float, metrics: Metrics) -> None:
        self._places = asyncio.Semaphore(concurrency)
        self._most, self._most_s, self._metrics = most, most_s, metrics
        self._inside = 0

    async def ask(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Wait for a place and call; again, where the server asks for that, until the time is up.

        Raises LineFull, and what `call` raises: ServerRefused with `retry_after_s` only once there is no time for another call.
        """
        if self._inside >= self._most:
            raise LineFull(f"{self._most} pictures wait for this model already; send them again later, or fewer at once")
        self._inside += 1
        deadline = time.monotonic() + self._most_s
        try:
            if self._places.locked():
                await self._wait()
            else:
                await self._places.acquire()  # at once
            try:
                return await self._call(call, deadline)
            finally:
                self._places.release()
        finally:
            self._inside -= 1

    async def _wait(self) -> None:
        with self._metrics.waiting.track_inprogress():
            try:
                async with asyncio.timeout(self._most_s):
                    await self._places.acquire()
            except TimeoutError as err:
                raise LineFull(f"a picture has waited {self._most_s:g} s for this model; send fewer at once") from err

    async def _call(self, call: Callable[[], Awaitable[Result]], deadline: float) -> Result:
        while True:
            try:
                return await call()
            except ServerRefused as err:
                if err.retry_after_s is None:
                    raise
                # Not all at the same moment, or the server's line would be full again.
                pause_s = max(float(err.retry_after_s), LEAST_PAUSE_S) * random.uniform(1, 1.25)
                if time.monotonic() + pause_s > deadline:
                    raise
            self._metrics.retries.inc()
            await asyncio.sleep(pause_s)
