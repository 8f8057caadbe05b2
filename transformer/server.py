"""The edge runs REST and gRPC in one event loop, from listening to drained; its caller owns the loop, signals and TorchServe."""

import asyncio
import contextlib
import errno
import functools
import gc
import logging
import math
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn

from handlers.drift import Reference
from handlers.spec import Spec
from transformer.allocation import return_free_pages, return_large_buffers
from transformer.budget import Budget, find_total
from transformer.draining import is_connected, stop_listening, take_backlog
from transformer.errors import PortTaken, ShadowUnusable
from transformer.grpc.server import create_server
from transformer.line_writer import LineWriter, standard_error
from transformer.listening import Listening, join_port
from transformer.metrics import Metrics
from transformer.request_log import RequestLog
from transformer.rest.app import create_app
from transformer.rest.connection import Patience
from transformer.rest.http_protocol import HttpProtocol
from transformer.service import CANARY, UNLIMITED_BYTES, Service
from transformer.settings import EdgeSettings
from transformer.shadow import Shadow
from transformer.tokens import Tokens
from transformer.upstream.answer_cache import AnswerCache
from transformer.upstream.torchserve import TorchServe

logger = logging.getLogger(__name__)

BACKLOG = 2048
DRAIN_POLL_S = 0.05


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: the edge's caller decides when it stops. `listener`: its one socket."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self._listener = listener

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def run_to_end(self) -> None:
        """Serve until `should_exit` is set."""
        await self.serve(sockets=[self._listener])

    async def stop_accepting(self) -> None:
        """Stop listening; all connections that were made until then are served."""
        if not self.started:
            return
        backlog = take_backlog(self._listener)
        for server in self.servers:
            server.close()
        for connection in backlog:
            await asyncio.get_running_loop().connect_accepted_socket(self._make_protocol, connection)

    def _make_protocol(self) -> asyncio.Protocol:
        # As uvicorn makes one for each connection that it accepts itself.
        protocol_class: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


