"""uvicorn's HTTP, with bounds that it lacks: on the size of a head, and on the seconds in which a connection sends one."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_UNREAD = 256 << 10
"""Bytes of a head, or of a chunked body's trailers. One read is at most so long, and may have a body behind a small head."""
HEAD_S = 75.0
"""Seconds after which a connection is closed that has sent no whole head: the first one, a further one that was begun, or one
behind the rest of a request that was answered already."""


class Protocol(HttpToolsProtocol):
    """One connection. `_unread`: bytes since the parser last gave something on, so those that it or a head's list keeps."""

    _unread = 0
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._heard()

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        if self.cycle is not None and self.cycle.response_complete:
            self._wait()  # uvicorn's own timer of a kept connection ends with its first byte
        super().data_received(data)
        if self._unread > MOST_UNREAD and not self.transport.is_closing():
            self.send_400_response("A head of too many bytes.")

    def on_headers_complete(self) -> None:
        self._unread = 0
        self._heard()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        super().on_message_complete()
        if not self.pipeline:  # a body of more than 64 KiB had ended it, and nothing is left of that one
            self.flow.resume_reading()

    def _wait(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(HEAD_S, self.transport.close)

    def _heard(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
