"""`visor serve` verifies one archive and serves it by TorchServe, on loopback, behind the V2 edge, on the network."""

import asyncio
import dataclasses
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from archives import signing
from archives.contents import Contents
from transformer.line_writer import standard_error
from transformer.request_log import json_handler
from transformer.server import serve_edge, stop_on_signals
from transformer.settings import EdgeSettings, Listening
from visor.serving import torchserve

logger = logging.getLogger(__name__)

# Less than a pod's: whoever stops a server in a terminal waits for its end.
DRAIN_S = 1.0
# Less than in a pod, where TorchServe and its workers have a container of their own.
MEMORY_SHARE = 0.25


@dataclass(frozen=True)
class ServeOptions:
    """How to serve. `workers`: None for one per CPU of the limit.

    `edge`: the edge's settings, to which serving adds where this run's TorchServe is.
    """

    public_key: Path
    edge: EdgeSettings
    workers: int | None = None


def serve(archive: Path, options: ServeOptions, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, then drain and stop everything that was started.

    Raises ArchiveRefused, ArchiveBroken, JavaMissing, PortTaken (the edge's), ServeError; on each of
    them nothing is left running.
    """
    edge_logger = logging.getLogger("transformer")
    if not edge_logger.handlers:
        edge_logger.addHandler(json_handler())  # in one form with the lines of its requests
        edge_logger.propagate = False
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            handler.setStream(standard_error())  # a full pipe would stop the event loop
    torchserve.find_java()  # before anything is copied: the commonest reason to fail is named first
    with tempfile.TemporaryDirectory(prefix="visor-serve-") as folder:
        contents = _copy_verified(archive, options.public_key, Path(folder))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(contents, options, announce, Path(folder)))


def _copy_verified(archive: Path, public_key: Path, home: Path) -> Contents:
    """Verify a private copy, so that TorchServe opens what was verified, whatever happens to the original.

    The copy has the name that its verified spec gives: TorchServe is told that name, and nobody signed the file's own.
    """
    signing.verify(archive, public_key)  # the original too, so that a refusal names the file that the user named
    model_store = home / "model-store"
    model_store.mkdir()
    copy = Path(shutil.copyfile(archive, home / "copy.mar"))
    shutil.copyfile(signing.signature_of(archive), signing.signature_of(copy))
    contents = signing.read_verified(copy, public_key)
    return dataclasses.replace(contents, path=copy.rename(model_store / f"{contents.spec.name}.mar"))


async def _serve(contents: Contents, options: ServeOptions, announce: Callable[[str], None], home: Path) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    workers = options.workers or torchserve.cpu_limit()
    ports = torchserve.Ports.free()
    async with torchserve.running(contents.path, workers, home, ports) as server:
        settings = dataclasses.replace(
            options.edge,
            inference_url=torchserve.url(ports.inference),
            management_url=torchserve.url(ports.management),
            torchserve_keys=server.keys,
            worker_sockets=home / torchserve.SOCKETS,
            drain_s=DRAIN_S,
            memory_share=MEMORY_SHARE,
        )
        listening: asyncio.Future[Listening] = asyncio.get_running_loop().create_future()
        edge = asyncio.create_task(serve_edge(contents.spec, contents.digest, settings, listening.set_result, stop))
        ready = asyncio.create_task(_announce_ready(contents, server, listening, workers, announce))
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
            stop.set()
            ready.cancel()
            await edge  # drains: what was accepted is answered before TorchServe goes


async def _announce_ready(
    contents: Contents,
    server: torchserve.Server,
    listening: "asyncio.Future[Listening]",
    workers: int,
    announce: Callable[[str], None],
) -> None:
    await server.wait_ready(contents.spec.name)
    ports = await listening
    spec = contents.spec
    announce(
        f"serving {spec.name} version {spec.version} (archive {contents.digest[:12]}) with {workers} workers\n"
        f"  REST  http://{ports.http_address}/v2/models/{spec.name}\n"
        f"  gRPC  {ports.grpc_address}\n"
        f"  try   visor predict IMAGE --url http://{ports.http_address}"
    )
