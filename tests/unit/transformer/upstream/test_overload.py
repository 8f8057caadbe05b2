"""More than the server can do: refused at once, in both protocols' words; who has left or is too late takes no worker's time."""

import asyncio
import dataclasses
import re

import grpc
import httpx
import pytest
from aiohttp import web

from tests.unit.transformer.conftest import ANSWER
from transformer.grpc.messages import SERVICE, message

URL = "/v2/models/roofs/infer"
ONE = {"Content-Type": "image/png"}


@pytest.fixture
def settings(settings):
    return dataclasses.replace(settings, limits=dataclasses.replace(settings.limits, max_queue=3))


@pytest.fixture
def worker(torchserve):
    """A TorchServe that answers only when it is let to."""
    go_on = asyncio.Event()

    async def reply(_request, _body):
        await go_on.wait()
        return web.json_response(ANSWER)

    torchserve.reply = reply
    return go_on


@pytest.fixture
async def client(edge):
    async with httpx.AsyncClient(base_url=f"http://{edge.http}") as client:
        yield client


@pytest.fixture
async def infer(edge):
    """One image over gRPC."""
    async with grpc.aio.insecure_channel(edge.grpc) as channel:
        stub = channel.unary_unary(f"/{SERVICE}/ModelInfer", response_deserializer=message("ModelInferResponse").FromString)

        def call(parameters=None, **options):
            tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"x"]}}
            request = message("ModelInferRequest")(model_name="roofs", inputs=[tensor], parameters=parameters)
            return stub(request.SerializeToString(), **options)

        yield call


async def metric(client, name):
    text = (await client.get("/metrics")).text
    return [float(value) for value in re.findall(rf"^{re.escape(name)}{{.*}} (\S+)$", text, re.MULTILINE)]


async def until(check):
    async with asyncio.timeout(5):
        while not await check():
            await asyncio.sleep(0.01)


async def fill(client, torchserve, images=5):
    """One worker: two calls under way and three images in line."""
    tasks = [asyncio.create_task(client.post(URL, content=b"x", headers=ONE)) for _ in range(images)]

    async def full():
        return len(torchserve.calls) == 2 and await metric(client, "visor_queue_images") == [float(images - 2)]

    await until(full)
    return tasks


async def test_what_the_line_has_no_room_for_is_refused_at_once(client, infer, worker, torchserve):
    tasks = await fill(client, torchserve)
    async with asyncio.timeout(2):  # nothing is answered meanwhile, so a refusal that waited would not come
        refused = await client.post(URL, content=b"x", headers=ONE)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await infer()
    assert (refused.status_code, refused.json()["code"]) == (503, "server.overloaded")
    assert refused.headers["retry-after"] == "1"
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailer = dict(caught.value.trailing_metadata())
    assert trailer["visor-code"] == "server.overloaded"
    assert (trailer["retry-after"], trailer["grpc-retry-pushback-ms"]) == ("1", "1000")
    worker.set()
    assert {answer.status_code for answer in await asyncio.gather(*tasks)} == {200}
    assert (await client.post(URL, content=b"x", headers=ONE)).status_code == 200
    assert len(torchserve.calls) == 6
    assert await metric(client, "visor_requests_refused_total") == [1.0, 1.0]  # one for each protocol


async def test_a_full_line_refuses_before_the_request_is_read(client, worker, torchserve):
    tasks = await fill(client, torchserve)
    refused = await client.post(URL, content=b"{ no JSON")
    assert (refused.status_code, refused.json()["code"]) == (503, "server.overloaded")
    worker.set()
    await asyncio.gather(*tasks)
    assert (await client.post(URL, content=b"{ no JSON")).status_code == 400


async def test_who_leaves_the_line_is_never_asked_for(client, infer, worker, torchserve):
    tasks = await fill(client, torchserve, images=3)
    over_grpc = infer()
    waiting = asyncio.create_task(over_grpc.code())

    async def both():
        return await metric(client, "visor_queue_images") == [2.0]

    await until(both)
    over_grpc.cancel()
    tasks[2].cancel()

    async def nobody():
        return await metric(client, "visor_queue_images") == [0.0]

    await until(nobody)
    worker.set()
    assert {answer.status_code for answer in await asyncio.gather(*tasks[:2])} == {200}
    assert await waiting is grpc.StatusCode.CANCELLED
    assert len(torchserve.calls) == 2
    assert await metric(client, "visor_requests_refused_total") == [1.0, 1.0]


async def test_a_call_that_nobody_waits_for_keeps_its_turn_until_torchserve_is_done_with_it(client, worker, torchserve):
    tasks = await fill(client, torchserve, images=2)
    for task in tasks:
        task.cancel()

    async def noticed():
        return sum(await metric(client, "visor_requests_refused_total")) == 2.0

    await until(noticed)
    late = asyncio.create_task(client.post(URL, content=b"x", headers=ONE))
    await asyncio.sleep(0.05)
    assert len(torchserve.calls) == 2
    worker.set()
    assert (await late).status_code == 200
    assert len(torchserve.calls) == 3


@pytest.mark.parametrize("under_way", [0, 2])
async def test_the_parameter_timeout_ends_the_waiting(client, infer, worker, torchserve, under_way):
    tasks = await fill(client, torchserve, images=under_way) if under_way else []
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["YWI="]}
    late = await client.post(URL, json={"inputs": [tensor], "parameters": {"timeout": 300_000}})
    assert (late.status_code, late.json()["code"]) == (504, "request.deadline")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await infer(parameters={"timeout": message("InferParameter")(int64_param=300_000)})
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert dict(caught.value.trailing_metadata())["visor-code"] == "request.deadline"
    assert len(torchserve.calls) == 2  # the two under way, or these two
    worker.set()
    await asyncio.gather(*tasks)


async def test_the_deadline_of_grpc_ends_the_waiting(client, infer, worker, torchserve):
    tasks = await fill(client, torchserve, images=2)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await infer(timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    async def counted():
        return 'code="request.deadline"' in (await client.get("/metrics")).text

    await until(counted)
    assert await metric(client, "visor_queue_images") == [0.0]
    worker.set()
    await asyncio.gather(*tasks)
    assert len(torchserve.calls) == 2


@pytest.mark.usefixtures("worker")
async def test_the_servers_own_patience_is_another_error(settings, start_edge):
    async with (
        start_edge(dataclasses.replace(settings, limits=dataclasses.replace(settings.limits, timeout_s=0.05))) as edge,
        httpx.AsyncClient(base_url=f"http://{edge.http}") as client,
    ):
        late = await client.post(URL, content=b"x", headers=ONE)
    assert (late.status_code, late.json()["code"]) == (504, "upstream.timeout")


@pytest.mark.parametrize("timeout", [-1, 0.5, "soon", True, [1]])
async def test_a_timeout_that_is_none(client, timeout):
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["YWI="]}
    answer = await client.post(URL, json={"inputs": [tensor], "parameters": {"timeout": timeout}})
    assert (answer.status_code, answer.json()["code"]) == (400, "request.parameter")
