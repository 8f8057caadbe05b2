"""How long a client is waited for, and how much of it is kept meanwhile, before an application that is the test's own."""

import asyncio
import functools

import pytest
import uvicorn
from uvicorn.server import ServerState

from transformer.rest.connection import Patience
from transformer.rest.http_protocol import HEAD_BITE, HttpProtocol

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
LARGE = bytes(32 << 20)


async def echo(_scope, receive, send):
    """Answer with the number of the body's bytes."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await answer(send, b"%d" % size)


async def answer(send, body, status=200):
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def serve():
    """Serve an application with some patience; the server's connections, and a function that opens one more."""
    servers, writers = [], []

    async def serve(app, **patience):
        state = ServerState()
        config = uvicorn.Config(app, lifespan="off", log_config=None, proxy_headers=False)
        make = functools.partial(HttpProtocol, config, state, {}, patience=Patience(**patience))
        server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
        servers.append(server)

        async def connect():
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writers.append(writer)
            return reader, writer

        return state, connect

    yield serve
    for one in (*writers, *servers):
        one.close()
    await asyncio.sleep(0)


async def end_of(reader, limit_s=3.0):
    """All that comes until the connection ends."""
    got = b""
    async with asyncio.timeout(limit_s):
        while True:
            try:
                chunk = await reader.read(1 << 16)
            except ConnectionResetError:
                return got
            if not chunk:
                return got
            got += chunk


@pytest.mark.parametrize("start", [b"", b"%d" % 5])
async def test_a_body_that_stops_is_answered_408(serve, start):
    async def app(_scope, receive, send):
        try:
            while (await receive())["more_body"]:
                pass
        except Exception as err:
            await answer(send, err.code.encode(), err.status)

    _, connect = await serve(app, grace_s=0.1, linger_s=0.1)
    reader, writer = await connect()
    writer.write(POST % 1000 + start)
    got = await end_of(reader)
    assert got.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert got.endswith(b"request.slow")
    assert b"connection: close" in got


async def test_a_body_at_the_least_rate_is_read_and_has_an_end_all_the_same(serve):
    _, connect = await serve(echo, grace_s=0.2, min_rate=100, body_s=0.8, linger_s=0.1)
    for parts, status in ((4, b"HTTP/1.1 200"), (40, b"HTTP/1.1 500")):  # the application lets the error pass
        reader, writer = await connect()
        answered = asyncio.create_task(reader.read(100))
        writer.write(POST % (100 * parts))
        for _ in range(parts):
            if not answered.done():
                writer.write(bytes(100))
                await asyncio.sleep(0.08)
        assert (await answered).startswith(status)


async def test_an_answer_that_nobody_reads_ends_its_connection(serve):
    async def app(_scope, _receive, send):
        await answer(send, LARGE)

    state, connect = await serve(app, unread_s=0.2)
    reader, writer = await connect()
    writer.write(GET)
    await asyncio.sleep(0.1)
    assert len(state.connections) == 1
    async with asyncio.timeout(3):
        while state.connections or state.tasks:
            await asyncio.sleep(0.02)
    assert len(await end_of(reader)) < len(LARGE)


async def test_a_slow_reader_is_waited_for(serve):
    async def app(_scope, _receive, send):
        await answer(send, LARGE)

    _, connect = await serve(app, unread_s=0.4)
    reader, writer = await connect()
    writer.write(GET)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    for _ in range(len(LARGE) >> 21):  # 1.6 s in all, each pause far below what is waited for
        await reader.readexactly(2 << 20)
        await asyncio.sleep(0.1)


async def test_small_answers_that_nobody_reads_end_their_connection_too(serve):
    async def app(_scope, _receive, send):
        await answer(send, bytes(50_000))

    state, connect = await serve(app, unread_s=0.2, head_s=0.3)
    reader, writer = await connect()
    reader._transport.pause_reading()
    writer.write(GET * 500)
    async with asyncio.timeout(5):
        while state.connections:
            await asyncio.sleep(0.05)


