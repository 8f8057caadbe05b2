"""Behind an image that takes long, or a worker that hangs, no other waits where another worker could take it."""

import asyncio

import pytest

from tests.unit.transformer.upstream.at_hand.told import begin, echo, settle, told, until
from transformer.upstream import worker as worker_module


@pytest.mark.parametrize("hang_s", [0.4])
async def test_the_clock_of_an_image_starts_when_the_worker_comes_to_it(upstream, alone):
    a, b = begin(upstream, b"a"), begin(upstream, b"b")
    for call in (a, b):
        await asyncio.sleep(0.3)
        alone.answer()
        await call  # b after 0.6 s, of which it had 0.3 for itself
    c = begin(upstream, b"c")
    with pytest.raises(ConnectionError, match=r"has not answered for 0\.4 s"):
        await c
    assert upstream.direct.hang


@pytest.mark.parametrize("hang_s", [1.0])
async def test_behind_a_worker_that_hangs_no_image_waits_for_its_end(upstream, both, torchserve):
    one, other = both
    a, b, c = (begin(upstream, body) for body in (b"a", b"b", b"c"))
    await until(lambda: (one.asked, other.asked) == ([b"a", b"c"], [b"b"]))
    other.answer()
    await b
    await until(lambda: other.asked == [b"b", b"c"])
    other.answer()
    assert await echo(c) == "c"
    assert not a.done()  # it was not yet known to hang
    d = begin(upstream, b"d")
    e = begin(upstream, b"e")
    await until(lambda: other.asked == [b"b", b"c", b"d", b"e"])  # nothing is sent to who is slow
    with pytest.raises(ConnectionError, match="has not answered for 1 s"):
        await a
    other.answer(2)
    assert (await echo(d), await echo(e)) == ("d", "e")
    assert (one.asked, one.withdrawn) == ([b"a", b"c"], [b"c"])
    assert torchserve.calls == []


async def test_nothing_is_sent_behind_an_image_that_takes_long(upstream, both, monkeypatch):
    monkeypatch.setattr(worker_module, "SLOW_S", 0.1)
    one, other = both
    begin(upstream, b"a"), begin(upstream, b"b")
    await until(lambda: (one.asked, other.asked) == ([b"a"], [b"b"]))
    await asyncio.sleep(0.2)
    c = begin(upstream, b"c")
    await settle()
    assert (one.asked, other.asked) == ([b"a"], [b"b"])
    other.answer()
    await until(lambda: other.asked == [b"b", b"c"])
    d = begin(upstream, b"d")
    await until(lambda: other.asked == [b"b", b"c", b"d"])
    other.answer(2)
    assert (await echo(c), await echo(d), one.asked) == ("c", "d", [b"a"])


async def test_an_image_that_was_answered_elsewhere_shifts_no_answer(upstream, both, monkeypatch):
    monkeypatch.setattr(worker_module, "SLOW_S", 0.05)
    one, other = both
    a, b, c = (begin(upstream, body) for body in (b"a", b"b", b"c"))
    await until(lambda: (one.asked, other.asked) == ([b"a", b"c"], [b"b"]))
    other.answer()
    await until(lambda: other.asked == [b"b", b"c"])
    other.answer()
    await c
    assert (one.asked, one.withdrawn) == ([b"a", b"c"], [b"c"])
    one.answer()
    assert await echo(a) == "a"
    await settle()
    d = begin(upstream, b"d")
    await until(lambda: one.asked == [b"a", b"c", b"d"])
    one.answer()
    assert (await echo(b), await echo(c), await echo(d)) == ("b", "c", "d")


async def test_what_waits_behind_a_slow_image_leaves_it_once_another_worker_is_idle(upstream, both, monkeypatch):
    monkeypatch.setattr(worker_module, "SLOW_S", 0.05)
    one, other = both
    a, b, c, d = (begin(upstream, body) for body in (b"a", b"b", b"c", b"d"))
    await until(lambda: (one.asked, other.asked) == ([b"a", b"c"], [b"b", b"d"]))
    await asyncio.sleep(0.2)
    assert one.withdrawn == other.withdrawn == []  # each is slow, so neither could do more
    other.answer(2)
    assert (await echo(b), await echo(d)) == ("b", "d")
    await until(lambda: (one.withdrawn, other.asked) == ([b"c"], [b"b", b"d", b"c"]))
    other.answer()
    assert await echo(c) == "c"
    assert not a.done()


async def test_what_was_withdrawn_is_given_to_one_worker_alone(upstream, both, folder, monkeypatch):
    monkeypatch.setattr(worker_module, "SLOW_S", 0.05)
    one, other = both
    async with told(folder, "3") as third:
        await upstream.direct.connect_new()
        a, b, x, c = (begin(upstream, body) for body in (b"a", b"b", b"x", b"c"))
        await until(lambda: (one.asked, other.asked, third.asked) == ([b"a", b"c"], [b"b"], [b"x"]))
        other.answer()
        await until(lambda: other.asked == [b"b", b"c"])
        third.answer()
        assert (await echo(b), await echo(x)) == ("b", "x")
        await settle()
        assert (one.withdrawn, third.asked) == ([b"c"], [b"x"])
        other.answer()
        one.answer()
        assert (await echo(a), await echo(c)) == ("a", "c")


async def test_what_waits_behind_a_slow_image_goes_to_a_worker_that_is_new(upstream, alone, folder, monkeypatch):
    monkeypatch.setattr(worker_module, "SLOW_S", 0.05)
    a, b = begin(upstream, b"a"), begin(upstream, b"b")
    await until(lambda: alone.asked == [b"a", b"b"])
    await asyncio.sleep(0.2)
    async with told(folder, "2") as new:
        await upstream.direct.connect_new()
        await until(lambda: (alone.withdrawn, new.asked) == ([b"b"], [b"b"]))
        new.answer()
        assert await echo(b) == "b"
        assert not a.done()


async def test_a_worker_that_had_begun_with_what_is_withdrawn_may_answer_it(upstream, both, monkeypatch):
    monkeypatch.setattr(worker_module, "SLOW_S", 0.05)
    one, other = both
    one.late = True
    a, b, c = (begin(upstream, body) for body in (b"a", b"b", b"c"))
    await until(lambda: (one.asked, other.asked) == ([b"a", b"c"], [b"b"]))
    other.answer()
    await until(lambda: other.asked == [b"b", b"c"])
    one.answer(2)
    assert [await echo(call) for call in (a, b, c)] == ["a", "b", "c"]  # before the other's answer, which is dropped
    d, e = begin(upstream, b"d"), begin(upstream, b"e")
    await until(lambda: (one.asked, other.asked) == ([b"a", b"c", b"d"], [b"b", b"c", b"e"]))
    one.answer()
    other.answer(2)
    assert (await echo(d), await echo(e)) == ("d", "e")


async def test_where_every_image_takes_long_none_is_asked_twice(upstream, both, monkeypatch):
    monkeypatch.setattr(worker_module, "SLOW_S", 0.05)
    one, other = both
    first = [begin(upstream, b"a"), begin(upstream, b"b")]
    await until(lambda: (one.asked, other.asked) == ([b"a"], [b"b"]))
    await asyncio.sleep(0.2)
    one.answer()
    other.answer()
    await asyncio.gather(*first)
    calls = [begin(upstream, body) for body in (b"c", b"d", b"e", b"f")]
    await asyncio.sleep(0.2)  # four times as long as what is slow, and as long as the ones before
    one.answer(2)
    other.answer(2)
    await asyncio.gather(*calls)
    assert sorted(one.asked + other.asked) == [b"a", b"b", b"c", b"d", b"e", b"f"]
