"""ModelStreamInfer: many inferences over one call, as Triton has it."""

import asyncio

import grpc
import pytest
from aiohttp import web

from tests.unit.transformer.conftest import ANSWER
from transformer.grpc import receiving
from transformer.grpc.messages import SERVICE, message
from transformer.grpc.server import STREAM_CALLS, create_server


@pytest.fixture
async def stream(service):
    """Begin a stream; its call."""
    server, port = create_server(service, "127.0.0.1", 0, age_s=10.0)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        read = message("ModelStreamInferResponse").FromString
        yield channel.stream_stream(f"/{SERVICE}/ModelStreamInfer", response_deserializer=read)
    await server.stop(0)


def infer_request(image, **fields):
    return message("ModelInferRequest")(
        **{"model_name": "roofs", **fields},
        inputs=[{"name": "image", "datatype": "BYTES", "shape": [1]}],
        raw_input_contents=[len(image).to_bytes(4, "little") + image],
    ).SerializeToString()


async def test_answers_come_in_the_requests_order(stream, images, torchserve):
    """Of two that are asked together the second is ready first."""
    second_is_done = asyncio.Event()

    async def reply(_request, body):
        if body == images[0]:
            await second_is_done.wait()
        else:
            second_is_done.set()
        return web.json_response(ANSWER)

    torchserve.reply = reply
    torchserve.workers = [{"status": "READY"}] * 2
    call = stream(iter([infer_request(images[0], id="a"), infer_request(images[1], id="b")]))
    assert [answer.infer_response.id async for answer in call] == ["a", "b"]


async def test_an_error_is_an_answer_and_the_stream_goes_on(stream, images):
    requests = [
        infer_request(images[0], id="0"),
        infer_request(images[0], id="1", model_name="walls"),
        b"\xff\xff\xff",
        infer_request(b"junk", id="3"),
        infer_request(images[0], id="4"),
    ]
    call = stream(iter(requests))
    answers = [answer async for answer in call]
    assert [answer.error_message.partition(":")[0] for answer in answers] == [
        "",
        "model.not_found",
        "request.protobuf",
        "image.undecodable",
        "",
    ]
    assert [answer.infer_response.id for answer in answers] == ["0", "1", "", "3", "4"]
    assert await call.code() is grpc.StatusCode.OK


async def test_each_request_is_counted(stream, images, service):
    assert len([answer async for answer in stream(iter([infer_request(images[0]), infer_request(b"junk")]))]) == 2
    service.flush()
    requests = service.metrics.totals("visor_request_seconds", "code")
    assert {code: count for code, (count, _) in requests.items()} == {"200": 1, "400": 1}


async def test_no_more_requests_are_read_than_may_wait(stream, images, torchserve, service):
    """Eight in the queue, one whose answer is awaited, one that waits for the queue."""
    release = asyncio.Event()

    async def reply(_request, _body):
        await release.wait()
        return web.json_response(ANSWER)

    torchserve.reply = reply
    read = 0

    def count_room():
        nonlocal read
        read += 1

    service.check_room = count_room
    call = stream()

    async def write():
        for _ in range(3 * STREAM_CALLS):
            await call.write(infer_request(images[0]))
        await call.done_writing()

    writing = asyncio.create_task(write())  # which waits for the server in between, as what it has not read has 64 KiB
    while read < STREAM_CALLS + 2:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert read == STREAM_CALLS + 2
    release.set()
    assert len([answer async for answer in call]) == 3 * STREAM_CALLS
    await writing


async def test_a_client_that_leaves_leaves_nothing_behind(stream, images, torchserve, service):
    async def reply(_request, _body):
        await asyncio.sleep(30)
        return web.json_response(ANSWER)

    torchserve.reply = reply
    before = asyncio.all_tasks()
    call = stream()
    await call.write(infer_request(images[0]))
    while not torchserve.calls:
        await asyncio.sleep(0.01)
    call.cancel()
    async with asyncio.timeout(5):
        while not service.metrics.totals("visor_request_seconds", "code").get("499"):
            await asyncio.sleep(0.01)
            service.flush()
    await service.close()
    ours = [task for task in asyncio.all_tasks() - before if "transformer" in repr(task.get_coro())]
    assert ours == []


async def test_a_server_that_stops_answers_what_it_has_read_and_ends_the_stream(stream, images, service):
    call = stream()
    await call.write(infer_request(images[0], id="last"))
    assert (await call.read()).infer_response.id == "last"
    service.drain()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(caught.value.trailing_metadata())["visor-code"] == "model.not_ready"


async def test_what_its_messages_took_is_given_back(stream, images, service):
    call = stream(iter([infer_request(images[0]), infer_request(b"junk"), b"\xff"]))
    assert len([answer async for answer in call]) == 3
    assert service.budget.spent == 0


async def test_an_idle_stream_makes_room_for_who_waits_and_says_so(stream, images, service, monkeypatch):
    monkeypatch.setattr(receiving, "HURRY_S", 0.05)
    call = stream()
    await call.write(infer_request(images[0], id="a"))
    assert (await call.read()).infer_response.id == "a"
    with service.budget.open() as others:
        others.force(service.budget.total)
        waiting = stream(iter([infer_request(images[0], id="b")]))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        others.close()
        assert [answer.infer_response.id async for answer in waiting] == ["b"]
    assert ended.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(ended.value.trailing_metadata())["visor-code"] == "server.memory"
