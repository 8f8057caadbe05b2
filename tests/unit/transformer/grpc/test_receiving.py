"""Messages are received as few at once as there is room for, and one at a time whatever is under way."""

import asyncio
import dataclasses
import time

import grpc
import pytest

from transformer.budget import BODY_WEIGHT, Budget
from transformer.errors import BodyTooSlow, MemorySpent, ProtobufInvalid
from transformer.grpc import receiving
from transformer.grpc.messages import SERVICE, message
from transformer.grpc.receiving import RECEIVE_WEIGHT, Receiver

LIMIT = 1000
PLACE = int(RECEIVE_WEIGHT * LIMIT)


class Call:
    """A call whose message comes when `send` is called."""

    def __init__(self):
        self.reading = False
        self._message = asyncio.get_running_loop().create_future()

    async def read(self):
        self.reading = True
        return await self._message

    def send(self, message):
        self._message.set_result(message)


@pytest.fixture
def _quick(monkeypatch):
    monkeypatch.setattr(receiving, "WAIT_S", 0.4)
    monkeypatch.setattr(receiving, "HURRY_S", 0.1)
    monkeypatch.setattr(receiving, "LOOK_S", 0.02)


async def receive(receiver, budget, call):
    with budget.open() as charge:
        body = await receiver.receive(call, charge)
        return body, charge.size


async def begin(receiver, budget, count):
    calls = [Call() for _ in range(count)]
    tasks = [asyncio.create_task(receive(receiver, budget, call)) for call in calls]
    await asyncio.sleep(0.01)
    return calls, tasks


async def test_one_receives_free_of_charge_and_others_as_the_budget_has_room():
    budget = Budget(3 * PLACE)
    receiver = Receiver(budget, LIMIT, 5.0)
    calls, tasks = await begin(receiver, budget, 5)
    assert [call.reading for call in calls] == [True, True, True, False, False]  # 7/8 of the budget: two places
    assert budget.spent == 2 * PLACE
    for call in calls:
        call.send(b"x" * 100)
    assert await asyncio.gather(*tasks) == [(b"x" * 100, int(BODY_WEIGHT * 100))] * 5
    assert budget.spent == 0


async def test_one_receives_where_the_budget_is_spent():
    budget = Budget(10_000)
    receiver = Receiver(budget, LIMIT, 5.0)
    with budget.open() as other:
        other.force(9900)
        [call], [task] = await begin(receiver, budget, 1)
        assert call.reading
        call.send(b"x" * 8)
        assert (await task)[0] == b"x" * 8


@pytest.mark.usefixtures("_quick")
async def test_a_message_waits_in_its_own_place_until_there_is_room_for_it():
    budget = Budget(10_000)
    receiver = Receiver(budget, LIMIT, 5.0)
    with budget.open() as other:
        other.force(9900)
        [call], [task] = await begin(receiver, budget, 1)
        call.send(b"x" * 900)
        await asyncio.sleep(0.05)
        assert not task.done()
        other.close()
        assert (await task)[1] == int(BODY_WEIGHT * 900)
        other.force(9900)
        [call], [task] = await begin(receiver, budget, 1)
        call.send(b"x" * 900)
        with pytest.raises(MemorySpent):
            await task
    calls, tasks = await begin(receiver, budget, 1)  # the place is free again
    assert calls[0].reading
    calls[0].send(b"")
    await tasks[0]


@pytest.mark.usefixtures("_quick")
async def test_who_receives_for_long_makes_room_for_who_waits():
    budget = Budget(10 * PLACE)
    receiver = Receiver(budget, LIMIT, 5.0)
    with budget.open() as other:
        other.force(10 * PLACE)
        [slow, next_one], [slow_task, next_task] = await begin(receiver, budget, 2)
        assert (slow.reading, next_one.reading) == (True, False)
        with pytest.raises(MemorySpent, match="others wait"):
            await slow_task
        next_one.send(b"y")
        other.close()
        assert (await next_task)[0] == b"y"


@pytest.mark.usefixtures("_quick")
async def test_nobody_is_given_up_for_the_time_in_which_the_server_itself_stood_still():
    budget = Budget(PLACE)
    receiver = Receiver(budget, LIMIT, 5.0)
    [first, second, third], tasks = await begin(receiver, budget, 3)
    assert (first.reading, second.reading) == (True, False)
    time.sleep(0.6)
    await asyncio.sleep(0.05)
    for call in (first, second, third):
        call.send(b"x")
    assert await asyncio.gather(*tasks) == [(b"x", int(BODY_WEIGHT))] * 3


