"""One HTTP request and its answer, as an ASGI application sees them: what it receives, and what it sends."""

import asyncio
import logging
from http import HTTPStatus
from typing import Protocol

import orjson
from starlette.types import ASGIApp, Message, Scope

from handlers.errors import VisorError
from transformer.errors import ModelNotReady

logger = logging.getLogger(__name__)

HIGH_WATER_BYTES = 64 << 10
"""A body's bytes that wait to be received; with more, no more are read."""

KEEP_BYTES = 1 << 20
"""The rest of a body that is read after an early answer so that its connection can be kept; with more it is closed."""

NO_TRANSFORM = (b"cache-control", b"no-transform")
"""The header of errors and of all JSON but inferences' answers: no gateway may compress these (RFC 9110, 7.7).

tritonclient's asyncio client asks for compression, and reads no coding of anything but an inference's answer.
"""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Carrier(Protocol):
    """What an exchange needs of its connection."""

    gone: bool

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of every answer."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def resume(self) -> None:
        """Read on."""

    async def written(self) -> None:
        """Wait until the client has read most of what was sent."""

    def end(self, exchange: "Exchange") -> None:
        """Go on after an answer."""


class Exchange:
    """A request on its way in and its answer on its way out. `scope`: the ASGI scope; `length`: of the body, None if chunked.

    `left`: the bytes of the body that are still to come, None where nobody knows. `whole`: the request has come whole.
    `answered`: the answer has gone whole. `keep_alive`: the connection stays open after it.
    """

    __slots__ = (
        "_answer_length",
        "_carrier",
        "_chunks",
        "_expects",
        "_failure",
        "_head",
        "_pieces",
        "_received_all",
        "_started",
        "_waiter",
        "answered",
        "buffered",
        "keep_alive",
        "left",
        "scope",
        "whole",
    )

    def __init__(
        self, carrier: Carrier, scope: Scope, *, keep_alive: bool, length: int | None = 0, expects: bool = False
    ) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.whole = length == 0
        self.answered = False
        self.buffered = 0
        self._carrier = carrier
        self.left = length
        self._expects = expects
        self._chunks: list[bytes] = []
        self._failure: VisorError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._received_all = False
        self._started = False
        self._head = b""
        self._answer_length: int | None = None
        self._pieces: list[bytes] = []

    def take(self, chunk: bytes) -> None:
        """Take a part of the body; once answered it is thrown away."""
        if self.left is not None:
            self.left -= len(chunk)
        self._expects = False  # a client that sends its body does not wait to be told
        if not self.answered:
            self._chunks.append(chunk)
            self.buffered += len(chunk)
            self.wake()

    def finish(self) -> None:
        """Note that the request is whole."""
        self.whole = True
        self.wake()

    def fail(self, err: VisorError) -> None:
        """Have the application get this error in place of the rest of the body; the connection ends with its answer."""
        self.keep_alive = False
        self._failure = err
        self.wake()

    def wake(self) -> None:
        """Let `receive` look again at what has come."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> Message:
        """Wait for the next part of the body. Raises the error that the connection has with the rest of it."""
        if self._expects and not (self._started or self.whole):
            self._carrier.write(CONTINUE)
            self._expects = False
        while not (self._failure or self._carrier.gone or self.answered):
            if self._chunks or (self.whole and not self._received_all):
                body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
                self._chunks.clear()
                self.buffered = 0
                self._received_all = self.whole
                self._carrier.resume()  # also for the news that the client has left
                return {"type": "http.request", "body": body, "more_body": not self.whole}
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._failure and not self._carrier.gone:
            raise self._failure
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send the head, which waits for the first part of the body, or a part of the body: a head goes out with its body.

        Written apart they are two system calls here, two packets, and two wake-ups of the client.
        """
        if self._carrier.gone:
            return
        if message["type"] == "http.response.start":
            if self._started:
                raise RuntimeError("an answer has begun already")
            self._begin(message)
            return
        if not self._started or self.answered:
            raise RuntimeError(f"{message['type']} comes {'after' if self.answered else 'before'} its answer")
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._answer_length is None:  # its length is known once it is whole
            self._pieces.append(body)
            if more:
                return
            body = b"".join(self._pieces)
            self._head += b"content-length: %d\r\n\r\n" % len(body)
            self._answer_length = len(body)
        if self.scope["method"] == "HEAD":
            body = b""
        elif len(body) > self._answer_length or (not more and len(body) != self._answer_length):
            raise RuntimeError(f"an answer has {len(body)} bytes where its head promises {self._answer_length}")
        else:
            self._answer_length -= len(body)
        head, self._head = self._head, b""
        self._carrier.write(head + body)
        await self._carrier.written()
        if not more:
            self.answered = True
            self._chunks.clear()
            self.buffered = 0
            self._carrier.end(self)

    async def run(self, app: ASGIApp) -> None:
        """Have an application answer; one that does not, or is cancelled at the server's end, is answered for."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:
            logger.exception("an error that is not the client's")
            self._answer_for(VisorError("the server's log says more"))
        except asyncio.CancelledError:
            self._answer_for(ModelNotReady("this server is about to stop; ask another one"))
            raise
        else:
            self._answer_for(VisorError("no answer was made"))

    def _answer_for(self, err: VisorError) -> None:
        if self.answered or self._carrier.gone:
            return
        self.keep_alive = False
        body = b"" if self.scope["method"] == "HEAD" else orjson.dumps({"error": str(err), "code": err.code})
        if self._head or not self._started:  # else a part of an answer has gone, and no other can follow
            headers = [(b"content-type", b"application/json"), NO_TRANSFORM, (b"content-length", b"%d" % len(body))]
            self._begin({"status": err.status, "headers": headers})
            self._carrier.write(self._head + body)
        self.answered = True
        self._carrier.end(self)

    def _begin(self, message: Message) -> None:
        if not self.whole and (self._expects or self.left is None or self.left > KEEP_BYTES):
            self.keep_alive = False
        lines = [_STATUS[message["status"]]]
        for name, value in (*self._carrier.default_headers, *message["headers"]):
            if b"\n" in value or b"\r" in value:
                raise RuntimeError(f"a header's value has a line break: {name!r}")
            if name == b"content-length":
                self._answer_length = int(value)
            elif name == b"connection":
                self.keep_alive = self.keep_alive and value != b"close"
                continue
            lines += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        if self._answer_length is not None:
            lines.append(b"\r\n")
        self._head = b"".join(lines)
        self._started = True
