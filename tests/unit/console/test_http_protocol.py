"""The bounds on what a connection may send before its request is whole."""

import asyncio
from collections.abc import Callable

import pytest

from console import http_protocol
from console.http_protocol import MOST_UNREAD
from console.settings import Settings
from tests.unit.console.conftest import running


@pytest.fixture
def alone() -> Settings:
    """A console whose server is not asked."""
    return Settings(servers="http://127.0.0.1:9", port=0, _env_file=None)


async def sent(address: str, data: bytes, most_s: float = 10.0) -> bytes:
    """What comes for these bytes, up to the connection's end."""
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), most_s)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nA: " + b"x" * (2 * MOST_UNREAD),
        b"GET /health/live HTTP/1.1\r\n" + b"A: 1\r\n" * MOST_UNREAD,
        b"GET /" + b"x" * (2 * MOST_UNREAD),
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: 1\r\n" * MOST_UNREAD,
    ],
    ids=["value", "headers", "address", "trailers"],
)
async def test_a_head_without_end_is_cut_off(alone: Settings, data: bytes) -> None:
    async with running(alone) as (address, _):
        answered = await sent(address, data)
        assert b"HTTP/1.1 2" not in answered
        assert answered == b"" or b"HTTP/1.1 4" in answered


async def test_a_connection_that_sends_no_whole_head_is_closed(alone: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_S", 0.2)
    async with running(alone) as (address, _):
        assert await sent(address, b"") == b""
        assert await sent(address, b"GET /health/live HTTP/1.1\r\n") == b""


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"GET /health"),
        (b"POST /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n", b"x"),
    ],
    ids=["a further head", "a body that nobody reads"],
)
async def test_a_kept_connection_that_drips_is_closed(
    alone: Settings, monkeypatch: pytest.MonkeyPatch, first: bytes, then: bytes
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_S", 0.3)
    async with running(alone) as (address, _):
        host, port = address.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(first)
        await reader.readuntil(b"}")
        for byte in then:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
        assert (await asyncio.wait_for(reader.read(), 5)).strip(b"}") == b""
        writer.close()


async def test_a_kept_connection_is_asked_again_and_again(alone: Settings) -> None:
    async with running(alone) as (address, _):
        one = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nA: " + b"x" * 60_000
        answered = await sent(address, (one + b"\r\n\r\n") * 9 + one + b"\r\nConnection: close\r\n\r\n")
        assert answered.count(b"HTTP/1.1 200 OK") == 10


async def test_large_bodies_one_behind_the_other_are_answered_each(alone: Settings) -> None:
    """Reading stops and goes on by bodies of more than 64 KiB, and by a request that comes before the last one's answer."""
    one = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 100000\r\n"
    async with running(alone) as (address, _):
        answered = await sent(
            address, (one + b"\r\n" + bytes(100_000)) * 4 + one + b"Connection: close\r\n\r\n" + bytes(100_000), 60
        )
    assert answered.count(b"HTTP/1.1 503") == 5
    assert answered.count(b'"console.server_down"') == 5


async def test_a_slow_upload_is_ended(choose: Callable[..., Settings]) -> None:
    async with running(choose(upload_timeout_s=0.3)) as (address, _):
        head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 9\r\n"
        answered = await sent(address, head + b"Connection: close\r\n\r\nabc")
        assert b"HTTP/1.1 408" in answered
        assert b'"console.slow"' in answered
