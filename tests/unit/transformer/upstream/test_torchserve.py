"""TorchServe in trouble: which of its states is which error, and what is cancelled, asked again or bounded."""

import asyncio
import contextlib
import json

import httpx
import pytest
from aiohttp import web

from handlers.errors import ImageUndecodable
from tests.unit.transformer.conftest import ANSWER
from transformer.errors import ModelNotReady
from transformer.images import Picture
from transformer.metrics import Metrics
from transformer.rest.app import create_app
from transformer.service import Service
from transformer.upstream.torchserve import TorchServe

URL = "/v2/models/roofs/infer"
ONE = {"Content-Type": "image/png"}


def replying(status, **fields):
    async def reply(_request, _body):
        return web.json_response(fields, status=status)

    return reply


def ask(upstream, body, size=None, **options):
    return upstream.answer(upstream.begin(Picture(body, size), **{"explain": False, "threshold": None, **options}))


@contextlib.asynccontextmanager
async def asking(upstream, spec):
    """A client of an edge before this TorchServe."""
    service = Service(spec, "ab" * 32, upstream, Metrics(spec, "ab" * 32))
    with contextlib.closing(upstream):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(service)), base_url="http://edge") as client:
            yield client
        await service.close()


def of_torchserve(status, kind):
    return replying(status, code=status, type=kind, message="...")


TROUBLE = [
    (of_torchserve(404, "ModelNotFoundException"), 503, "model.not_ready", "not loaded yet"),
    (of_torchserve(503, "ServiceUnavailableException"), 503, "model.not_ready", "no free worker"),
    (of_torchserve(507, "InternalServerException"), 503, "model.not_ready", "worker died"),
    (of_torchserve(503, "InternalServerException"), 502, "upstream.failed", "503"),
    (of_torchserve(500, "InternalServerException"), 502, "upstream.failed", "500"),
    (of_torchserve(400, "BadRequestException"), 502, "upstream.failed", "400"),
    (replying(418, error={"code": "image.melted", "message": "..."}), 502, "upstream.failed", "image.melted"),
    (replying(500, error={"code": "image.empty", "message": "..."}), 502, "upstream.failed", "500"),
    (replying(200), 502, "upstream.failed", "KeyError"),
    (replying(200, **{**ANSWER, "label": 3}), 502, "upstream.failed", "TypeError"),
    (replying(200, **{**ANSWER, "seconds": None}), 502, "upstream.failed", "AttributeError"),
    (replying(200, **{**ANSWER, "confidence": "much"}), 502, "upstream.failed", "ValueError"),
    (replying(200, **{**ANSWER, "probabilities": [0.5, 0.5]}), 502, "upstream.failed", "another archive"),
    (replying(200, **{**ANSWER, "heatmap": [[0.5]]}), 502, "upstream.failed", "another archive"),
    (replying(200, **{**ANSWER, "label": "cat"}), 502, "upstream.failed", "another archive"),
    (replying(200, **{**ANSWER, "decision": "perhaps"}), 502, "upstream.failed", "another archive"),
    (replying(200, **{**ANSWER, "drift": [0, 1]}), 502, "upstream.failed", "drift bins [0, 1]"),
]


@pytest.mark.parametrize(("reply", "status", "code", "words"), TROUBLE)
async def test_trouble_is_a_5xx_of_the_whole_request(client, torchserve, images, reply, status, code, words):
    torchserve.reply = reply
    response = await client.post(URL, content=images[0], headers=ONE)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert words in response.json()["error"]


async def test_an_answer_that_is_no_json(client, torchserve, images):
    async def reply(_request, _body):
        return web.Response(text="<html>")

    torchserve.reply = reply
    response = await client.post(URL, content=images[0], headers=ONE)
    assert (response.status_code, response.json()["code"]) == (502, "upstream.failed")


async def test_the_handlers_own_refusal_is_the_images(torchserve, upstream):
    torchserve.reply = replying(400, error={"code": "image.undecodable", "message": "image.undecodable: 3 bytes are not"})
    with pytest.raises(ImageUndecodable, match=r"^image\.undecodable: 3 bytes are not$"):
        await ask(upstream, b"abc")


