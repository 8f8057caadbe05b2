"""A pod runs TorchServe from the verified archive until the edge beside it is drained."""

import asyncio
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from handlers.errors import counted
from visor.pod.intake import VerifiedArchive
from visor.serving import torchserve
from visor.serving.ports import Ports

logger = logging.getLogger(__name__)

DRAIN_POLL_S = 0.1
# The file of TorchServe's keys, for the edge, in the folder that the pod's containers share.
KEYS = "torchserve-keys.json"
# TCP's states in which a request may still be under way; in all others no client waits for an answer.
OPEN = {"LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT"}


@dataclass(frozen=True)
class PodSettings:
    """How one pod serves. `work`: the folder that its containers share; `edge_ports`: the ports of the edge beside TorchServe.

    `workers`, `picture_bytes` and `hang_s`: as `torchserve.choose_workers` takes them.
    """

    work: Path
    workers: int | None
    picture_bytes: int | None
    hang_s: float
    ports: Ports
    edge_ports: frozenset[int]
    grace_s: float


async def serve(archive: VerifiedArchive, settings: PodSettings) -> None:
    """Run TorchServe until SIGTERM or SIGINT, then until the edge is done with it.

    Raises JavaMissing, MemoryShort, ServerEnded, ServeError.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    start = time.monotonic()
    workers = torchserve.choose_workers(settings.workers, archive.memory, settings.picture_bytes, settings.hang_s)
    async with torchserve.running(archive.path, workers, _make_home(settings.work), settings.ports, sys.stdout.buffer) as server:
        ready = asyncio.create_task(server.wait_ready(archive.name))
        stopping = asyncio.create_task(stop.wait())
        died = asyncio.create_task(server.process.wait())
        await asyncio.wait({ready, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            ready.result()  # its error, where no worker will ever be ready
            publish_keys(server.keys, settings.work / KEYS)
            logger.info("ready after %.1f s, with %s", time.monotonic() - start, counted(workers.count, "worker"))
        else:
            ready.cancel()
        await asyncio.wait({stopping, died}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            raise server.ended_error()
        await wait_until_drained(settings.edge_ports, settings.ports.inference, settings.grace_s)


async def wait_until_drained(edge_ports: Collection[int], inference_port: int, grace_s: float) -> None:
    """Wait until the edge is done: it listens no more, no client is connected to it, and it is not connected to TorchServe.

    The pod's containers are told to stop at the same moment. The edge then closes its ports at once, while it still answers
    what it has accepted; a closed port alone would not say that TorchServe can go.
    """
    import psutil  # needed once in a pod's life

    def is_open() -> bool:
        sockets = [(one.laddr.port, one.status) for one in psutil.net_connections("tcp") if one.laddr and one.status in OPEN]
        return any(port in edge_ports or (port == inference_port and status != "LISTEN") for port, status in sockets)

    deadline = time.monotonic() + grace_s
    while is_open():
        if time.monotonic() >= deadline:
            logger.warning("the edge is not done after %g s; stopping all the same", grace_s)
            return
        await asyncio.sleep(DRAIN_POLL_S)
    logger.info("the edge is done")


def publish_keys(keys: Path, published: Path) -> None:
    """Copy TorchServe's keys to where the edge reads them, whole or not at all, and readable by its group alone.

    TorchServe's own file is in a folder that only its user may enter; the edge may run as another user of the same group.
    """
    scratch = published.with_name(f".{published.name}")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "wb") as file:
        file.write(keys.read_bytes())
    scratch.rename(published)


def _make_home(work: Path) -> Path:
    """Make TorchServe's own folder, empty: a container that is started again finds the old one."""
    home = work / "torchserve"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700)
    return home
