"""Room in memory for pictures under way: who brings one waits until there is room for it, in the order of arrival."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import Gauge

from console.errors import LineFull


class Room:
    """A number of bytes that are lent. `most_s`: seconds that somebody waits; `lent`: the gauge of what is lent now."""

    def __init__(self, size: int, most_s: float, lent: Gauge) -> None:
        self._size = self._free = size
        self._most_s, self._lent = most_s, lent
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def take(self, wanted: int) -> AsyncIterator[None]:
        """Hold so many bytes within the block; more than there are ever is all of them. Raises LineFull."""
        wanted = min(wanted, self._size)
        if self._waiting or wanted > self._free:
            await self._wait(wanted)
        else:
            self._free -= wanted
        self._lent.inc(wanted)
        try:
            yield
        finally:
            self._lent.dec(wanted)
            self._free += wanted
            self._give()

    async def _wait(self, wanted: int) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (wanted, ready)
        self._waiting.append(entry)
        try:
            await asyncio.wait_for(asyncio.shield(ready), self._most_s)
        except BaseException as err:
            if ready.done():  # given in the moment in which the time was up, or the client gone
                self._free += wanted
            else:
                self._waiting.remove(entry)
            self._give()
            if isinstance(err, TimeoutError):
                raise LineFull(f"there was no memory for this picture within {self._most_s:g} s; send fewer at once") from err
            raise

    def _give(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            wanted, ready = self._waiting.popleft()
            self._free -= wanted
            ready.set_result(None)
