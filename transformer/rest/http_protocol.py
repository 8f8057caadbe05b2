"""HTTP/1.1 on httptools' parser, with bounds on all that a client may send, leave unsent or leave unread.

uvicorn's server runs it. Its own protocol class appends to a header for as long as it goes on, waits for a body and for the
reader of an answer for ever, runs the body behind an ignored `Upgrade` as a request, and queues pipelined requests without end.
"""

import asyncio
import fcntl
import re
import sys
import termios
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote

import httptools
import uvicorn
from starlette.types import Scope
from uvicorn.server import ServerState

from transformer.errors import (
    BodyTooSlow,
    HeadTooLarge,
    HttpMalformed,
    MethodWrong,
    ModelNotReady,
    RequestError,
    TransferUnknown,
    show,
)
from transformer.rest.exchange import HIGH_WATER_BYTES, Exchange

MAX_HEAD_BYTES = 64 << 10
"""The largest request line and headers together; the trailers of a chunked body have the same bound."""

HEAD_BITE = 4 << 10
"""Bytes that are parsed at once outside of bodies: the requests that come pipelined in them are all that is queued."""

CHUNKED_BITE = 64 << 10
"""Bytes of a chunked body that are parsed at once."""

LINGER_BYTES = 256 << 20
"""The largest rest of a refused body that is thrown away."""

CLIENT = "visor.client"
"""The key of the request's `Client` in an ASGI scope."""

REFUSAL = "visor.refusal"
"""The key, in an ASGI scope, of the error with which a request is answered that HTTP does not allow."""

# RFC 3986's host and port; empty where the request has no authority (RFC 9112, 3.2).
_HOST = re.compile(rb"[\w.~!$&'()*+,;=%:\[\]-]*", re.ASCII)


def do_nothing() -> None:
    """Ignore that a client has left: no request of its connection is being answered."""


class Client:
    """The client of one connection. `gone`: whether the connection is closed; `on_gone` is called when it closes."""

    def __init__(self) -> None:
        self.gone = False
        self.on_gone: Callable[[], object] = do_nothing


@dataclass(frozen=True)
class Patience:
    """How long a client is waited for, in seconds.

    `head_s`: for a whole head, from the connection's begin or the last answer. `body_s`: for a whole body. `grace_s`: for a
    body's bytes, plus a second for each `min_rate` of them that have come. `unread_s`: for any of an answer to be read.
    `linger_s`: for the end of a body that was refused.
    """

    head_s: float = 75.0
    body_s: float = 60.0
    grace_s: float = 20.0
    min_rate: int = 4 << 10
    unread_s: float = 30.0
    linger_s: float = 5.0


