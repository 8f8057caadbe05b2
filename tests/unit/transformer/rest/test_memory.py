"""Requests for which there is no memory are refused before they are read or parsed, and all is given back afterwards."""

import gzip
import json
import tracemalloc

import httpx
import pytest

from transformer.budget import BODY_WEIGHT, COUNT_FROM, JSON_WEIGHT, Budget
from transformer.metrics import Metrics
from transformer.request_log import Record
from transformer.rest.app import create_app
from transformer.rest.body import parse_request
from transformer.service import Service
from transformer.settings import EdgeLimits

URL = "/v2/models/roofs/infer"
ONE = {"Inference-Header-Content-Length": "0"}
TOTAL = 8 << 20
DIGEST = "ab" * 32


@pytest.fixture
def service(upstream, spec):
    limits = EdgeLimits(max_images=6, memory_bytes=TOTAL)
    return Service(spec, DIGEST, upstream, Metrics(spec, DIGEST), limits=limits)


async def test_it_is_charged_while_it_is_under_way_and_shown(client, service, torchserve, images):
    seen = []

    async def reply(_request, _body):
        seen.append(service.budget.spent)
        raise ConnectionError

    torchserve.reply = reply
    await client.post(URL, content=images[0], headers=ONE)
    assert seen[0] >= int(BODY_WEIGHT * len(images[0]))
    assert service.budget.spent == 0
    metrics = (await client.get("/metrics")).text
    assert f'visor_memory_bytes{{state="total"}} {float(TOTAL)!r}'.replace("8388608.0", "8.388608e+06") in metrics
    assert 'visor_memory_bytes{state="spent"} 0.0' in metrics


def many_parameters():
    """JSON of 200 KB, a tiny image and parameters of the client's own, which as objects take more than ten times as much."""
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["/9g="]}
    text = json.dumps({"inputs": [tensor], "parameters": {f"own{number:05}": 1.5 for number in range(12_000)}})
    assert len(text) < COUNT_FROM
    return text.encode()


async def test_small_json_is_charged_as_json_too(client, service, torchserve):
    seen = []

    async def reply(_request, _body):
        seen.append(service.budget.spent)
        raise ConnectionError

    torchserve.reply = reply
    body = many_parameters()
    await client.post(URL, content=body)
    assert seen[0] >= int(JSON_WEIGHT * len(body))


def test_a_request_that_waits_keeps_no_parameters(service):
    """As many requests may wait as the workers answer in 0.4 s, and what each holds is no more than it is charged."""
    body = many_parameters()
    service.read(parse_request(body, None, "roofs", "")[0], Record("rest", URL))  # what is made once
    tracemalloc.start()
    try:
        prepared = service.read(parse_request(body, None, "roofs", "")[0], Record("rest", URL))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(prepared.questions) == 1
    assert held < len(body) < peak / 5  # orjson keeps the last keys, 0.1 MB of them


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_without_room_is_told_to_try_again(client, service, chunked):
    async def parts():
        for _ in range(5):
            yield bytes(1 << 20)

    with service.budget.open() as other:
        other.set(6 << 20)
        answer = await client.post(URL, content=parts() if chunked else bytes(5 << 20), headers=ONE)
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "server.memory", "1")
        assert service.budget.spent == 6 << 20
    assert "visor_memory_refused 1.0" in (await client.get("/metrics")).text


async def test_a_body_that_never_has_room_is_too_large(client):
    answer = await client.post(URL, content=bytes(6 << 20), headers=ONE)
    assert (answer.status_code, answer.json()["code"]) == (413, "request.too_large")


@pytest.mark.parametrize("text", [b"[]," * 200_000, b"{}," * 100_000, b'"a",' * 200_000], ids=["lists", "dicts", "strings"])
@pytest.mark.parametrize("packed", [False, True])
async def test_json_is_weighed_before_it_is_parsed(client, service, text, packed, monkeypatch):
    assert len(text) > COUNT_FROM
    monkeypatch.setattr("transformer.rest.app.parse_request", None)  # it is not called
    body = b'{"x":[' + text + b"1]}"
    headers = {"Content-Encoding": "gzip"} if packed else {}
    answer = await client.post(URL, content=gzip.compress(body) if packed else body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "request.too_large")
    assert service.budget.spent == 0


async def test_binary_data_behind_json_is_not_counted_as_json(client):
    raw = b"[" * 900_000
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1, 300, 1000, 3], "parameters": {"binary_data_size": len(raw)}}
    text = json.dumps({"inputs": [tensor]}).encode()
    answer = await client.post(URL, content=text + raw, headers={"Inference-Header-Content-Length": str(len(text))})
    assert answer.status_code == 200, answer.text


async def test_a_service_that_is_given_a_budget_uses_it(upstream, spec, images):
    service = Service(spec, DIGEST, upstream, Metrics(spec, DIGEST), budget=Budget(100))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(service)), base_url="http://edge") as client:
        assert (await client.post(URL, content=images[0], headers=ONE)).status_code == 413
