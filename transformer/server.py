"""REST and gRPC in one event loop, from listening to drained; the caller owns the loop, the signals and TorchServe."""

import asyncio
import contextlib
import logging
import math
import socket
import sys
import time
from collections.abc import Callable, Iterator

import uvicorn

from transformer.allocation import return_large_buffers
from transformer.answer_cache import AnswerCache
from transformer.app import create_app
from transformer.dispatch import Bounds
from transformer.draining import is_connected, stop_listening, take_backlog
from transformer.errors import PortTaken
from transformer.grpc_server import create_server
from transformer.http_protocol import BoundedHttpProtocol
from transformer.line_writer import LineWriter
from transformer.metrics import Metrics
from transformer.request_log import RequestLog
from transformer.service import Service
from transformer.settings import Bound, EdgeSettings
from transformer.upstream import TorchServe

__all__ = ["Bound", "EdgeSettings", "serve_edge"]

logger = logging.getLogger(__name__)

BACKLOG = 2048
DRAIN_POLL_S = 0.05


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: who started the edge decides when it stops. `listening`: its one socket."""

    def __init__(self, config: uvicorn.Config, listening: socket.socket) -> None:
        super().__init__(config)
        self._listening = listening

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def run_to_end(self) -> None:
        """Serve until `should_exit`."""
        await self.serve(sockets=[self._listening])

    async def take_no_more(self) -> None:
        """Stop listening; all connections that were made until then are served."""
        if not self.started:
            return
        backlog = take_backlog(self._listening)
        for server in self.servers:
            server.close()
        for connection in backlog:
            await asyncio.get_running_loop().connect_accepted_socket(self._make_protocol, connection)

    def _make_protocol(self) -> asyncio.Protocol:
        # As uvicorn makes one for each connection that it accepts itself.
        return BoundedHttpProtocol(self.config, self.server_state, self.lifespan.state)


async def serve_edge(settings: EdgeSettings, on_bound: Callable[[Bound], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then take nobody new, answer what comes and what is under way, and return in `grace_s`.

    `on_bound` is called once the ports take connections; readiness is another matter, which /v2/health/ready tells.
    Raises PortTaken, before `on_bound`.
    """
    return_large_buffers()
    upstream = TorchServe(
        settings.inference_url,
        settings.spec.name,
        settings.management_url,
        settings.worker_sockets,
        ready_cache_s=settings.ready_cache_s,
    )
    lines = LineWriter(sys.stderr.fileno())
    service = create_service(settings, upstream, lines)
    with contextlib.closing(lines), contextlib.closing(upstream), listen(settings.host, settings.http_port) as listening:
        grpc_server, grpc_port = None, None
        if settings.grpc_port is not None:
            grpc_server, grpc_port = create_server(service, settings.host, settings.grpc_port, settings.grpc_age_s)
            await grpc_server.start()
        http_server = _HttpServer(_http_config(service, settings.keep_alive_s), listening)
        bound = Bound(settings.host, listening.getsockname()[1], grpc_port)
        serving = asyncio.create_task(http_server.run_to_end())
        stopped = asyncio.create_task(stop.wait())
        left_s = settings.grace_s
        try:
            on_bound(bound)
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                service.drain()
                left_s -= await _drain(http_server, bound, min(settings.drain_s, left_s))
        finally:
            stopped.cancel()
            http_server.config.timeout_graceful_shutdown = math.ceil(left_s)
            http_server.should_exit = True
            await asyncio.gather(serving, *([grpc_server.stop(left_s)] if grpc_server else []))
            await service.close()
    logger.info("the edge is drained")


def create_service(settings: EdgeSettings, upstream: TorchServe, lines: LineWriter) -> Service:
    """What both protocols share. `lines`: where the request log goes."""
    spec = settings.spec
    bounds = Bounds(
        max_images=settings.max_images,
        max_body_bytes=settings.max_body_bytes,
        timeout_s=settings.timeout_s,
        concurrency=settings.concurrency,
        max_queue=settings.max_queue,
    )
    return Service(
        spec,
        settings.archive_digest,
        upstream,
        Metrics(spec, settings.archive_digest, settings.track),
        track=settings.track,
        bounds=bounds,
        cache=AnswerCache(settings.cache_images),
        log=RequestLog(settings.request_log, {"model": spec.name, "version": spec.version, "track": settings.track}, lines),
    )


async def _drain(http_server: _HttpServer, bound: Bound, limit_s: float) -> float:
    """Let nobody new in and wait for those who are here to leave; the seconds that it took."""
    start = time.monotonic()
    if bound.grpc_port is not None:
        stop_listening(bound.grpc_port)
    await http_server.take_no_more()
    while is_connected(bound.ports) and time.monotonic() - start < limit_s:
        await asyncio.sleep(DRAIN_POLL_S)
    return time.monotonic() - start


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


def _http_config(service: Service, keep_alive_s: int) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(service),
        http=BoundedHttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody asks for a client's address
        timeout_keep_alive=keep_alive_s,
    )
