"""Progress of long loops: a bar on a terminal, now and then a line elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
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