async def test_headers_say_what_is_asked(torchserve, upstream):
    torchserve.reply = replying(200)
    await ask(upstream, memoryview(b"abc"))
    await ask(upstream, b"abcdef", (1, 2), explain=True, threshold=0.3)
    plain, full = torchserve.calls
    assert not [key for key in plain if key.startswith("x-visor")]
    assert plain["content-type"] == full["content-type"] == "application/octet-stream"
    assert (plain["content-length"], full["content-length"]) == ("3", "6")
    assert (full["x-visor-shape"], full["x-visor-explain"], full["x-visor-threshold"]) == ("1,2", "true", "0.3")


async def test_a_large_image_goes_in_pieces(torchserve, upstream):
    received = []

    async def reply(_request, body):
        received.append(body)
        return web.json_response(ANSWER)

    torchserve.reply = reply
    body = bytes(range(256)) * 10_000
    assert await ask(upstream, memoryview(body)) == ANSWER
    assert received == [body]


async def test_nobody_listens(free_port):
    url = f"http://127.0.0.1:{free_port}"
    with contextlib.closing(TorchServe(url, "roofs", url)) as upstream:
        with pytest.raises(ModelNotReady, match="failed"):
            await ask(upstream, b"x")
        assert await upstream.ready() is False


def dropping(times):
    left = [times]

    async def reply(request, _body):
        if left[0]:
            left[0] -= 1
            request.transport.close()
        return web.json_response(ANSWER)

    return reply


async def test_a_connection_that_was_closed_while_idle_is_replaced(torchserve, upstream):
    torchserve.reply = dropping(1)
    with pytest.raises(ModelNotReady, match="closed before the answer was whole"):
        await ask(upstream, b"x")  # a new one: that was no accident
    assert await ask(upstream, b"x") == ANSWER
    torchserve.reply = dropping(1)
    assert await ask(upstream, b"x") == ANSWER
    torchserve.reply = dropping(2)
    with pytest.raises(ModelNotReady, match="closed before the answer was whole"):
        await ask(upstream, b"x")


async def test_a_failure_makes_readiness_ask_again(torchserve):
    with contextlib.closing(TorchServe(torchserve.url, "roofs", torchserve.url, ready_cache_s=60)) as upstream:
        assert await upstream.ready()
        torchserve.workers, torchserve.reply = [], of_torchserve(507, "InternalServerException")
        assert await upstream.ready()  # remembered
        with pytest.raises(ModelNotReady):
            await ask(upstream, b"x")
        assert not await upstream.ready()


async def exposed_ready(client):
    """What `/metrics` says of readiness."""
    [line] = [line for line in (await client.get("/metrics")).text.splitlines() if line.startswith("visor_ready{")]
    name, _, value = line.rpartition(" ")
    assert name == 'visor_ready{model="roofs",version="3"}'
    return float(value)


async def test_metrics_say_what_readiness_said_and_ask_nothing(client, torchserve, service):
    ready, down = [{"status": "READY"}], [{"status": "LOADING"}]
    assert await exposed_ready(client) == 0
    assert torchserve.polls == 0
    for polls, torchserve.workers in enumerate((ready, down, None, ready), 1):
        said = (await client.get("/v2/health/ready")).status_code == 200
        assert said == (torchserve.workers is ready)
        assert await exposed_ready(client) == said
        assert torchserve.polls == polls
    service.drain()
    assert await exposed_ready(client) == 0


async def test_an_edge_that_nobody_asks_looks_by_itself(edge, torchserve, monkeypatch):
    monkeypatch.setattr("transformer.service.WATCH_S", 0.01)  # from the first look on
    async with httpx.AsyncClient(base_url=f"http://{edge.http}") as client, asyncio.timeout(10):
        for torchserve.workers, expected in (([{"status": "READY"}], 1), ([], 0), ([{"status": "READY"}], 1)):
            while await exposed_ready(client) != expected:
                await asyncio.sleep(0.01)


