"""The HTTP client, against a server that says its bytes one by one."""

import asyncio
import contextlib

import pytest

from transformer.upstream.connection import Reply
from transformer.upstream.loopback import Connections

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.asynccontextmanager
async def scripted(*answers):
    """A server that answers each request with the next bytes; an answer of None closes the connection unanswered."""
    left = list(answers)
    requests, connections = [], 0

    async def serve(reader, writer):
        nonlocal connections
        connections += 1
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                requests.append((head, await reader.readexactly(size)))
                if (answer := left.pop(0)) is None:
                    return
                for part in answer if isinstance(answer, list) else [answer]:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with contextlib.closing(Connections(f"http://127.0.0.1:{port}/")) as client:
        yield client, requests, lambda: connections
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.01)


async def test_a_request_as_it_goes_out():
    async with scripted(OK) as (client, requests, _):
        assert await client.request("POST", "/a", {"X-Key": "value"}, memoryview(b"body")) == Reply(200, b"ok")
    assert requests == [(b"POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\nX-Key: value\r\n\r\n", b"body")]


async def test_a_connection_is_kept():
    async with scripted(OK, OK, OK) as (client, _, connections):
        for _ in range(3):
            assert (await client.request("GET", "/")).status == 200
        assert connections() == 1


async def test_a_connection_is_not_kept_when_the_server_says_so():
    async with scripted(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), OK) as (client, _, connections):
        for _ in range(2):
            assert await client.request("GET", "/") == Reply(200, b"ok")
        assert connections() == 2


async def test_answers_in_pieces_and_in_chunks():
    chunked = b"HTTP/1.1 507 Gone\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
    async with scripted([chunked[n : n + 1] for n in range(len(chunked))], OK) as (client, _, connections):
        assert await client.request("GET", "/") == Reply(507, b"abc")
        assert await client.request("GET", "/") == Reply(200, b"ok")
        assert connections() == 1


async def test_what_is_no_http():
    async with scripted(b"220 smtp\r\n\r\n") as (client, _, _):
        with pytest.raises(ConnectionError, match="not HTTP"):
            await client.request("GET", "/")


async def test_closed_in_the_middle_of_an_answer_is_not_sent_again():
    async with scripted(OK, [OK[:10], b""], None) as (client, requests, _):
        await client.request("GET", "/")

        async def cut():
            with pytest.raises(ConnectionError, match="before the answer was whole"):
                await client.request("GET", "/")

        cutting = asyncio.create_task(cut())
        while len(requests) < 2:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        client._idle.clear()
        for task in asyncio.all_tasks():
            if "serve" in repr(task.get_coro()):
                task.cancel()
        await cutting
        assert len(requests) == 2


async def test_a_cancelled_request_closes_its_connection_and_gives_its_turn_back():
    async with scripted(b"", b"", OK) as (client, requests, connections):
        for waiting in range(1, 3):
            request = asyncio.create_task(client.request("GET", "/"))
            while len(requests) < waiting:
                await asyncio.sleep(0.001)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
        assert await client.request("GET", "/") == Reply(200, b"ok")
        assert connections() == 3


@pytest.mark.parametrize("endless", [b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"])
async def test_an_answer_without_an_end_is_given_up_at_the_limit(endless):
    """Its header or its body: no more is read than the limit and what the system hands over at once."""
    sent, chunk = 0, b"x" * 65536

    async def serve(reader, writer):
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(endless)
        with contextlib.suppress(ConnectionError):
            while sent < 256 << 20:
                writer.write(chunk)
                await writer.drain()
                sent += len(chunk)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with (
            contextlib.closing(Connections(url, max_bytes=1 << 20)) as client,
            pytest.raises(ConnectionError, match="larger than"),
        ):
            await client.request("GET", "/")
    assert sent < 32 << 20


async def test_the_limit_is_of_each_answer():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n" + b"x" * 600
    async with scripted(answer, answer) as (client, _, connections):
        client._max_bytes = 1000
        for _ in range(2):
            assert await client.request("GET", "/") == Reply(200, b"x" * 600)
        assert connections() == 1