async def serve_edge(
    spec: Spec,
    archive_digest: str,
    settings: EdgeSettings,
    on_listening: Callable[[Listening], None],
    stop: asyncio.Event,
    reference: Reference | None = None,
) -> None:
    """Serve one archive until `stop` is set; then accept no connection, answer all requests that come, return in `grace_s`.

    `archive_digest`: SHA-256 of the .mar, hexadecimal. `on_listening` is called once the ports accept connections; whether a
    model is ready is another matter, which /v2/health/ready tells. `reference`: the archive's, of drift, None where it has none.
    Raises TokensUnusable, ShadowUnusable and PortTaken, before it calls `on_listening`.
    """
    check_settings(settings)
    return_large_buffers()
    tokens = Tokens(settings.token_file) if settings.token_file else None
    upstream = TorchServe(
        settings.inference_url,
        spec.name,
        settings.management_url,
        settings.worker_sockets,
        settings.torchserve_keys,
        ready_cache_s=settings.ready_cache_s,
        hang_s=settings.hang_s,
    )
    lines = standard_error()
    total = settings.limits.memory_bytes or find_total(settings.memory_share)
    # gRPC's core fills the place of one message whatever else is under way.
    message_bytes = min(settings.limits.max_body_bytes, total // 2) if settings.serves_grpc else 0
    budget = Budget(total - message_bytes)
    service = create_service(spec, archive_digest, settings, upstream, lines, budget, tokens, reference)
    host = resolve_host(settings.host)
    with contextlib.closing(upstream), listen(host, settings.http_port) as listener:
        grpc_server, grpc_port = None, None
        if settings.serves_grpc:
            grpc_server, grpc_port = create_server(service, host, settings.grpc_port, settings.grpc_age_s, message_bytes)
            await grpc_server.start()
        http_server = _HttpServer(_http_config(service, settings), listener)
        listening = Listening(host, listener.getsockname()[1], grpc_port)
        serving = asyncio.create_task(http_server.run_to_end())
        stopped = asyncio.create_task(stop.wait())
        beside = [asyncio.create_task(one) for one in (service.watch(), service.follow(), return_free_pages())]
        left_s = settings.grace_s
        gc.collect()
        gc.freeze()  # what was imported and made so far stays to the end: no collection need look at it again
        try:
            on_listening(listening)
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                service.drain()
                left_s -= await _drain(http_server, listening, min(settings.drain_s, left_s))
        finally:
            for one in (stopped, *beside):
                one.cancel()
            http_server.config.timeout_graceful_shutdown = math.ceil(left_s)
            http_server.should_exit = True
            await asyncio.gather(serving, *([grpc_server.stop(left_s)] if grpc_server else []))
            await service.close()
    logger.info("the edge is drained")
    await asyncio.to_thread(lines.drain)


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` at SIGTERM, SIGINT, and at SIGHUP, which a terminal sends at its end; nohup's ignored one stays ignored."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)


def create_service(
    spec: Spec,
    archive_digest: str,
    settings: EdgeSettings,
    upstream: TorchServe,
    lines: LineWriter,
    budget: Budget | None = None,
    tokens: Tokens | None = None,
    reference: Reference | None = None,
) -> Service:
    """Make the service that both protocols share. `lines`: where the request log goes."""
    metrics = Metrics(spec, archive_digest, settings.track, reference)
    metrics.watch_log(lines)
    shadow = None
    # A release's pods are all told, and the canary is what is asked.
    if settings.shadow_url and settings.shadow_file and settings.track != CANARY:
        memory_bytes = budget.total if budget else UNLIMITED_BYTES
        shadow = Shadow(settings.shadow_url, settings.shadow_file, spec, metrics, memory_bytes, settings.token_file)
    return Service(
        spec,
        archive_digest,
        upstream,
        metrics,
        track=settings.track,
        allow_threshold=settings.allow_threshold,
        limits=settings.limits,
        cache=AnswerCache(settings.cache_images),
        log=RequestLog(
            settings.request_log,
            {"model": spec.name, "version": spec.version, "track": settings.track},
            lines,
            short=settings.short_log,
        ),
        budget=budget,
        tokens=tokens,
        shadow=shadow,
    )


async def _drain(http_server: _HttpServer, listening: Listening, limit_s: float) -> float:
    """Accept no more connections and wait until clients have closed theirs; returns the seconds that it took."""
    start = time.monotonic()
    if listening.grpc_port is not None:
        stop_listening(listening.grpc_port)
    await http_server.stop_accepting()
    while is_connected(listening.ports) and time.monotonic() - start < limit_s:
        await asyncio.sleep(DRAIN_POLL_S)
    return time.monotonic() - start


def resolve_host(host: str) -> str:
    """The address to listen on: that of all of IPv4, where all of IPv6 and IPv4 is wanted and the machine has no IPv6."""
    return "0.0.0.0" if host == "::" and not socket.has_dualstack_ipv6() else host


def check_settings(settings: EdgeSettings) -> None:
    """Raise PortTaken where both protocols are to have one port, ShadowUnusable where a shadow is half told."""
    if bool(settings.shadow_url) != bool(settings.shadow_file):
        raise ShadowUnusable("a shadow takes both --shadow-url, whom to ask, and --shadow-file, how much; give both or none")
    if settings.serves_grpc and settings.http_port and settings.http_port == settings.grpc_port:
        raise PortTaken(f"REST and gRPC cannot both listen on port {settings.grpc_port}; give gRPC another one by --grpc-port")


def listen(host: str, port: int) -> socket.socket:
    """Open a listening TCP socket whose connections send small packets at once; `::` takes IPv4 too. Raises PortTaken."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=host == "::")
    except OSError as err:
        # getaddrinfo's codes, those of names, are below zero.
        if err.errno == errno.EADDRNOTAVAIL or (err.errno or 0) < 0:
            raise PortTaken(
                f"REST cannot listen on {host!r}: {err.strerror}; --host takes an address of this machine, such as 127.0.0.1, "
                "or a name that leads to one"
            ) from err
        raise PortTaken(f"REST cannot listen on {join_port(host, port)}: {err.strerror}; choose another port") from err
    # asyncio sets this only on sockets that it made itself. Without it an answer's body, which uvicorn writes after its
    # headers, waits 40 ms for the client's delayed acknowledgement; the connections take it over from here.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _http_config(service: Service, settings: EdgeSettings) -> uvicorn.Config:
    patience = Patience(head_s=settings.keep_alive_s, body_s=settings.limits.body_timeout_s)
    return uvicorn.Config(
        create_app(service, page=settings.page),
        http=cast(Any, functools.partial(HttpProtocol, patience=patience)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here uses a client's address
    )
