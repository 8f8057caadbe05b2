"""Answers to images that come again: the same as the first time, bounded, and nothing of the server's own trouble."""

import base64

import httpx
import numpy as np
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from handlers.errors import ImageUndecodable
from transformer.images import Picture
from transformer.metrics import Metrics
from transformer.rest.app import create_app
from transformer.service import Service
from transformer.settings import EdgeLimits
from transformer.upstream.answer_cache import ENTRY_BYTES, AnswerCache, key_of
from transformer.upstream.image_answers import ImageAnswer

URL = "/v2/models/roofs/infer"
ONE = {"Content-Type": "image/png"}


@pytest.fixture
def service(upstream, spec):
    limits = EdgeLimits(max_images=6, max_body_bytes=400_000, max_queue=1)
    return Service(spec, "ab" * 32, upstream, Metrics(spec, "ab" * 32), limits=limits, cache=AnswerCache(3))


async def lookups(client):
    lines = dict(line.rsplit(" ", 1) for line in (await client.get("/metrics")).text.splitlines() if "{" in line)
    name = 'visor_cache_lookups_total{model="roofs",result="%s",version="3"}'
    return tuple(float(lines.get(name % result, 0)) for result in ("hit", "miss"))


async def test_an_image_that_comes_again_is_not_asked_for(client, images, torchserve):
    first, second = [await client.post(URL, content=images[0], headers=ONE) for _ in range(2)]
    assert first.status_code == 200
    assert second.json() == first.json()
    assert len(torchserve.calls) == 1
    assert await lookups(client) == (1.0, 1.0)
    stats = (await client.get("/v2/models/stats")).json()["model_stats"][0]
    assert (stats["inference_count"], stats["inference_stats"]["cache_hit"]["count"]) == (1, 1)
    assert (stats["inference_stats"]["success"]["count"], stats["inference_stats"]["cache_miss"]["count"]) == (2, 1)


@pytest.mark.parametrize(
    "parameters", [{"explain": True}, {"threshold": 0.4}, {"threshold": 0.1}, {"explain": True, "threshold": 0.1}]
)
async def test_other_options_are_another_question(client, images, torchserve, ask_handler, parameters):
    await client.post(URL, content=images[0], headers=ONE)
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(images[0]).decode()]}
    for _ in range(2):
        answer = await client.post(URL, json={"inputs": [tensor], "parameters": parameters})
        outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
        asked = {"explain": "true"} if "explain" in parameters else {}
        asked |= {"threshold": str(parameters["threshold"])} if "threshold" in parameters else {}
        expected = ask_handler(images[0], **asked)
        assert outputs["decision"] == [expected["decision"]]
        if "explain" in parameters:
            assert outputs["heatmap"] == pytest.approx(np.ravel(expected["heatmap"]).tolist(), abs=1e-6)
    assert len(torchserve.calls) == 2


async def test_what_lies_in_the_image_is_kept_and_trouble_is_not(client, images, torchserve):
    for _ in range(2):
        assert (await client.post(URL, content=b"junk", headers=ONE)).json()["code"] == "image.undecodable"
    assert len(torchserve.calls) == 1

    async def fail(_request, _body):
        return web.json_response({"type": "InternalServerException"}, status=507)

    torchserve.reply = fail
    assert (await client.post(URL, content=images[1], headers=ONE)).json()["code"] == "model.not_ready"
    torchserve.reply = None
    assert (await client.post(URL, content=images[1], headers=ONE)).status_code == 200


async def test_an_answer_that_is_known_needs_no_room(service, client, images):
    await client.post(URL, content=images[0], headers=ONE)
    queue = service._dispatcher._queue
    with queue.admit(3):  # one worker's two calls, and a line of one
        assert (await client.post(URL, content=images[0], headers=ONE)).status_code == 200
        assert (await client.post(URL, content=images[1], headers=ONE)).json()["code"] == "server.overloaded"


async def test_without_a_cache_nothing_is_kept(upstream, spec, images, torchserve):
    service = Service(spec, "ab" * 32, upstream, Metrics(spec, "ab" * 32))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(service)), base_url="http://edge") as client:
        for _ in range(2):
            await client.post(URL, content=images[0], headers=ONE)
        assert await lookups(client) == (0.0, 0.0)
    assert len(torchserve.calls) == 2


KEYS = [bytes([n]) for n in range(6)]


@given(st.lists(st.tuples(st.sampled_from(["get", "put"]), st.sampled_from(KEYS)), max_size=40), st.integers(1, 4))
def test_the_answers_used_last_are_kept(steps, size):
    """Naive: a list of keys, the newest at its end, cut to size."""
    cache, kept = AnswerCache(size), []
    for step, key in steps:
        if step == "put":
            cache.put(key, ImageUndecodable(key.hex()))
        found = cache.get(key)
        assert (found is not None) == (key in kept or step == "put")
        if found is not None:
            assert found.args == (key.hex(),)
            kept = [*(other for other in kept if other != key), key][-size:]
    assert len(cache) == len(kept)


def test_the_bytes_are_bounded_too(spec):
    blank = ImageAnswer.blank(spec)  # 3 probabilities and a map of 4 x 4, of four bytes each
    entry = ENTRY_BYTES + 4 * (3 + 16)
    cache = AnswerCache(100, max_bytes=3 * entry)
    for n in range(5):
        cache.put(bytes([n]), blank)
    assert [cache.get(bytes([n])) is not None for n in range(5)] == [False, False, True, True, True]
    cache.put(bytes([4]), blank)  # again: counted once
    assert len(cache) == 3


def test_a_key_is_of_bytes_size_and_options():
    picture = Picture(b"abcdef" * 2)
    keys = {
        key_of(picture, explain=False, threshold=None),
        key_of(picture, explain=True, threshold=None),
        key_of(picture, explain=False, threshold=0.0),
        key_of(picture, explain=False, threshold=None, group="site=north"),
        key_of(Picture(b"abcdef" * 2, (2, 2)), explain=False, threshold=None),
        key_of(Picture(b"abcdef" * 2, (1, 4)), explain=False, threshold=None),
        key_of(Picture(b"fedcba" * 2), explain=False, threshold=None),
    }
    assert len(keys) == 7
    assert key_of(Picture(memoryview(b"abcdef" * 2)), explain=False, threshold=None) in keys
