"""A request's head has a bound in bytes and in time; what is within both is answered as ever."""

import asyncio
import dataclasses
import json

import pytest

from transformer.rest.head import MAX_HEAD_BYTES
from transformer.settings import EdgeLimits

LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: edge\r\n"
KEEP_ALIVE_S = 1
# A socket's reads are of at most this many bytes: what comes beside the start of a head is not counted as its own.
CHUNK = 256 << 10


@pytest.fixture
async def connect(settings, start_edge):
    settings = dataclasses.replace(settings, limits=EdgeLimits(), protocol="rest", keep_alive_s=KEEP_ALIVE_S)
    async with start_edge(settings) as edge:
        port = edge.bound.http_port
        writers = []

        async def open_connection():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(writer)
            return reader, writer

        yield open_connection
        for writer in writers:
            writer.close()


async def read_answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


@pytest.mark.parametrize("flood", [b"X: " + b"x" * 4 * CHUNK, b"x: y\r\n" * (CHUNK // 2)], ids=["one", "many"])
async def test_a_head_without_end_is_refused(connect, flood):
    reader, writer = await connect()
    writer.write(LIVE + flood)
    status, answer = await read_answer(reader)
    assert (status, answer["code"]) == (431, "request.head")
    assert str(MAX_HEAD_BYTES) in answer["error"]


async def test_heads_and_bodies_of_one_connection_are_counted_apart(connect):
    reader, writer = await connect()
    body = b" " * CHUNK
    head = b"POST /v2/repository/index HTTP/1.1\r\nHost: edge\r\nContent-Length: %d\r\nX: %s\r\n\r\n"
    for _ in range(3):
        whole = head % (len(body) + 2, b"x" * (MAX_HEAD_BYTES // 2)) + body + b"{}"
        for start in range(0, len(whole), 10_000):
            writer.write(whole[start : start + 10_000])
            await asyncio.sleep(0)
        status, answer = await read_answer(reader)
        assert status == 200
        assert answer[0]["state"] == "READY"


@pytest.mark.parametrize("beginning", [b"", b"\r\n", LIVE, LIVE + b"\r\n" + LIVE], ids=["nothing", "line", "part", "second"])
async def test_a_head_that_does_not_end_in_time_ends_its_connection(connect, beginning):
    reader, writer = await connect()
    writer.write(beginning)
    async with asyncio.timeout(5 * KEEP_ALIVE_S):
        rest = await reader.read()
    assert rest.count(b"HTTP/1.1 200 OK") == beginning.count(b"\r\n\r\n")


async def test_a_long_answer_is_waited_for(connect, torchserve, images):
    async def reply(_request, _body):
        await asyncio.sleep(1.5 * KEEP_ALIVE_S)
        raise ConnectionError

    torchserve.reply = reply
    reader, writer = await connect()
    head = (
        b"POST /v2/models/roofs/infer HTTP/1.1\r\nHost: edge\r\nInference-Header-Content-Length: 0\r\nContent-Length: %d\r\n\r\n"
    )
    writer.write(head % len(images[0]) + images[0])
    status, _ = await read_answer(reader)
    assert status == 502


@pytest.mark.parametrize("end", [b"\r\n", b"Connection: close\r\n\r\n"], ids=["kept", "closed"])
async def test_a_head_and_its_body_go_out_together(connect, end):
    reader, writer = await connect()
    for _ in range(1 if b"close" in end else 5):
        writer.write(LIVE + end)
        packet = await reader.read(CHUNK)  # what one read finds, and so what one write has sent
        assert packet.startswith(b"HTTP/1.1 200")
        assert packet.endswith(b'\r\n\r\n{"live":true}')


async def test_requests_that_come_together_are_answered_in_order(connect):
    reader, writer = await connect()
    writer.write((LIVE + b"\r\n") * 2 + b"GET /nothing HTTP/1.1\r\nHost: edge\r\n\r\n")
    assert [(await read_answer(reader))[0] for _ in range(3)] == [200, 200, 404]
