"""A stop of the process is seen before what came in it is handled, counts for a second at most, and is soon forgotten."""

import asyncio
import math
import time

import pytest

from transformer.settings import EdgeLimits
from transformer.upstream.stops import LOOK_S, MOST_S, Stops


async def test_a_stop_is_seen_before_what_came_in_it():
    stops, seen = Stops(lambda: None), []

    def came():  # as a request that was read after the stop: its task runs in the loop's next turn
        asyncio.get_running_loop().call_soon(lambda: seen.append(stops.seconds))

    with stops.noticed():
        await asyncio.sleep(2 * LOOK_S)
        assert stops.seconds == 0
        asyncio.get_running_loop().call_soon(came)
        time.sleep(0.4)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert 0.4 - LOOK_S <= seen[0] <= MOST_S


async def test_a_process_that_is_busy_does_not_stand_still():
    """As with large JSON, during which Python's lock is held: else who sends it would make the line longer for good."""
    stops = Stops(lambda: None)
    with stops.noticed():
        await asyncio.sleep(2 * LOOK_S)
        begun, busy = time.perf_counter(), time.process_time()
        while time.process_time() < busy + 0.4:
            pass
        starved_s = time.perf_counter() - begun - 0.4  # by what else this machine does
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert stops.seconds <= starved_s + 2 * LOOK_S


def test_what_this_process_computed_meanwhile_is_no_stop():
    """A look 0.5 s late, so 0.55 s after the one before."""
    for busy_s, stood_s in ((0.0, 0.5), (0.05, 0.5), (0.25, 0.3), (0.5, 0.0), (1.1, 0.0)):
        stops = Stops(lambda: None)
        stops._note(0.5, busy_s)
        assert stops.seconds == pytest.approx(stood_s)


async def test_nothing_is_looked_for_after_the_block():
    stops = Stops(lambda: None)
    with stops.noticed():
        pass
    time.sleep(0.2)
    await asyncio.sleep(2 * LOOK_S)
    assert stops.seconds == 0


def test_stops_add_up_to_a_second_and_are_forgotten_in_four_times_as_long():
    told = []
    stops = Stops(lambda: told.append(stops.seconds))
    for late, after in ((0.09, 0.0), (0.1, 0.1), (0.4, 0.5), (3.0, 1.0), (0.0, 0.9875), (0.05, 0.9625)):
        stops._note(late, 0.0)
        assert stops.seconds == pytest.approx(after)
    for _ in range(math.ceil(4 * 0.9625 / LOOK_S) + 1):
        stops._note(0.0, 0.0)
    assert stops.seconds == told[-1] == 0
    told.clear()
    stops._note(0.0, 0.0)
    assert told == []  # only what changes is told


def test_what_came_in_a_stop_may_wait_too():
    """Two workers of 5 ms answer 160 images in 0.4 s and as many more in another 0.4."""
    limits = EdgeLimits(max_images=64)
    assert limits.room(workers=2, image_s=0.005)[1] == 160
    assert limits.room(workers=2, image_s=0.005, stood_s=0.4)[1] == 320
    assert limits.room(workers=2, stood_s=0.4)[1] == 64  # as before the first answer
    assert EdgeLimits(max_queue=7).room(workers=2, image_s=0.005, stood_s=0.4)[1] == 7
