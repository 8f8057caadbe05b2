"""HTTP/1.1 on httptools' parser, with bounds on all that a client may send, leave unsent or leave unread.

uvicorn's server runs it. Its own protocol class appends to a header for as long as it goes on, waits for a body and for the
reader of an answer for ever, runs the body behind an ignored `Upgrade` as a request, and queues pipelined requests without end.
"""

import asyncio
from collections import deque
from typing import Any

import httptools
import uvicorn
from starlette.types import Scope
from uvicorn.server import ServerState

from transformer.errors import BodyTooSlow, HttpMalformed, MethodWrong, ModelNotReady, RequestError
from transformer.rest import head
from transformer.rest.connection import Connection, Patience
from transformer.rest.exchange import HIGH_WATER_BYTES, Exchange
from transformer.rest.head import MAX_HEAD_BYTES
from transformer.rest.scope import CLIENT, REFUSAL, Client

HEAD_BITE = 4 << 10
"""Bytes that are parsed at once outside of bodies: the requests that come pipelined in them are all that is queued."""

CHUNKED_BITE = 64 << 10
"""Bytes of a chunked body that are parsed at once."""


class HttpProtocol(Connection):
    """One client's connection. It is an `exchange.Carrier`: requests are answered one after the other, in their order.

    `patience` apart, the arguments are those that uvicorn's server gives.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        patience: Patience | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        super().__init__(server_state, _loop or asyncio.get_running_loop(), patience or Patience())
        self._app: Any = config.loaded_app
        self._state = app_state
        self._client = Client()
        self._parser: Any = httptools.HttpRequestParser(self)
        # The head under way: `_head_bytes` counts it, beside the bite in which it began.
        self._url = b""
        self._headers: head.Headers = []
        self._in_head = self._began = False
        self._head_bytes = 0
        # The exchange whose body is under way, when it began, its bytes, and those since the last one of its content.
        self._reading: Exchange | None = None
        self._body_start = 0.0
        self._body_bytes = self._overhead = 0
        # The exchange that is being answered, and those after it.
        self._answering: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._broken = False  # HTTP does not say where a next request would begin

    # What asyncio and uvicorn's server call.

    def connection_lost(self, err: Exception | None) -> None:
        """Stop waiting, and tell the request under way that its client has gone."""
        super().connection_lost(err)
        self._waiting.clear()
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
            head.read_target(self._url, scope)
            head.check(self._headers, fields, scope["http_version"])
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
                self._reading = None
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
                self._refuse(head.too_large("line and headers"))
        elif before is not None and self._reading is before:
            self._overhead = 0 if self._overhead < 0 else self._overhead + len(data)
            if self._overhead > MAX_HEAD_BYTES:
                self._refuse(head.too_large("chunk extensions and trailers"))

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read a request with `Upgrade` as one without (RFC 9110, 7.8): the parser stops at its head and leaves its body."""
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(MethodWrong("CONNECT is not answered here"))
            return
        anew = head.without_upgrade(method, self._url, self._parser.get_http_version(), self._headers)
        self._parser = httptools.HttpRequestParser(self)
        self._feed(anew)
        if rest:
            self._parse(rest)

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

    # A client that is late.

    def _look_at_request(self, now: float) -> None:
        if self._reading is not None:
            self._look_at_body(now)
        elif self._answering is None:
            self._close()

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
