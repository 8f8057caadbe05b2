"""Notice that this process stood still, with its machine or for want of a CPU: what came meanwhile is there all at once.

That is no overload: it is gone once the workers have caught up, and nobody has sent too fast what would be refused. A process
that is late as it was busy itself, with a client's large requests, say, did not stand still.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOK_S = 0.05
STOP_S = 0.1
"""A look that is as late as this, beside what this process computed meanwhile, has seen a stop."""
MOST_S = 1.0
KEPT = 4.0
"""So many times its length a stop is remembered: the workers catch up by the share of their time that requests leave them."""


class Stops:
    """`seconds`: how long this process stood still of late, MOST_S at most, less a KEPTth of the time since.

    `changed`: called each time that they are others.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.seconds = 0.0
        self._changed = changed

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Look every LOOK_S, within the block.

        By callbacks and not by a task: the first look after a stop comes before what the requests that came meanwhile set going.
        """
        loop = asyncio.get_running_loop()
        handle: asyncio.TimerHandle
        busy_s = time.process_time()

        def look(due: float) -> None:
            nonlocal handle, busy_s
            before, busy_s = busy_s, time.process_time()
            self._note(loop.time() - due, busy_s - before)
            handle = loop.call_at(after := loop.time() + LOOK_S, look, after)

        handle = loop.call_at(first := loop.time() + LOOK_S, look, first)
        try:
            yield
        finally:
            handle.cancel()

    def _note(self, late_s: float, busy_s: float) -> None:
        """Take in a look: how late it is, and how long this process, with all its threads, has computed since the one before."""
        before, passed_s = self.seconds, LOOK_S + late_s
        stood_s = min(late_s, passed_s - busy_s)
        self.seconds = min(MOST_S, before + stood_s) if stood_s >= STOP_S else max(0.0, before - passed_s / KEPT)
        if self.seconds != before:
            self._changed()