async def test_pipelined_requests_wait_outside(serve):
    go_on = asyncio.Event()
    called = []

    async def app(_scope, _receive, send):
        called.append(_scope)
        await go_on.wait()
        await answer(send, b"x")

    state, connect = await serve(app)
    reader, writer = await connect()
    writer.write(GET * 4000)
    await asyncio.sleep(0.2)
    [connection] = state.connections
    assert len(called) == 1
    assert len(connection._waiting) <= HEAD_BITE // len(GET)
    assert len(connection._rest) <= 256 << 10
    go_on.set()
    async with asyncio.timeout(20):
        got = 0
        while got < 4000:
            got += (await reader.read(1 << 20)).count(b"HTTP/1.1 200")
    assert not connection._waiting


async def test_bodies_and_heads_that_come_together_in_any_cut(serve):
    _, connect = await serve(echo)
    sizes = [0, 1, 5000, 300_000, 7]
    whole = b"".join(POST % size + bytes(size) for size in sizes) + GET
    for cut in (len(whole), 100_000, 4097, 777):
        reader, writer = await connect()
        for start in range(0, len(whole), cut):
            writer.write(whole[start : start + cut])
            await asyncio.sleep(0)
        got = b""
        async with asyncio.timeout(10):
            while got.count(b"HTTP/1.1 200") < len(sizes) + 1 or not got.endswith(b"\r\n\r\n0"):
                got += await reader.read(1 << 16)
        assert [int(one.rsplit(b"\r\n", 1)[1]) for one in got.split(b"HTTP/1.1 ")[1:]] == [*sizes, 0]


async def test_a_refused_body_is_thrown_away_for_a_while_and_not_for_ever(serve):
    async def app(_scope, _receive, send):
        await answer(send, b"no", 413)

    state, connect = await serve(app, linger_s=0.3)
    reader, writer = await connect()
    writer.write(POST % (1 << 40))
    for _ in range(5):
        writer.write(bytes(1 << 20))
        await asyncio.sleep(0.02)
    assert (await reader.readuntil(b"\r\n\r\nno")).startswith(b"HTTP/1.1 413 ")
    assert len(state.connections) == 1
    async with asyncio.timeout(3):
        while state.connections:
            await asyncio.sleep(0.02)


async def test_at_the_server_s_end_no_body_is_waited_for(serve):
    state, connect = await serve(echo, linger_s=0.1)
    (idle, _), (sending, writer) = await connect(), await connect()
    writer.write(POST % 1000 + b"part")
    await asyncio.sleep(0.1)
    for connection in list(state.connections):
        connection.shutdown()
    assert await end_of(idle) == b""
    assert (await end_of(sending)).startswith(b"HTTP/1.1 500 ")  # the application lets the error pass
    async with asyncio.timeout(2):
        while state.connections:
            await asyncio.sleep(0.02)


async def test_an_application_without_an_answer_is_answered_for(serve, caplog):
    async def broken(_scope, _receive, _send):
        raise ZeroDivisionError

    async def silent(_scope, _receive, _send):
        pass

    async def short(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"123"})

    for app in (broken, silent, short):
        _, connect = await serve(app)
        reader, writer = await connect()
        writer.write(GET)
        got = await end_of(reader)
        assert got.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert b'"code":"internal"' in got
    assert "ZeroDivisionError" in caplog.text


async def test_an_answer_in_parts_has_its_length(serve):
    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        await send({"type": "http.response.body", "body": b"c"})

    _, connect = await serve(app)
    reader, writer = await connect()
    writer.write(GET + GET)
    for _ in range(2):
        assert (await reader.readuntil(b"\r\n\r\nabc")) == b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"


async def test_a_header_cannot_bring_another(serve):
    async def app(_scope, _receive, send):
        headers = [(b"content-length", b"0"), (b"x", b"a\r\nset-cookie: b")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    _, connect = await serve(app)
    reader, writer = await connect()
    writer.write(GET)
    got = await end_of(reader)
    assert got.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in got
