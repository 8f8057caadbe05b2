"""Places that are lent, as bytes of memory or batches: who wants some waits until they are free, in the order of arrival.

No holder but one alone has more than half of them, whatever it asks for: who sends much, or slowly, leaves room for the others.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from console.errors import LineFull


@dataclass(eq=False)
class _Wish:
    size: int
    holder: str
    granted: asyncio.Future[None]


class Room:
    """A number of places. `most_s`: seconds that somebody waits; `full`: the error's sentence then; `lent`: told each change."""

    def __init__(self, size: int, most_s: float, full: str, lent: Callable[[int], None] = lambda _change: None) -> None:
        self._size = self._free = size
        self._most_s, self._full, self._lent = most_s, full, lent
        self._held: Counter[str] = Counter()
        self._waiting: deque[_Wish] = deque()

    @asynccontextmanager
    async def take(self, wanted: int, holder: str = "") -> AsyncIterator[None]:
        """Hold so many within the block; more than there are ever is all of them. Raises LineFull.

        `holder`: the key that asks, which waits for its own where it would hold more than half and holds some; "" may hold all.
        """
        wish = _Wish(min(wanted, self._size), holder, asyncio.get_running_loop().create_future())
        self._waiting.append(wish)
        self._give()
        if not wish.granted.done():
            await self._wait(wish)
        self._lent(wish.size)
        try:
            yield
        finally:
            self._lent(-wish.size)
            self._take_back(wish)

    async def _wait(self, wish: _Wish) -> None:
        try:
            await asyncio.wait_for(asyncio.shield(wish.granted), self._most_s)
        except BaseException as err:
            if wish.granted.done():  # given in the moment in which the time was up, or the client gone
                self._take_back(wish)
            else:
                self._waiting.remove(wish)
                self._give()
            if isinstance(err, TimeoutError):
                raise LineFull(self._full) from err
            raise

    def _take_back(self, wish: _Wish) -> None:
        self._free += wish.size
        self._held[wish.holder] -= wish.size
        if not self._held[wish.holder]:
            del self._held[wish.holder]
        self._give()

    def _give(self) -> None:
        """Grant what is free, in the order of arrival; who has its share is passed by, who waits for room is not."""
        for wish in tuple(self._waiting):
            held = self._held[wish.holder]
            if wish.holder and held and 2 * (held + wish.size) > self._size:
                continue
            if wish.size > self._free:
                return
            self._waiting.remove(wish)
            self._free -= wish.size
            self._held[wish.holder] += wish.size
            wish.granted.set_result(None)
