"""What an image takes a worker, by which so many may wait as the workers answer in a given time.

The mean says that, also where most images are quick and some are slow, as those with a heat map are beside those without; by a
median these would wait for many times that time. So few are left out as a stop of the machine makes slow, one a worker.
"""

import bisect
import math
from collections import deque

WINDOW = 256
"""Images after which one is forgotten."""
LEFT_OUT = 16
"""Every sixteenth, and the slowest of them, is left out."""
LEAST_S = 0.001
"""No image is taken to be faster: what may wait stays bounded whatever a worker says."""


class Pace:
    """`image_s`: the mean of the last images' seconds but for the slowest ones; infinite before the first."""

    def __init__(self) -> None:
        self.image_s = math.inf
        self._last: deque[float] = deque()
        self._sorted: list[float] = []

    def note(self, seconds: float) -> None:
        """Take in an image that a worker has answered."""
        seconds = max(LEAST_S, seconds)  # NaN, too
        if len(self._last) == WINDOW:
            del self._sorted[bisect.bisect_left(self._sorted, self._last.popleft())]
        self._last.append(seconds)
        bisect.insort(self._sorted, seconds)
        kept = len(self._sorted) - len(self._sorted) // LEFT_OUT
        self.image_s = sum(self._sorted[:kept]) / kept

    def note_refused(self, seconds: float) -> None:
        """Take in an image that a worker has refused: if it took long. Quick ones would make room that others' images wait in."""
        if seconds > self.image_s:
            self.note(seconds)
