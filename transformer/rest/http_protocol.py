"""This is uvicorn's HTTP/1.1 with bounds on a request's head, in bytes and in time, which uvicorn and its parser do not have.

The parser appends to a header for as long as it goes on: one of 200 MB held the event loop for a minute. And a client that
does not end its head would keep its connection for ever, as uvicorn's own time counts from an answer alone.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from transformer.errors import HeadTooLarge

MAX_HEAD_BYTES = 64 << 10
"""The largest request line and headers together."""

CLIENT = "visor.client"
"""The key of the request's `Client` in an ASGI scope."""


def do_nothing() -> None:
    """Ignore that a client has left: no request of its connection is being answered."""


class Client:
    """The client of one connection. `gone`: whether the connection is closed; `on_gone` is called when it closes."""

    def __init__(self) -> None:
        self.gone = False
        self.on_gone: Callable[[], object] = do_nothing


class _Joining:
    """A transport that writes an answer's head together with the body, which uvicorn writes one after the other.

    Written apart they are two system calls here, two packets, and two wake-ups of the client. A head that no body follows is
    written in the loop's next turn.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
            self._transport.write(data)
        else:
            self._head = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():
            self._transport.write(head)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Answers 431 to a head of more than MAX_HEAD_BYTES, and closes a connection that brings no whole head for too long.

    Too long is the time after which an idle connection is closed: `timeout_keep_alive`, in seconds.
    """

    _head_bytes: int | None = None  # of the head under way, beside the chunk that it began in
    _began = False  # whether a head began in the present chunk
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first head."""
        super().connection_made(cast(asyncio.Transport, _Joining(transport, self.loop)))
        self._client = Client()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting, and tell the request under way that its client has gone."""
        super().connection_lost(exc)
        self._unwatch()
        self._client.gone = True
        self._client.on_gone()

    def data_received(self, data: bytes) -> None:
        """Parse the data, and count the bytes of a head that is not whole yet."""
        self._began = False
        super().data_received(data)
        if self._head_bytes is not None and not self._began:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse()
        if self._head_bytes is None and self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        else:
            self._watch()

    def on_message_begin(self) -> None:
        """Start to count: a head begins."""
        super().on_message_begin()
        self._head_bytes, self._began = 0, True

    def on_headers_complete(self) -> None:
        """Stop counting: the head is whole."""
        self._head_bytes = None
        self.scope[CLIENT] = self._client  # type: ignore[literal-required]
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Read on after a whole request: that a client leaves is only noticed by reading."""
        super().on_message_complete()
        if not self.pipeline:
            self.flow.resume_reading()

    def _watch(self) -> None:
        if self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def _unwatch(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self) -> None:
        error = HeadTooLarge(f"the request's line and headers have more than {MAX_HEAD_BYTES} bytes; send fewer or shorter ones")
        body = orjson.dumps({"error": str(error), "code": error.code})
        head = f"HTTP/1.1 {error.status} Request Header Fields Too Large\r\n"
        fields = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write((head + fields).encode() + body)
        self.transport.close()
        self._head_bytes = None
