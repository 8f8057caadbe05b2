"""Who may wait for TorchServe, and for how long the line may get.

A worker that the edge asks itself has one call at a time: the next goes to whichever is free first. TorchServe is given two for
each, one in work and one at hand, so that none is idle for its way there and back. Everything else waits here, where a client
that leaves, or a deadline that passes, takes its images out of the line; and what would make the line too long is refused at
once, while the client can still go elsewhere.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from transformer.errors import ServerOverloaded

CALLS_PER_WORKER = 2
# How long an image waits at most is this many inferences, whatever the number of workers: 0.4 s where one takes 12 ms.
WAITING_PER_WORKER = 32

Turn = asyncio.Future[None]  # one image's, done once the image may go


class AdmissionQueue:
    """First come, first served: `slots` images at TorchServe, `max_waiting` more in line."""

    def __init__(self, slots: int, max_waiting: int) -> None:
        self._slots = slots
        self._max_waiting = max_waiting
        self._waiting: dict[Turn, None] = {}  # a set that keeps its order
        self._under_way: set[object] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def resize(self, slots: int, max_waiting: int) -> None:
        """Follow the number of workers; who is in line already stays there."""
        self._slots, self._max_waiting = slots, max_waiting
        self._advance()

    def check(self, count: int = 1) -> None:
        """Raises ServerOverloaded if this many images would make the line too long.

        A request that is longer than the whole line is taken when nobody is in it: another try would not make it shorter.
        """
        free = self._slots - len(self._under_way)
        if len(self._waiting) + min(count, self._max_waiting) - free > self._max_waiting:
            raise ServerOverloaded(
                f"{len(self._waiting)} images are waiting, and {self._max_waiting} may; try again in a second, or elsewhere"
            )

    @contextmanager
    def admit(self, count: int) -> Iterator[Sequence[Turn]]:
        """A turn for each image of a request, to be awaited; with the context it ends, unless it is kept.

        Raises ServerOverloaded, before anybody waits.
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

    def keep(self, turn: Turn) -> Callable[[], None]:
        """Take a turn that has come out of its request's hands: it lasts until what is returned is called."""
        kept = object()
        self._under_way.remove(turn)
        self._under_way.add(kept)

        def end() -> None:
            self._under_way.discard(kept)
            self._advance()

        return end

    def _advance(self) -> None:
        while self._waiting and len(self._under_way) < self._slots:
            turn = next(iter(self._waiting))
            del self._waiting[turn]
            if not turn.done():  # else its request was cancelled, and is about to leave
                self._under_way.add(turn)
                turn.set_result(None)
