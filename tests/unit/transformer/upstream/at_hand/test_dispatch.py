"""What the dispatcher makes of images at hand: time in line, deadlines and turns."""

import asyncio
import gc
import weakref

import pytest

from tests.unit.transformer.conftest import ANSWER
from tests.unit.transformer.upstream.at_hand.told import Told, settle, until
from transformer.images import Picture
from transformer.metrics import Metrics
from transformer.request_log import Record
from transformer.service import Service


@pytest.fixture
def answering(monkeypatch):
    """Workers that are told to answer give the handler's answer."""

    monkeypatch.setattr(Told, "text", lambda *_: ANSWER)


@pytest.fixture
async def service(spec, upstream):
    service = Service(spec, "ab" * 32, upstream, Metrics(spec, "ab" * 32))
    yield service
    await service.close()


def ask(service, body, left_s=None, record=None):
    question = service._dispatcher.question(Picture(body), explain=False, threshold=None)
    record = record or Record("rest", "/")
    return asyncio.create_task(_answer(service, [question], record, left_s))


async def _answer(service, questions, record, left_s):
    async with asyncio.timeout(left_s):
        return await service._dispatcher.ask(questions, record)


@pytest.mark.usefixtures("answering")
async def test_the_time_at_hand_is_time_in_line(alone, service):
    records = [Record("rest", "/") for _ in range(2)]
    first, second = (ask(service, b"x", record=record) for record in records)
    await until(lambda: len(alone.asked) == 2)
    await asyncio.sleep(0.1)
    alone.answer()
    await first
    await asyncio.sleep(0.02)
    alone.answer()
    await second
    (_, first_queue_s, first_call_s), (_, second_queue_s, second_call_s) = (record.calls[0] for record in records)
    assert first_queue_s < 0.1 <= first_call_s
    assert second_call_s < 0.1 <= second_queue_s == records[1].queue_s


@pytest.mark.usefixtures("answering")
async def test_an_image_at_hand_whose_deadline_passes_leaves_its_turn_to_the_next(alone, service):
    first = ask(service, b"a")
    late = ask(service, b"b", left_s=0.05)
    await until(lambda: alone.asked == [b"a", b"b"])
    third = ask(service, b"c")
    with pytest.raises(TimeoutError):
        await late
    await until(lambda: alone.withdrawn == [b"b"])
    assert len(service._dispatcher._queue) == 0
    await settle()
    assert alone.asked == [b"a", b"b"]  # c is sent once there is a place for it
    alone.answer()
    assert (await first)[0].label == ANSWER["label"]
    await until(lambda: alone.asked == [b"a", b"b", b"c"])
    alone.answer()
    assert (await third)[0].label == ANSWER["label"]


@pytest.mark.usefixtures("answering")
async def test_a_call_that_its_client_has_left_is_forgotten_once_it_has_ended(alone, service):
    left = ask(service, b"a")
    await until(lambda: alone.asked == [b"a"])
    [call] = service._dispatcher._calls
    memory = weakref.ref(call)
    del call
    left.cancel()
    await asyncio.wait([left])
    assert memory() is not None
    alone.answer()
    await until(lambda: not service._dispatcher._calls)
    del left
    gc.collect()
    assert memory() is None  # and not only after the time for which it might have gone on


@pytest.mark.usefixtures("alone")
async def test_a_call_that_cannot_begin_leaves_its_turn(service):
    question = service._dispatcher.question(Picture(b"x"), explain=False, threshold=None, group="\ud800")
    for _ in range(5):
        with pytest.raises(UnicodeEncodeError):
            await service._dispatcher.ask([question], Record("rest", "/"))
    assert not service._dispatcher._queue._under_way
