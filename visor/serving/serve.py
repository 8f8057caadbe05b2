"""`visor serve` verifies one archive and serves it by TorchServe, on loopback, behind the V2 edge, on the network."""

import asyncio
import dataclasses
import logging
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from archives import opening
from archives.opening import Opened
from handlers.errors import counted
from transformer.line_writer import standard_error
from transformer.listening import Listening
from transformer.request_log import json_handler
from transformer.server import serve_edge, stop_on_signals
from transformer.settings import EdgeSettings
from transformer.tokens import read_tokens
from visor.serving import memory, torchserve
from visor.serving.child import in_child
from visor.serving.launch import SOCKETS, find_java
from visor.serving.ports import Ports, url

logger = logging.getLogger(__name__)

# Less than a pod's: whoever stops a server in a terminal waits for its end.
DRAIN_S = 1.0
# Less than in a pod, where TorchServe and its workers have a container of their own.
MEMORY_SHARE = 0.25


@dataclass(frozen=True)
class ServeOptions:
    """How to serve. `digest`: that the archive must have, None for any; `workers`: None for one per CPU of the limit.

    `edge`: the edge's settings, to which serving adds where this run's TorchServe is.
    `picture_bytes`: what a worker may take for one picture, None for what the archive's limits come to.
    """

    public_key: Path
    edge: EdgeSettings
    digest: str | None = None
    workers: int | None = None
    picture_bytes: int | None = None


def serve(archive: Path, options: ServeOptions, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, then drain and stop everything that was started.

    Raises what `archives.opening.opened` raises, JavaMissing, MemoryShort, PortTaken and TokensUnusable (the edge's),
    ServerEnded, ServeError; on each of them nothing is left running.
    """
    find_java()  # before anything is copied: the commonest reason to fail is named first
    if options.edge.token_file:
        read_tokens(options.edge.token_file)
    with (
        tempfile.TemporaryDirectory(prefix="visor-archive-") as copy,
        tempfile.TemporaryDirectory(prefix="visor-serve-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        # What verifying imports [21 MB] would stay as long as the server; the child comes before the log's thread.
        verified = in_child(opening.take, archive, options.public_key, Path(copy), options.digest)
        at_terminal = sys.stderr.isatty()
        _log_without_waiting(as_json=not at_terminal)
        options = dataclasses.replace(options, edge=dataclasses.replace(options.edge, short_log=at_terminal))
        runner.run(_serve(verified, options, announce, Path(folder)))
    logger.info("stopped")


def _log_without_waiting(*, as_json: bool) -> None:
    """Have the edge's log, and this process's own, written by a thread. `as_json`: the edge's, which else is for people, too."""
    edge_logger = logging.getLogger("transformer")
    if as_json and not edge_logger.handlers:
        edge_logger.addHandler(json_handler())  # in one form with the lines of its requests
        edge_logger.propagate = False
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            handler.setStream(standard_error())  # a full pipe would stop the event loop


async def _serve(archive: Opened, options: ServeOptions, announce: Callable[[str], None], home: Path) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    reference = archive.read_reference()
    needs = memory.of_archive(archive.spec.backend, archive.path.stat().st_size, archive.spec.limits)
    workers = torchserve.choose_workers(options.workers, needs, options.picture_bytes, options.edge.hang_s)
    ports = Ports.free()
    logger.info("starting TorchServe with %s: a few seconds", counted(workers.count, "worker"))
    async with torchserve.running(archive.path, workers, home, ports) as server:
        settings = dataclasses.replace(
            options.edge,
            inference_url=url(ports.inference),
            management_url=url(ports.management),
            torchserve_keys=server.keys,
            worker_sockets=home / SOCKETS,
            drain_s=DRAIN_S,
            memory_share=MEMORY_SHARE,
        )
        listening: asyncio.Future[Listening] = asyncio.get_running_loop().create_future()
        edge = asyncio.create_task(serve_edge(archive.spec, archive.digest, settings, listening.set_result, stop, reference))
        ready = asyncio.create_task(_announce_ready(archive, server, listening, workers.count, settings, announce))
        died = asyncio.create_task(server.process.wait())
        ends = {edge, died, asyncio.create_task(stop.wait())}
        try:
            await asyncio.wait(ends | {ready}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()  # its error, where no worker will ever be ready
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if died.done() and not stop.is_set():
                raise server.ended_error()
        finally:
            if stop.is_set():
                logger.info("stopping: what was accepted is still answered")
            stop.set()
            ready.cancel()
            await edge  # drains: what was accepted is answered before TorchServe goes


async def _announce_ready(
    archive: Opened,
    server: torchserve.Server,
    listening: "asyncio.Future[Listening]",
    workers: int,
    settings: EdgeSettings,
    announce: Callable[[str], None],
) -> None:
    await server.wait_ready(archive.spec.name)
    ports = await listening
    spec = archive.spec
    token = f" --token-file {shlex.quote(str(settings.token_file))}" if settings.token_file else ""
    page = f"  page  http://{ports.http_address}/\n" if settings.page else ""
    announce(
        f"serving {spec.name} version {spec.version} (archive {archive.digest[:12]}) with {counted(workers, 'worker')}\n"
        f"  key   {archive.key}\n"
        f"  REST  http://{ports.http_address}/v2/models/{spec.name}\n"
        f"  gRPC  {ports.grpc_address}\n"
        f"{page}"
        f"  try   visor predict IMAGE --url http://{ports.http_address}{token}"
    )