class HttpProtocol(asyncio.Protocol):
    """One client's connection. It is an `exchange.Carrier`: requests are answered one after the other, in their order.

    `patience` apart, the arguments are those that uvicorn's server gives.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        patience: Patience = Patience(),
    ) -> None:
        if not config.loaded:
            config.load()
        self.gone = False
        self._app: Any = config.loaded_app
        self._state = app_state
        self._server = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._patience = patience
        self._client = Client()
        self._parser: Any = httptools.HttpRequestParser(self)
        # The head under way: `_head_bytes` counts it, beside the bite in which it began.
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_head = self._began = False
        self._head_bytes = 0
        # The exchange whose body is under way, when it began, its bytes, and those since the last one of its content.
        self._reading: Exchange | None = None
        self._body_start = 0.0
        self._body_bytes = self._overhead = 0
        # The exchange that is being answered, those after it, and what was read and not parsed.
        self._answering: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._rest = b""
        self._deaf = False  # what comes is thrown away
        self._broken = False  # because HTTP does not say where a next request would begin
        self._lingering = False
        self._closing = False
        self._paused = False
        self._stopping = False
        self._unread = 0
        self._drained: asyncio.Future[None] | None = None  # while the client has to read before more is sent
        self._deadline = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    # What asyncio and uvicorn's server call.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait for the first head."""
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(cast(Any, self))
        self._wait(self._patience.head_s)

    def connection_lost(self, _: Exception | None) -> None:
        """Stop waiting, and tell the request under way that its client has gone."""
        self._server.connections.discard(cast(Any, self))
        self.gone = self._deaf = True
        if self._timer is not None:
            self._timer.cancel()
        self._rest = b""
        self._waiting.clear()
        self.resume_writing()
        for exchange in (self._answering, self._reading):
            if exchange is not None:
                exchange.wake()
        self._parser = None
        self._client.gone = True
        self._client.on_gone()

    def data_received(self, data: bytes) -> None:
        """Parse the data, as far as there is room for what it brings."""
        if self._deaf:
            self._throw_away(len(data))
        elif self._rest:
            self._rest += data
        else:
            self._parse(data)

    def pause_writing(self) -> None:
        """Send no more until the client has read, and give it a time for that."""
        if self._drained is None:
            self._drained = self._loop.create_future()
            self._unread = self._count_unread()
            self._wait(self._patience.unread_s)

    def resume_writing(self) -> None:
        """Send on."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def shutdown(self) -> None:
        """End the connection: at once where nothing is under way, else after the answer; no body is waited for any more."""
        self._stopping = True
        if self._answering is None:
            self._close()
            return
        self._answering.keep_alive = False
        if self._reading is not None:
            self._deaf = True
            self._reading.fail(ModelNotReady("this server is about to stop; ask another one"))

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Start to count: a head begins."""
        self._url, self._headers = b"", []
        self._in_head = self._began = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, without the space around its value; trailers are ignored."""
        if self._in_head:
            if value[-1:] in (b" ", b"\t"):  # the parser leaves out what is before it
                value = value.rstrip(b" \t")
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Start to answer, or queue the request behind others."""
        if self._parser.should_upgrade():
            return  # it is read again without the field
        self._in_head = False
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": self._parser.get_http_version(),
            "method": self._parser.get_method().decode("ascii"),
            "scheme": "http",
            "root_path": "",
            "path": "",
            "query_string": b"",
            "headers": self._headers,
            "state": self._state,
            CLIENT: self._client,
        }
        fields = dict(self._headers)
        try:
            self._read_target(scope)
            self._check(scope, fields)
        except RequestError as err:
            self._refuse(err, scope)
            return
        old = scope["http_version"] == "1.0"
        length = None if b"transfer-encoding" in fields else int(fields.get(b"content-length", 0))
        exchange = Exchange(
            self,
            scope,
            keep_alive=not (old or self._stopping) and self._parser.should_keep_alive(),
            length=length,
            expects=not old and fields.get(b"expect", b"").lower() == b"100-continue",
        )
        if length != 0:
            self._reading = exchange
            self._body_start = self._loop.time()
            self._body_bytes = self._overhead = 0
            self._wait(min(self._patience.grace_s, self._patience.body_s))
        self._enqueue(exchange)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._reading is not None:
            self._overhead = -1
            self._body_bytes += len(body)
            self._reading.take(body)
            if self._reading.buffered > HIGH_WATER_BYTES:
                self._pause()

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        if self._parser.should_upgrade():
            return
        exchange, self._reading = self._reading, None
        if exchange is not None:
            exchange.finish()
            self._deaf = self._deaf or not exchange.keep_alive  # this was the last one
            if exchange.answered:  # early, and the connection was kept: the rest has been thrown away
                self._wait(self._patience.head_s)

    # What an exchange calls.

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of every answer."""
        return self._server.default_headers

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._transport.write(data)

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self._rest and not self.gone:
            self._paused = False
            self._transport.resume_reading()

    async def written(self) -> None:
        """Wait until the client has read most of what was sent."""
        while self._drained is not None:
            await self._drained

    def end(self, exchange: Exchange) -> None:
        """Go on after an answer: with the next request, or with the connection's end."""
        self._server.total_requests += 1
        self._answering = None
        if self.gone:
            return
        if not exchange.keep_alive:
            self._waiting.clear()
            if exchange.whole and not self._broken:
                self._close()
            else:
                self._linger()
            return
        if self._waiting:
            self._start(self._waiting.popleft())
        elif exchange.whole:
            self._wait(self._patience.head_s)
        if self._rest and not self._waiting:
            rest, self._rest = self._rest, b""
            self._parse(rest)
        self.resume()

    # Reading.

    def _parse(self, data: bytes) -> None:
        """Parse in bites, so that what one packet brings stays bounded: the rest waits for the requests before it."""
        if len(data) <= HEAD_BITE and not self._waiting:
            self._feed(data)
            return
        view = memoryview(data)
        while view:
            if self._deaf:
                self._throw_away(len(view))
                return
            if self._waiting:
                self._rest += view
                self._pause()
                return
            size = HEAD_BITE if self._reading is None else self._reading.left or CHUNKED_BITE
            self._feed(view[:size])
            view = view[size:]

    def _feed(self, data: bytes | memoryview) -> None:
        self._began = False
        before = self._reading
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as err:
            self._ignore_upgrade(bytes(data[err.args[0] :]))
            return
        except httptools.HttpParserError as err:
            if not self._deaf:  # else it is only what follows the last request
                self._refuse(HttpMalformed(f"the request is not HTTP/1.1: {err}"))
            return
        if self._in_head and not self._began:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_too_large("line and headers"))
        elif before is not None and self._reading is before:
            self._overhead = 0 if self._overhead < 0 else self._overhead + len(data)
            if self._overhead > MAX_HEAD_BYTES:
                self._refuse(_too_large("chunk extensions and trailers"))

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read a request with `Upgrade` as one without (RFC 9110, 7.8): the parser stops at its head and leaves its body."""
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(MethodWrong("CONNECT is not answered here"))
            return
        lines = [method, b" ", self._url, b" HTTP/", self._parser.get_http_version().encode(), b"\r\n"]
        for name, value in self._headers:
            if name != b"upgrade":
                lines += (name, b": ", value, b"\r\n")
        self._parser = httptools.HttpRequestParser(self)
        self._feed(b"".join((*lines, b"\r\n")))
        if rest:
            self._parse(rest)

    def _read_target(self, scope: Scope) -> None:
        """Read path and query into the scope. Raises HttpMalformed."""
        try:
            target = httptools.parse_url(self._url) if self._url != b"*" else None
            raw_path = b"*" if target is None else target.path or b"/"
            path = raw_path.decode("ascii")
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError) as err:
            raise HttpMalformed(f"the request's target is no path: {show(self._url)}") from err
        scope["raw_path"] = raw_path
        scope["path"] = unquote(path) if "%" in path else path
        scope["query_string"] = (target.query if target else None) or b""

    def _check(self, scope: Scope, fields: dict[bytes, bytes]) -> None:
        """Raise HttpMalformed or TransferUnknown for headers that HTTP forbids, or that nobody here can read."""
        hosts = [value for name, value in self._headers if name == b"host"]
        if len(hosts) != 1 and (hosts or scope["http_version"] != "1.0"):
            raise HttpMalformed(f"a request has one Host header (RFC 9112, 3.2), this one {len(hosts)}")
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise HttpMalformed(f"the Host header is no host and port: {show(hosts[0])}")
        if b"transfer-encoding" in fields:
            codings = b",".join([value for name, value in self._headers if name == b"transfer-encoding"]).lower()
            if codings != b"chunked":
                raise TransferUnknown(f"Transfer-Encoding {show(codings)} is not read; send chunked or Content-Length")

    # The queue of exchanges.

    def _enqueue(self, exchange: Exchange) -> None:
        if not exchange.keep_alive and self._reading is None:
            self._deaf = True  # this is the last one
        if self._answering is None and not self._waiting:
            self._start(exchange)
        else:
            self._waiting.append(exchange)

    def _start(self, exchange: Exchange) -> None:
        self._answering = exchange
        if self._reading is None:
            self._wait(None)
        task = self._loop.create_task(exchange.run(self._app))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def _refuse(self, err: RequestError, scope: Scope | None = None) -> None:
        """Answer with an error, in its turn, and read nothing more."""
        self._deaf = self._broken = True
        self._in_head = False
        reading, self._reading = self._reading, None
        if reading is not None:
            if reading.answered:
                self._linger()
            else:
                reading.fail(err)
            return
        known = scope or {"type": "http", "method": "", "path": "", "headers": self._headers, CLIENT: self._client}
        self._enqueue(Exchange(self, {**known, REFUSAL: err}, keep_alive=False))

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    # The connection's end, and the times of all.

    def _linger(self) -> None:
        """Read and throw away what still comes, for a while: closed at once, the client would be reset before its answer."""
        self._deaf = self._lingering = True
        self._reading = None
        self._unread = LINGER_BYTES
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._rest = b""
        self.resume()
        self._wait(min(self._patience.linger_s, 1.0) if self._stopping else self._patience.linger_s)

    def _throw_away(self, size: int) -> None:
        if self._lingering:
            self._unread -= size
            if self._unread < 0:
                self._close()

    def _close(self) -> None:
        """Close the connection once what was sent has been read, and break it where that takes too long."""
        self._closing = self._deaf = True
        self._transport.close()
        self._wait(self._patience.unread_s)

    def _wait(self, seconds: float | None) -> None:
        """Look after this many seconds whether the client has done what it is waited for; None: there is nothing to wait for."""
        if seconds is None:
            self._deadline = float("inf")
            return
        self._deadline = when = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > when:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        if now < self._deadline:  # it was moved: one timer serves many requests
            if self._deadline != float("inf"):
                self._timer = self._loop.call_at(self._deadline, self._look)
        elif self._closing:
            self._transport.abort()
        elif self._lingering:
            self._close()
        elif self._drained is not None:
            self._look_at_reader()
        elif self._reading is not None:
            self._look_at_body(now)
        elif self._answering is None:
            self._close()

    def _look_at_reader(self) -> None:
        unread = self._count_unread()
        if unread >= self._unread:
            self._transport.abort()
            return
        self._unread = unread
        self._wait(self._patience.unread_s)

    def _count_unread(self) -> int:
        """The bytes that the client's machine has not acknowledged: here and in the kernel, whose part moves in smaller steps."""
        queued = bytearray(4)
        fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        return self._transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)

    def _look_at_body(self, now: float) -> None:
        patience, spent = self._patience, now - self._body_start
        allowed = min(patience.body_s, patience.grace_s + self._body_bytes / patience.min_rate)
        if self._paused:  # by the server: no time of the client's
            self._body_start += patience.grace_s
            self._wait(patience.grace_s)
        elif spent < allowed:
            self._wait(allowed - spent)
        else:
            self._refuse(
                BodyTooSlow(
                    f"{self._body_bytes} bytes of the body came in {spent:.0f} s; it has {patience.body_s:g} s, "
                    f"and after the first {patience.grace_s:g} it must bring {patience.min_rate} bytes a second"
                )
            )


def _too_large(what: str) -> HeadTooLarge:
    return HeadTooLarge(f"the request's {what} have more than {MAX_HEAD_BYTES} bytes; send fewer or shorter ones")
