"""The archive's way into a pod: another container verifies it, and then puts it where this one looks."""

import asyncio
import contextlib
import logging
import time
from pathlib import Path

from transformer.errors import ArchiveAmbiguous

logger = logging.getLogger(__name__)

POLL_S = 0.2
REMIND_S = 30.0


async def wait_for_archive(folder: Path, stop: asyncio.Event) -> Path | None:
    """The one .mar in a folder, once it is there, as the folder itself may not be; None when stopped before.

    Raises ArchiveAmbiguous.
    """
    remind_at = time.monotonic()
    while not stop.is_set():
        found = sorted(folder.glob("*.mar"))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise ArchiveAmbiguous(f"{len(found)} archives lie in {folder} ({names}); leave the one to serve")
        if found:
            return found[0]
        if time.monotonic() >= remind_at:
            logger.info("waiting for the verified archive in %s", folder)
            remind_at += REMIND_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await stop.wait()
    return None
