"""Clients that leave: what nobody waits for any more disturbs no other, and is kept no longer."""

import asyncio
import weakref

import orjson
import pytest

from tests.unit.transformer.upstream.at_hand.told import begin, echo, leave, settle, until
from transformer.upstream.workers import AT_HAND_BYTES


@pytest.mark.parametrize("cancelled", [{0}, {1}, {0, 1}, {1, 2}])
async def test_what_nobody_waits_for_any_more_disturbs_no_other(upstream, alone, torchserve, cancelled):
    calls = [begin(upstream, body) for body in (b"a", b"b", b"c")]
    await until(lambda: alone.asked == [b"a", b"b"])
    for number in cancelled:
        calls[number].cancel()
    await settle()
    calls += [begin(upstream, b"d"), begin(upstream, b"e")]
    sent = [body for number, body in enumerate((b"a", b"b", b"c", b"d", b"e")) if number not in cancelled - {0, 1}]
    for number, _ in enumerate(sent):
        await until(lambda number=number: len(alone.asked) == min(number + 2, len(sent)))
        alone.answer()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for number, name in enumerate("abcde"):
        if number in cancelled:
            assert isinstance(answers[number], asyncio.CancelledError)
        else:
            assert orjson.loads(answers[number].body)["echo"] == name
    assert alone.asked == sent
    assert (alone.connections, torchserve.calls) == (1, [])


class Body(bytearray):
    """Bytes that a weak reference can follow."""


async def test_a_large_image_is_sent_once_the_worker_is_idle_and_leaves_with_its_client(upstream, alone):
    large = b"L" * (AT_HAND_BYTES + 1)
    a, b = begin(upstream, b"a"), begin(upstream, large)
    gone = Body(large)
    c = begin(upstream, gone)
    waiting = asyncio.create_task(upstream.answer(c))
    memory = weakref.ref(gone)
    del gone
    await settle()
    assert alone.asked == [b"a"]
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert c.cancelled()
    small = begin(upstream, b"s")
    large_and_left = begin(upstream, large)
    upstream.direct.withdraw(b)
    await until(lambda: alone.asked == [b"a", b"s"])  # for which there was a place behind the large one
    upstream.direct.withdraw(large_and_left)
    b = begin(upstream, large)
    alone.answer(2)
    await small
    await settle()
    assert memory() is None
    await until(lambda: alone.asked == [b"a", b"s", large])
    d = begin(upstream, b"d")
    await until(lambda: alone.asked == [b"a", b"s", large, b"d"])  # a small one may wait behind a large one
    alone.answer(2)
    assert [len(await echo(call)) for call in (a, b, d)] == [1, AT_HAND_BYTES + 1, 1]


async def test_an_image_that_no_other_worker_will_be_asked_about_is_kept_no_longer(upstream, alone):
    bodies = [Body(b"x" * 1_000_000), Body(b"y"), Body(b"z")]
    memories = [weakref.ref(body) for body in bodies]
    calls = [begin(upstream, body) for body in bodies]
    bodies.clear()
    await until(lambda: len(alone.asked) == 2)
    await until(lambda: memories[0]() is None)
    assert memories[1]() is not None  # it may have to be sent again
    alone.answer()
    await calls[0]
    await until(lambda: len(alone.asked) == 3)
    assert [memory() is None for memory in memories] == [True, False, False]
    for number in (1, 2):
        await leave(upstream, calls[number])
        assert memories[number]() is None
    alone.answer()
    await calls[1]


async def test_a_client_that_leaves_withdraws_what_its_worker_has_not_begun_with(upstream, both, torchserve):
    one, other = both
    a, b, c = (begin(upstream, body) for body in (b"a", b"b", b"c"))
    for call in (c, a):
        await leave(upstream, call)
    assert (a.done(), c.cancelled()) == (False, True)
    await until(lambda: one.withdrawn == [b"c"])
    d = begin(upstream, b"d")
    await until(lambda: other.asked == [b"b", b"d"])
    one.answer()
    assert await echo(a) == "a"
    e = begin(upstream, b"e")
    await until(lambda: one.asked == [b"a", b"c", b"e"])
    one.die()
    other.answer(2)
    assert (await echo(b), await echo(d)) == ("b", "d")
    with pytest.raises(ConnectionError):
        await e
    assert (other.asked, torchserve.calls) == ([b"b", b"d"], [])


async def test_what_a_client_has_left_is_not_asked_about_anew(upstream, both):
    one, other = both
    a, b, c = (begin(upstream, body) for body in (b"a", b"b", b"c"))
    await leave(upstream, c)
    one.die()
    other.answer()
    assert await echo(b) == "b"
    with pytest.raises(ConnectionError):
        await a
    await settle()
    assert other.asked == [b"b"]
