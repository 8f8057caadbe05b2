"""Progress of long loops: a bar on a terminal, now and then a line elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
logger = logging.getLogger(__name__)

LINE_EVERY_S = 5.0
"""A log shows that the loop lives, and a loop that ends sooner than this needs no line at all."""


def show_progress(iterable: Iterable[Item], total: int, description: str, every_s: float = LINE_EVERY_S) -> Iterator[Item]:
    """Yield the items and show how far along they are: by a bar on a terminal, else by a log line every `every_s` seconds."""
    if sys.stderr.isatty():
        yield from tqdm(iterable, total=total, desc=description, mininterval=0.5, leave=False)
        return
    said = time.monotonic()
    for done, item in enumerate(iterable, start=1):
        yield item
        if (now := time.monotonic()) - said >= every_s:
            said = now
            logger.info("%s: %d %% (%d of %d)", description, 100 * done // max(total, 1), done, total)


class Remaining:
    """How long a loop of long rounds, such as epochs, may still take, by the mean of those that this process has seen."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._begun, self._done = clock, clock(), 0

    def count(self, rounds: int = 1) -> None:
        """Count rounds that are done."""
        self._done += rounds

    def words(self, left: int) -> str:
        """Say how long so many rounds take, as ", about 4 min left"; "" for none, or while none is done."""
        if not self._done or left < 1:
            return ""
        return f", about {in_words((self._clock() - self._begun) / self._done * left)} left"


def in_words(seconds: float) -> str:
    """Write a duration as people say it: `40 s`, `4 min`, `2 h 10 min`."""
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
