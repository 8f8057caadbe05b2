"""In a pod, the edge waits for the archive: another container verifies it and then puts it into a folder of both."""

import asyncio
import contextlib
import logging
import time
from pathlib import Path

from archives.errors import ArchiveAmbiguous

logger = logging.getLogger(__name__)

POLL_S = 0.2
REMIND_S = 30.0


async def wait_for_archive(folder: Path, stop: asyncio.Event) -> Path | None:
    """Wait for the one .mar in a folder, which need not exist yet, and return it; None when stopped before.

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
