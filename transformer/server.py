"""REST and gRPC in one event loop, from listening to drained; the caller owns the loop, the signals and TorchServe."""

import asyncio
import contextlib
import logging
import math
import socket
from collections.abc import Callable, Iterator

import uvicorn

from transformer.app import create_app
from transformer.errors import PortTaken
from transformer.grpc_server import create_server
from transformer.metrics import Metrics
from transformer.service import Service
from transformer.settings import Bound, EdgeSettings
from transformer.upstream import TorchServe

__all__ = ["Bound", "EdgeSettings", "serve_edge"]

logger = logging.getLogger(__name__)

BACKLOG = 2048


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: who started the edge decides when it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_edge(settings: EdgeSettings, on_bound: Callable[[Bound], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then take no more, answer what is under way for up to `grace_s`, and return.

    `on_bound` is called once both ports take connections; readiness is another matter, which /v2/health/ready tells.
    Raises PortTaken, before `on_bound`.
    """
    spec = settings.spec
    upstream = TorchServe(
        settings.inference_url,
        spec.name,
        settings.management_url,
        concurrency=settings.concurrency,
        timeout_s=settings.timeout_s,
        ready_cache_s=settings.ready_cache_s,
    )
    service = Service(
        spec,
        settings.archive_digest,
        upstream,
        Metrics(spec, settings.archive_digest),
        max_images=settings.max_images,
        max_body_bytes=settings.max_body_bytes,
    )
    with contextlib.closing(upstream), listen(settings.host, settings.http_port) as listening:
        grpc_server, grpc_port = create_server(service, settings.host, settings.grpc_port)
        http_server = _HttpServer(_http_config(service, settings))
        await grpc_server.start()
        serving = asyncio.create_task(http_server.serve(sockets=[listening]))
        stopped = asyncio.create_task(stop.wait())
        try:
            on_bound(Bound(settings.host, listening.getsockname()[1], grpc_port))
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            http_server.should_exit = True
            await asyncio.gather(serving, grpc_server.stop(settings.grace_s))
    logger.info("the edge is drained")


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket whose connections send small packets at once. Raises PortTaken."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as err:
        raise PortTaken(f"REST cannot listen on {host}:{port}: {err.strerror}; choose another port") from err
    # asyncio sets this only on sockets that it made itself. Without it an answer's body, which uvicorn writes after its
    # headers, waits 40 ms for the client's delayed acknowledgement; the connections take it over from here.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _http_config(service: Service, settings: EdgeSettings) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(service),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=math.ceil(settings.grace_s),
    )
