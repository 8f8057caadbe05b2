"""Progress of long loops: a bar on a terminal, a line every tenth of the way elsewhere."""

import logging
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
logger = logging.getLogger(__name__)


def track(iterable: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    """Yield the items and say how far along they are; a log file gets ten lines and not a thousand redrawn bars."""
    if sys.stderr.isatty():
        yield from tqdm(iterable, total=total, desc=description, mininterval=0.5, leave=False)
        return
    said = 0
    for done, item in enumerate(iterable, start=1):
        yield item
        if (tenths := 10 * done // max(total, 1)) > said:
            said = tenths
            logger.info("%s: %d %% (%d of %d)", description, 10 * tenths, done, total)
