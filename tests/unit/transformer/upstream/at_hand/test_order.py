"""Which image goes where, and each gets its own answer: an idle worker first, then the place behind a busy one."""

import asyncio

import orjson
import pytest

from tests.unit.transformer.upstream.at_hand.told import begin, echo, settle, told, until
from transformer.upstream.worker import LENGTHS


async def test_the_next_image_is_there_before_the_answer_and_each_gets_its_own(upstream, alone, torchserve):
    calls = [begin(upstream, body) for body in (b"a", b"b", b"c", b"d")]
    await until(lambda: alone.asked == [b"a", b"b"])
    await settle()
    assert alone.asked == [b"a", b"b"]
    alone.answer()
    assert await echo(calls[0]) == "a"
    await until(lambda: alone.asked == [b"a", b"b", b"c"])
    alone.answer(2)  # in one packet
    assert [await echo(call) for call in calls[1:3]] == ["b", "c"]
    await until(lambda: len(alone.asked) == 4)
    alone.answer()
    assert await echo(calls[3]) == "d"
    assert (alone.connections, torchserve.calls) == (1, [])


async def test_answers_come_in_pieces(upstream, alone):
    calls = [begin(upstream, b"a"), begin(upstream, b"b")]
    await until(lambda: len(alone.asked) == 2)
    texts = [orjson.dumps({"echo": name}) for name in "ab"]
    for byte in b"".join(LENGTHS.pack(200, len(text)) + text for text in texts):
        alone._writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert [await echo(call) for call in calls] == ["a", "b"]


async def test_an_idle_worker_comes_before_a_place_behind_a_busy_one(upstream, both):
    one, other = both
    calls = [begin(upstream, body) for body in (b"a", b"b")]
    await until(lambda: (one.asked, other.asked) == ([b"a"], [b"b"]))
    other.answer()
    await calls[1]
    calls.append(begin(upstream, b"c"))
    await until(lambda: other.asked == [b"b", b"c"])  # and not behind a
    calls.append(begin(upstream, b"d"))
    await until(lambda: one.asked == [b"a", b"d"])  # which has been under way for longer than c
    calls += [begin(upstream, b"e"), begin(upstream, b"f")]
    await until(lambda: other.asked == [b"b", b"c", b"e"])
    other.answer()
    await until(lambda: other.asked == [b"b", b"c", b"e", b"f"])
    assert one.asked == [b"a", b"d"]
    one.answer(2)
    other.answer(2)
    assert [await echo(call) for call in calls[2:]] == ["c", "d", "e", "f"]


async def test_what_comes_back_keeps_its_place_in_the_line(upstream, both, folder):
    one, other = both
    async with told(folder, "3") as third:
        await upstream.direct.connect_new()
        calls = [begin(upstream, body) for body in (b"a", b"b", b"x", b"c", b"d", b"y", b"e")]
        await until(lambda: [len(worker.asked) for worker in (one, other, third)] == [2, 2, 2])
        for worker, left in ((one, 2), (other, 1)):
            worker.die()
            await until(lambda left=left: len(upstream.direct) == left)
        for number in range(3, 6):
            third.answer()
            await until(lambda number=number: len(third.asked) == number)
        third.answer(2)
        assert third.asked == [b"x", b"y", b"c", b"d", b"e"]
        assert [await echo(calls[number]) for number in (2, 3, 4, 5, 6)] == ["x", "c", "d", "y", "e"]
        for call in calls[:2]:
            with pytest.raises(ConnectionError):
                await call


async def test_an_image_that_cannot_be_sent_holds_up_no_other(upstream, alone):
    a, bad = begin(upstream, b"a"), upstream.direct.begin({"x": "\ud800"}, b"bad")
    with pytest.raises(TypeError, match="surrogates"):
        await bad
    b = begin(upstream, b"b")
    await until(lambda: alone.asked == [b"a", b"b"])
    alone.answer(2)
    assert (await echo(a), await echo(b)) == ("a", "b")