@pytest.mark.usefixtures("_quick")
async def test_where_there_is_room_for_one_alone_they_take_turns():
    budget = Budget(PLACE)  # so small that there is never room for a second one
    receiver = Receiver(budget, LIMIT, 5.0)
    calls, tasks = await begin(receiver, budget, 4)
    assert [call.reading for call in calls] == [True, False, False, False]
    await asyncio.sleep(0.02)
    for call in calls:
        call.send(b"x")
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] == (b"x", int(BODY_WEIGHT))
    assert all(result == results[0] or isinstance(result, MemorySpent) for result in results)
    assert budget.spent == 0


@pytest.mark.usefixtures("_quick")
async def test_who_waits_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(receiving, "HURRY_S", 10.0)
    budget = Budget(PLACE)
    receiver = Receiver(budget, LIMIT, 5.0)
    calls, (first, second) = await begin(receiver, budget, 2)
    with pytest.raises(MemorySpent, match="no room to receive another"):
        await second
    calls[0].send(b"x")
    await first


async def test_a_message_that_does_not_come():
    budget = Budget(10_000)
    receiver = Receiver(budget, LIMIT, 0.05)
    _, [task] = await begin(receiver, budget, 1)
    with pytest.raises(BodyTooSlow):
        await task
    [call], [task] = await begin(receiver, budget, 1)
    call.send(grpc.aio.EOF)
    with pytest.raises(ProtobufInvalid):
        await task
    assert budget.spent == 0


async def test_cancelled_it_gives_all_back():
    budget = Budget(10 * PLACE)
    receiver = Receiver(budget, LIMIT, 5.0)
    _, tasks = await begin(receiver, budget, 3)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert budget.spent == 0
    calls, tasks = await begin(receiver, budget, 1)
    assert calls[0].reading
    calls[0].send(b"z")
    await tasks[0]


@pytest.fixture
async def stub(settings, start_edge):
    """ModelInfer of an edge that waits for 0.3 s for a message, for clients that say when they send it."""
    limits = dataclasses.replace(settings.limits, body_timeout_s=0.3)
    async with start_edge(dataclasses.replace(settings, limits=limits)) as edge, grpc.aio.insecure_channel(edge.grpc) as channel:
        yield channel.stream_unary(f"/{SERVICE}/ModelInfer")


async def code_of(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), dict(caught.value.trailing_metadata())["visor-code"]


async def test_a_call_without_its_message_is_told(stub):
    async def nothing():
        await asyncio.sleep(5)
        yield b""

    assert await code_of(stub(nothing())) == (grpc.StatusCode.DEADLINE_EXCEEDED, "request.slow")

    async def none():
        return
        yield b""

    assert await code_of(stub(none())) == (grpc.StatusCode.INVALID_ARGUMENT, "request.protobuf")


async def test_a_second_message_is_not_read(stub, images):
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [images[0]]}}
    request = message("ModelInferRequest")(model_name="roofs", inputs=[tensor]).SerializeToString()

    async def two():
        yield request
        yield b"\xff"

    answer = message("ModelInferResponse").FromString(await stub(two()))
    assert answer.model_name == "roofs"


@pytest.mark.usefixtures("_quick")
async def test_a_stream_may_bring_nothing_for_as_long_as_nobody_waits():
    budget = Budget(PLACE)
    receiver = Receiver(budget, LIMIT, 0.2)
    idle = Call()
    with budget.open() as charge:
        task = asyncio.create_task(receiver.receive_next(idle, charge))
        await asyncio.sleep(0.3)
        assert not task.done()
        [next_one], [next_task] = await begin(receiver, budget, 1)
        with pytest.raises(MemorySpent, match="others wait"):
            await task
        next_one.send(b"y")
        assert (await next_task)[0] == b"y"


async def test_a_stream_ends_with_no_message():
    budget = Budget(PLACE)
    ended = Call()
    ended.send(grpc.aio.EOF)
    with budget.open() as charge:
        assert await Receiver(budget, LIMIT, 5.0).receive_next(ended, charge) is None
    assert budget.spent == 0
