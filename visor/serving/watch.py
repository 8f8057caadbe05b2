"""Workers that hang are found and killed, whatever they hang in, so that TorchServe starts others in their place.

Each worker answers a question about nothing (`worker.py`) in turns with its pictures. One that does not within `hang_s` works
at a picture for too long, is in an endless loop, or was stopped. A worker that loops ends by a timer of its own as well; one
that is stopped has no timer that runs.
"""

import asyncio
import logging
import os
import signal
import socket
import struct
from contextlib import suppress
from pathlib import Path

from visor.serving import cgroup
from visor.serving.worker import LENGTHS

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks at the folder of sockets and at the kernel's count of processes that it ended."""
PING_S = 2.0
"""Between an answer and the next question to the same worker."""
PING = LENGTHS.pack(0, 0)
CREDENTIALS = struct.Struct("3i")


async def watch_workers(folder: Path, hang_s: float) -> None:
    """Watch the workers whose sockets are in `folder` until cancelled, and say when the kernel has ended one for its memory."""
    watched: dict[str, asyncio.Task[None]] = {}
    kills = cgroup.oom_kills()
    try:
        while True:
            for name in sorted({path.name for path in folder.iterdir()} - watched.keys()):
                watched[name] = asyncio.create_task(_watch_one(folder / name, hang_s))
            watched = {name: task for name, task in watched.items() if not task.done()}
            if (now := cgroup.oom_kills()) > kills:
                logger.warning("serve.memory: the memory limit is reached, and the kernel has ended a process for it")
                kills = now
            await asyncio.sleep(LOOK_S)
    finally:
        for task in watched.values():
            task.cancel()
        await asyncio.gather(*watched.values(), return_exceptions=True)


async def _watch_one(path: Path, hang_s: float) -> None:
    """Return once the worker has ended, by itself or because it was killed."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError:  # it has ended, and its socket has stayed
        return
    process, _, _ = CREDENTIALS.unpack(
        writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    )
    try:
        while True:
            writer.write(PING)
            async with asyncio.timeout(hang_s):
                await reader.readexactly(LENGTHS.size)
            await asyncio.sleep(PING_S)
    except TimeoutError:
        logger.warning("worker %d has not answered for %g s and is killed, so that TorchServe starts another", process, hang_s)
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    except (OSError, asyncio.IncompleteReadError):
        pass  # it has ended
    finally:
        writer.close()
