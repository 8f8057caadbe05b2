"""A lock that threads get in the order in which they asked.

Python's own goes to whoever asks at the right moment: with several people at work, one would wait for many turns of others.
"""

import threading
from collections import deque


class FairLock:
    """The lock; whoever releases it hands it to the one who waits longest."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def acquire(self, timeout: float) -> bool:
        """Wait for the lock for so many seconds at most; whether it was got."""
        with self._guard:
            if not self._taken:
                self._taken = True
                return True
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        if mine.acquire(timeout=timeout):
            return True
        with self._guard:
            if mine not in self._waiting:
                return True  # it was handed over just now
            self._waiting.remove(mine)
            return False

    def release(self) -> None:
        """Hand the lock to the next, or leave it free."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
