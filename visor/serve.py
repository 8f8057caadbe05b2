"""`visor serve`: one archive, verified, behind TorchServe on loopback and the V2 edge on the network."""

import asyncio
import logging
import shutil
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from training import archive as archives
from training import signing
from training.archive import Contents
from transformer.request_log import Level, json_handler
from transformer.server import Bound, EdgeSettings, serve_edge
from visor import torchserve

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServeOptions:
    """Where to listen and how wide. Port 0 takes a free one. `workers`: None for one per CPU of the limit.

    `max_queue`, `cache_images` and `request_log` are the edge's own (`transformer.settings`).
    """

    host: str
    port: int
    grpc_port: int
    public_key: Path
    workers: int | None = None
    max_queue: int | None = None
    cache_images: int = 0
    request_log: Level = "all"


def serve(archive: Path, options: ServeOptions, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, then drain and stop everything that was started.

    Raises ArchiveRefused, ArchiveBroken, JavaMissing, PortTaken (the edge's), ServeError; on each of
    them nothing is left running.
    """
    edge_logger = logging.getLogger("transformer")
    if not edge_logger.handlers:
        edge_logger.addHandler(json_handler())  # in one form with the lines of its requests
        edge_logger.propagate = False
    torchserve.find_java()  # before anything is copied: the commonest reason to fail is named first
    with tempfile.TemporaryDirectory(prefix="visor-serve-") as folder:
        contents = _take(archive, options.public_key, Path(folder))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(contents, options, announce, Path(folder)))


def _take(archive: Path, public_key: Path, home: Path) -> Contents:
    """Verify a private copy, so that what TorchServe opens is what was verified whatever happens to the original."""
    signing.verify(archive, public_key)  # the original too, so that a refusal names the file that the user named
    model_store = home / "model-store"
    model_store.mkdir()
    copy = Path(shutil.copy(archive, model_store))
    shutil.copy(signing.signature_of(archive), signing.signature_of(copy))
    return archives.read_verified(copy, public_key)


async def _serve(contents: Contents, options: ServeOptions, announce: Callable[[str], None], home: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    workers = options.workers or torchserve.cpu_limit()
    ports = torchserve.Ports.free()
    async with torchserve.running(contents.path, workers, home, ports) as server:
        edge_settings = EdgeSettings(
            spec=contents.spec,
            archive_digest=contents.digest,
            inference_url=torchserve.url(ports.inference),
            management_url=torchserve.url(ports.management),
            worker_sockets=home / torchserve.SOCKETS,
            host=options.host,
            http_port=options.port,
            grpc_port=options.grpc_port,
            max_queue=options.max_queue,
            cache_images=options.cache_images,
            request_log=options.request_log,
        )
        bound: asyncio.Future[Bound] = asyncio.get_running_loop().create_future()
        edge = asyncio.create_task(serve_edge(edge_settings, bound.set_result, stop))
        ready = asyncio.create_task(_announce_ready(contents, server, bound, workers, announce))
        died = asyncio.create_task(server.process.wait())
        ends = {edge, died, asyncio.create_task(stop.wait())}
        try:
            await asyncio.wait(ends | {ready}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()  # its error, where no worker will ever be ready
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if died.done() and not stop.is_set():
                raise server.ended()
        finally:
            stop.set()
            ready.cancel()
            await edge  # drains: what was accepted is answered before TorchServe goes


async def _announce_ready(
    contents: Contents,
    server: torchserve.Server,
    bound: "asyncio.Future[Bound]",
    workers: int,
    announce: Callable[[str], None],
) -> None:
    await server.wait_ready(contents.spec.name)
    ports = await bound
    spec = contents.spec
    announce(
        f"serving {spec.name} version {spec.version} (archive {contents.digest[:12]}) with {workers} workers\n"
        f"  REST  http://{ports.host}:{ports.http_port}/v2/models/{spec.name}\n"
        f"  gRPC  {ports.host}:{ports.grpc_port}\n"
        f"  try   visor predict IMAGE --url http://{ports.host}:{ports.http_port}"
    )
