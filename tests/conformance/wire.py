"""HTTP/1.1 byte by byte, for what no client library sends, and answers read one by one off a connection."""

import http.client
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.conformance.subject import Subject

ANSWER_S = 20.0  # how long an answer may take
QUIET_S = 1.0  # how long a server may think before it counts as silent


@dataclass(frozen=True)
class Response:
    """One answer. `closes`: whether it says that the connection ends with it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    closes: bool


def host_of(subject: Subject) -> str:
    """The server's HOST:PORT."""
    return urlsplit(subject.options.rest or "").netloc


def connect(subject: Subject) -> socket.socket:
    """A connection to the server."""
    address = urlsplit(subject.options.rest or "")
    return socket.create_connection((address.hostname or "", address.port or 80), timeout=ANSWER_S)


def request(
    method: str, path: str, headers: Mapping[str, str], body: bytes = b"", *, version: str = "1.1", host: str | None = "server"
) -> bytes:
    """A request's bytes. `host`: the Host field, None for none; Content-Length is the body's unless the headers frame it."""
    lines = [f"{method} {path} HTTP/{version}"]
    lines += [f"Host: {host}"] if host is not None else []
    framed = {name.lower() for name in headers} & {"content-length", "transfer-encoding"}
    lines += [f"Content-Length: {len(body)}"] if method == "POST" and not framed else []
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def read(connection: socket.socket, method: str = "POST") -> Response:
    """The next answer, whole; informational ones (1xx) are passed over, as http.client does."""
    response = http.client.HTTPResponse(_Reader(connection), method=method)  # type: ignore[arg-type]
    response.begin()
    body = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Response(response.status, headers, body, response.will_close)


def is_closed(connection: socket.socket) -> bool:
    """Whether the server ends the connection within QUIET_S, without a word more."""
    connection.settimeout(QUIET_S)
    with suppress(TimeoutError):
        try:
            return connection.recv(1) == b""
        except ConnectionError:
            return True
    return False


def says_more(connection: socket.socket) -> bool:
    """Whether anything comes within QUIET_S."""
    connection.settimeout(QUIET_S)
    with suppress(TimeoutError, ConnectionError):
        return connection.recv(1) != b""
    return False


class _Reader:
    """As much of a socket and its file as http.client reads; it reads no byte ahead, so that the next answer is left there."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def makefile(self, _: str) -> "_Reader":
        return self

    def readline(self, limit: int = -1) -> bytes:
        line = b""
        while not line.endswith(b"\n") and len(line) != limit:
            byte = self._connection.recv(1)
            if not byte:
                break
            line += byte
        return line

    def read(self, amount: int = -1) -> bytes:
        chunks = []
        while amount:
            chunk = self._connection.recv(min(amount, 1 << 16) if amount > 0 else 1 << 16)
            if not chunk:
                break
            chunks.append(chunk)
            amount -= len(chunk) if amount > 0 else 0
        return b"".join(chunks)

    def readinto(self, buffer: memoryview) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> None: ...