async def test_the_line_follows_the_workers_whether_or_not_anybody_asks_for_readiness(client, torchserve):
    """One early inference found one worker; the others are used once they are there."""
    together = asyncio.Barrier(4)

    async def reply(_request, _body):
        await together.wait()  # only ever passed by four at once
        return web.json_response(ANSWER)

    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["YWI="]}
    torchserve.reply = replying(200, **ANSWER)
    assert (await client.post(URL, json={"inputs": [tensor]})).status_code == 200
    torchserve.workers = [{"status": "READY"}] * 2  # two calls for each
    assert (await client.post(URL, json={"inputs": [tensor]})).status_code == 200
    torchserve.reply = reply
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*(client.post(URL, json={"inputs": [tensor]}) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4


async def test_inferences_ask_for_the_workers_at_most_once_in_a_while(torchserve, spec):
    torchserve.reply = replying(200, **ANSWER)
    upstream = TorchServe(torchserve.url, "roofs", torchserve.url, ready_cache_s=60)
    async with asking(upstream, spec) as client:
        for _ in range(5):
            assert (await client.post(URL, content=b"x", headers=ONE)).status_code == 200
        await asyncio.gather(*(client.post(URL, content=b"x", headers=ONE) for _ in range(5)))
    assert torchserve.polls == 1


async def test_a_new_worker_is_found_while_all_that_were_known_hang(torchserve, spec):
    hung = asyncio.Event()

    async def reply(_request, body):
        if body == b"hang":
            await hung.wait()
        return web.json_response(ANSWER)

    torchserve.reply = reply
    upstream = TorchServe(torchserve.url, "roofs", torchserve.url, ready_cache_s=0.1)
    async with asking(upstream, spec) as client, asyncio.timeout(10):
        hanging = [asyncio.create_task(client.post(URL, content=b"hang", headers=ONE)) for _ in range(2)]  # one worker's calls
        while len(torchserve.calls) < 2:
            await asyncio.sleep(0.01)
        waiting = asyncio.create_task(client.post(URL, content=b"x", headers=ONE))
        await asyncio.sleep(0.05)
        torchserve.workers = [{"status": "READY"}] * 2
        assert (await waiting).status_code == 200
        hung.set()
        await asyncio.gather(*hanging)


async def test_a_management_api_that_is_slow_leaves_the_line_as_it_was(torchserve, spec, monkeypatch):
    monkeypatch.setattr("transformer.upstream.torchserve.READY_TIMEOUT_S", 0.05)
    together = asyncio.Barrier(4)

    async def reply(_request, _body):
        await together.wait()  # only ever passed by four at once
        return web.json_response(ANSWER)

    torchserve.reply, torchserve.workers = reply, [{"status": "READY"}] * 2  # two calls for each
    upstream = TorchServe(torchserve.url, "roofs", torchserve.url, ready_cache_s=0.0)
    async with asking(upstream, spec) as client, asyncio.timeout(10):
        assert (await client.get("/v2/health/ready")).status_code == 200
        torchserve.slow_s = 1.0
        assert (await client.get("/v2/health/ready")).status_code == 503
        answers = await asyncio.gather(*(client.post(URL, content=b"x", headers=ONE) for _ in range(4)))
        assert [answer.status_code for answer in answers] == [200] * 4


async def test_keys_that_cannot_be_read_are_said_once(torchserve, tmp_path, caplog):
    torchserve.keys = {"management": "m1", "inference": "i1"}
    with contextlib.closing(TorchServe(torchserve.url, "roofs", torchserve.url, keys=tmp_path, ready_cache_s=0)) as upstream:
        for _ in range(3):
            assert not await upstream.ready()
    assert [record.message for record in caplog.records if "keys cannot be read" in record.message] == [
        f"TorchServe's keys cannot be read, so it is not ready for this edge: [Errno 21] Is a directory: '{tmp_path}'"
    ]


async def test_a_torchserve_that_asks_for_keys_gets_those_of_its_file(torchserve, tmp_path):
    torchserve.reply, torchserve.keys = replying(200, **ANSWER), {"management": "m1", "inference": "i1"}
    file = tmp_path / "keys.json"
    with contextlib.closing(TorchServe(torchserve.url, "roofs", torchserve.url, keys=file, ready_cache_s=0)) as upstream:
        assert not await upstream.ready()  # it has written none yet
        file.write_text("not yet whole")
        assert not await upstream.ready()
        for run in ("1", "2"):  # TorchServe was started anew, with new keys
            torchserve.keys = {"management": f"m{run}", "inference": f"i{run}"}
            with pytest.raises(ModelNotReady, match=r"started anew"):
                await ask(upstream, b"x")
            file.write_text(json.dumps({api: {"key": key} for api, key in torchserve.keys.items()}))
            assert await upstream.ready()
            assert await ask(upstream, b"x") == ANSWER


async def test_the_images_of_a_request_are_asked_for_together(client, torchserve):
    together = asyncio.Barrier(4)

    async def reply(_request, _body):
        await together.wait()  # only ever passed by four at once
        return web.json_response(ANSWER)

    torchserve.reply, torchserve.workers = reply, [{"status": "READY"}] * 2  # two calls for each
    tensor = {"name": "image", "datatype": "BYTES", "shape": [4], "data": ["YWI="] * 4}
    async with asyncio.timeout(5):
        assert (await client.post(URL, json={"inputs": [tensor]})).status_code == 200


async def test_one_failed_call_takes_the_waiting_ones_out_of_the_line(client, torchserve, service):
    started, answered = asyncio.Barrier(2), asyncio.Event()

    async def reply(_request, body):
        await started.wait()
        if body == b"b":
            return web.json_response({"type": "InternalServerException"}, status=507)
        await answered.wait()
        return web.json_response(ANSWER)

    torchserve.reply = reply
    tensor = {"name": "image", "datatype": "BYTES", "shape": [4], "data": ["YQ==", "Yg==", "Yw==", "ZA=="]}
    assert (await client.post(URL, json={"inputs": [tensor]})).json()["code"] == "model.not_ready"
    answered.set()
    await asyncio.sleep(0.05)
    assert len(torchserve.calls) <= 3  # one worker, two calls, and one that may have taken the failed one's turn
    await service.close()


async def test_a_client_that_leaves_in_the_middle_of_its_body(edge):
    _, writer = await asyncio.open_connection("127.0.0.1", edge.bound.http_port)
    writer.write(b"POST /v2/models/roofs/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()
    writer.close()
    async with httpx.AsyncClient(base_url=f"http://{edge.http}") as client, asyncio.timeout(5):
        while b'code="499"' not in (await client.get("/metrics")).content:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("size", [100, 90_000])
async def test_a_client_that_leaves_before_its_answer(edge, torchserve, size):
    async def reply(_request, _body):
        await asyncio.sleep(30)
        return web.Response()

    torchserve.reply = reply
    _, writer = await asyncio.open_connection("127.0.0.1", edge.bound.http_port)
    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\nInference-Header-Content-Length: 0\r\n\r\n"
    writer.write(head.encode())
    await asyncio.sleep(0.05)  # the body is waited for, and then comes at once
    writer.write(bytes(size))
    async with httpx.AsyncClient(base_url=f"http://{edge.http}") as client, asyncio.timeout(5):
        while not torchserve.calls:
            await asyncio.sleep(0.01)
        writer.close()
        while b'code="499"' not in (await client.get("/metrics")).content:
            await asyncio.sleep(0.01)


async def test_cancelled_by_its_own_server_is_not_the_client(service, images, torchserve):
    async def reply(_request, _body):
        await asyncio.sleep(30)
        return web.Response()

    torchserve.reply = reply
    transport = httpx.ASGITransport(create_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        task = asyncio.create_task(client.post(URL, content=images[0], headers=ONE))
        while not torchserve.calls:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
