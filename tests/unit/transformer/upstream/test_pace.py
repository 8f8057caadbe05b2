"""How many images may wait follows what the workers' images take on the average; a stop or what is refused makes no room."""

import asyncio
import math
from statistics import fmean

import pytest
from aiohttp import web

from tests.unit.transformer.conftest import ANSWER
from transformer.upstream.pace import LEAST_S, LEFT_OUT, WINDOW, Pace


@pytest.fixture
def room(service):
    """How many may wait now."""
    return lambda: service._dispatcher._queue._max_waiting


@pytest.fixture
def ask(client, torchserve, room):
    """Ask about so many images, one after the other, that take so many seconds as the worker says; how many may wait then."""
    stages = {}

    async def reply(_request, _body):
        return web.json_response(ANSWER | {"seconds": stages})

    async def ask(images, seconds):
        torchserve.reply, stages["infer"] = reply, seconds
        for _ in range(images):
            answer = await client.post("/v2/models/roofs/infer", content=b"x", headers={"Content-Type": "image/png"})
            assert answer.is_success
        return room()

    return ask


async def test_the_line_is_as_long_as_the_network_is_fast(ask):
    """By one worker, in 0.4 s; the stub's archive takes six images a request, and 32 may wait for a worker in any case."""
    assert await ask(16, 0.004) in (99, 100)  # but for a rounding
    assert await ask(1, 3.0) in (99, 100)  # a stop of three seconds is left out
    assert await ask(15, 0.01) in (58, 59)  # 16 of 4 ms and 14 of 10 ms are 6.8 on the average; two are left out
    assert await ask(300, 0.0) in (399, 400)  # no image is taken to be faster than 1 ms


@pytest.fixture
def refuse(client, torchserve):
    """Ask about sixteen images, each of which is refused after so many seconds."""

    async def refuse(after_s):
        async def reply(_request, _body):
            await asyncio.sleep(after_s)
            return web.json_response({"error": {"code": "image.undecodable", "message": "broken"}}, status=400)

        torchserve.reply = reply
        for _ in range(16):
            answer = await client.post("/v2/models/roofs/infer", content=b"x", headers={"Content-Type": "image/png"})
            assert answer.status_code == 400

    return refuse


async def test_images_that_are_refused_quickly_make_no_room(ask, refuse, service):
    await ask(16, 0.5)
    await refuse(0.0)
    assert service._dispatcher._pace.image_s == pytest.approx(0.5)


async def test_images_that_are_refused_slowly_take_room(ask, refuse, room):
    """Two of 32 are left out: 16 of 4 ms and 14 of 0.1 s take 49 ms on the average, so that 32 may wait as ever."""
    assert await ask(16, 0.004) > 32
    await refuse(0.1)
    assert room() == 32


def test_a_mixture_waits_as_long_as_its_mean_says():
    """Three of five take 4 ms, the others with a heat map 40: 18.4 ms. By their median the line would take 1.8 s, not 0.4."""
    pace = Pace()
    for number in range(2 * WINDOW):
        pace.note(0.004 if number % 5 < 3 else 0.04)
    assert 0.016 <= pace.image_s <= 0.0184  # the slowest sixteenth is left out


def test_the_mean_is_of_the_last_images_but_for_the_slowest():
    pace, seconds = Pace(), [0.001 * (1 + number * 37 % 101) for number in range(3 * WINDOW)]
    assert pace.image_s == math.inf
    for number, one in enumerate(seconds, start=1):
        pace.note(one)
        last = sorted(seconds[max(0, number - WINDOW) : number])
        assert pace.image_s == pytest.approx(fmean(last[: len(last) - len(last) // LEFT_OUT]))


def test_a_first_image_that_takes_long_is_soon_left_out():
    pace = Pace()
    for seconds in (3.0, *[0.005] * (LEFT_OUT - 1)):
        pace.note(seconds)
    assert pace.image_s == pytest.approx(0.005)


def test_what_is_no_time_is_the_least():
    pace = Pace()
    for _ in range(2 * WINDOW):
        pace.note(math.nan)
    assert pace.image_s == pytest.approx(LEAST_S)
    pace.note(-1.0)
    assert pace.image_s == pytest.approx(LEAST_S)
