"""How many images may wait follows what the workers' images take, and a stop of the machine does not change it."""

import pytest
from aiohttp import web

from tests.unit.transformer.conftest import ANSWER


@pytest.fixture
def ask(client, service, torchserve):
    """Ask about so many images, one after the other, that take so many seconds as the worker says; how many may wait then."""
    stages = {}

    async def reply(_request, _body):
        return web.json_response(ANSWER | {"seconds": stages})

    torchserve.reply = reply

    async def ask(images, seconds):
        stages["infer"] = seconds
        for _ in range(images):
            answer = await client.post("/v2/models/roofs/infer", content=b"x", headers={"Content-Type": "image/png"})
            assert answer.is_success
        return service._dispatcher._queue._max_waiting

    return ask


async def test_the_line_is_as_long_as_the_network_is_fast(ask):
    """By one worker, in 0.4 s; the stub's archive takes six images a request, and 32 may wait for a worker in any case."""
    assert await ask(1, 0.004) == 100
    assert await ask(1, 3.0) == 98  # a stop of three seconds makes 4 ms 4.08
    assert await ask(1, 0.004) in (99, 100)  # as before, but for a rounding
    assert await ask(36, 0.009) in (48, 49, 50)  # 1.02^36 x 4 ms are 8.2
    assert await ask(60, 0.1) == 32  # 26 ms by now: 15 in that time
    assert await ask(300, 0.0) == 400  # no image is taken to be faster than 1 ms
