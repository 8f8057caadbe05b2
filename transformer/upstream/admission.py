"""The admission queue: which images are sent to TorchServe, which ones wait, and which ones are refused.

Two are sent for each worker, one in work and one at hand, so that no worker is idle for a round trip, be it asked directly or
through TorchServe. All other images wait here, where a client that leaves, or a deadline that passes, takes its images out of the
line; and a request that would make the line too long is refused at once, while the client can still go elsewhere.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from handlers.errors import counted
from transformer.errors import ServerOverloaded

Turn = asyncio.Future[None]
"""The turn of one image; it is done once the image may be sent."""


class AdmissionQueue:
    """Images are served in the order in which they came: `slots` are at TorchServe, `max_waiting` more may wait."""

    def __init__(self, slots: int, max_waiting: int) -> None:
        self._slots = slots
        self._max_waiting = max_waiting
        self._waiting: dict[Turn, None] = {}  # a set that keeps its order
        self._under_way: set[object] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def under_way(self) -> int:
        """The number of images that are at TorchServe."""
        return len(self._under_way)

    def resize(self, slots: int, max_waiting: int) -> None:
        """Take another size, as the number of workers has changed; images that are in line already stay there."""
        self._slots, self._max_waiting = slots, max_waiting
        self._advance()

    def check(self, count: int = 1) -> None:
        """Raise ServerOverloaded if this many images would make the line too long.

        A request that is longer than the whole line is taken when nobody is in it: another try would not make it shorter.
        """
        free = max(0, self._slots - len(self._under_way))  # more may be under way than slots are left after a resize
        if len(self._waiting) + min(count, self._max_waiting) - free > self._max_waiting:
            raise ServerOverloaded(
                f"{counted(len(self._waiting), 'image is', 'images are')} waiting, and {self._max_waiting} may; try again in a "
                "second, or elsewhere"
            )

    @contextmanager
    def admit(self, count: int) -> Iterator[Sequence[Turn]]:
        """Give each image of a request a turn to be awaited; turns end with the context, except those that are detached.

        Raises ServerOverloaded, before any image waits.
        """
        self.check(count)
        loop = asyncio.get_running_loop()
        turns = [loop.create_future() for _ in range(count)]
        self._waiting.update(dict.fromkeys(turns))
        self._advance()
        try:
            yield turns
        finally:
            for turn in turns:
                self._waiting.pop(turn, None)
                self._under_way.discard(turn)
            self._advance()

    def detach(self, turn: Turn) -> Callable[[], None]:
        """Detach a turn that has come from its request. Call the returned function to release it."""
        detached = object()
        self._under_way.remove(turn)
        self._under_way.add(detached)

        def release() -> None:
            self._under_way.discard(detached)
            self._advance()

        return release

    def _advance(self) -> None:
        while self._waiting and len(self._under_way) < self._slots:
            turn = next(iter(self._waiting))
            del self._waiting[turn]
            if not turn.done():  # else its request was cancelled, and is about to leave
                self._under_way.add(turn)
                turn.set_result(None)
