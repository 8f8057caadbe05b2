"""A client of HTTP/1.1 to a server on the same machine or in the same cluster, over kept-alive connections; no TLS, redirects,
proxies or cookies.

It is no library, because images go this way wherever a worker cannot be asked directly, and a library costs more than all
else that the edge does: one image of 48 KB there and back takes 0.12 ms here, 0.7 by aiohttp 3 and 2.9 by httpx 0.28
[p50 of 2,000, same server, two cores]. The parser is httptools, which uvicorn brings.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httptools

from transformer.tensors import Buffer
from transformer.upstream.addresses import Addresses
from transformer.upstream.connection import Connection, Reply


class Connections:
    """Connections to the server of an http:// URL, opened when needed, so that there are as many as requests at once.

    The caller bounds the number of requests, and the time of each with asyncio.timeout. `max_bytes`: of an answer and its
    headers; None for a server that is trusted.
    """

    def __init__(self, url: str, max_bytes: int | None = None) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._addresses = Addresses(self._host)
        self._max_bytes = max_bytes
        self._idle: list[_Connection] = []

    def close(self) -> None:
        """Close the idle connections; a request that is under way closes its own."""
        while self._idle:
            self._idle.pop().close()

    async def request(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Buffer = b"") -> Reply:
        """Send a request and read its response. Cancelled, it closes its connection, which the server sees.

        Raises ConnectionRefusedError when nobody listens, ConnectionError when the connection breaks or the answer is too large,
        OSError when the host has no address.
        """
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", f"Content-Length: {len(body)}"]
        lines += [f"{key}: {value}" for key, value in (headers or {}).items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        if connection := self._take_idle():
            try:
                return await self._exchange(connection, head, body)
            except ConnectionResetError:
                # The server closed it just now, because it was idle: worth one more try, on a new one.
                if connection.answering:
                    raise
        return await self._exchange(await self._connect(), head, body)

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        *others, last = await self._addresses.find()
        for address in others:
            with contextlib.suppress(OSError):
                return (await loop.create_connection(self._make, address, self._port))[1]
        return (await loop.create_connection(self._make, last, self._port))[1]

    def _make(self) -> "_Connection":
        return _Connection(self._max_bytes)

    def _take_idle(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()  # the one used last: the others may grow old and go
            if connection.open:
                return connection
        return None

    async def _exchange(self, connection: "_Connection", head: bytes, body: Buffer) -> Reply:
        try:
            reply = await connection.exchange(head, body)
        except BaseException:
            connection.close()
            raise
        if connection.reusable:
            self._idle.append(connection)
        else:
            connection.close()
        return reply


class _Connection(Connection):
    """One HTTP connection. `answering`: some of the present response has come. `reusable`: the server keeps it open."""

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0  # of the present response, and of what came unasked before it
        self.answering = False
        self.reusable = True
        self._reply: asyncio.Future[Reply] | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []

    def exchange(self, head: bytes, body: Buffer) -> "asyncio.Future[Reply]":
        self.answering = False
        self._bytes = 0
        self._chunks.clear()
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.writelines((head, body))
        return self._reply

    def data_received(self, data: bytes) -> None:
        self.answering = True
        self._bytes += len(data)
        if self._max_bytes is not None and self._bytes > self._max_bytes:
            self._fail(ConnectionError(f"the answer is larger than {self._max_bytes} bytes"))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as err:
            self._fail(ConnectionError(f"the answer is not HTTP ({err})"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionResetError(f"closed before the answer was whole{f' ({exc})' if exc else ''}"))

    def on_body(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        self.reusable = self._parser.should_keep_alive()
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(Reply(self._parser.get_status_code(), b"".join(self._chunks)))

    def _fail(self, err: ConnectionError) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(err)
        self.close()
