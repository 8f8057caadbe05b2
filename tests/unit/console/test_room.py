"""Room in memory is lent in the order of arrival, and comes back whatever happens."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Gauge

from console.errors import LineFull
from console.room import Room


def made(size: int, most_s: float = 5.0) -> tuple[Room, Gauge]:
    gauge = Gauge("lent", "Bytes.", registry=CollectorRegistry())
    return Room(size, most_s, "there is none", gauge.inc), gauge


async def test_never_more_than_the_size_is_lent_and_all_comes_back() -> None:
    room, gauge = made(10)
    lent = most = 0

    async def use(size: int) -> None:
        nonlocal lent, most
        async with room.take(size):
            lent += size
            most = max(most, lent)
            await asyncio.sleep(0)
            lent -= size

    await asyncio.gather(*(use(size) for size in (7, 4, 3, 10, 1, 1, 9) * 20))
    assert most <= 10
    assert gauge._value.get() == 0


async def test_a_large_one_is_not_passed_by_small_ones() -> None:
    room, _ = made(10)
    order = []

    async def use(name: str, size: int) -> None:
        async with room.take(size):
            order.append(name)
            await asyncio.sleep(0.01)

    await asyncio.gather(use("first", 6), use("large", 10), use("small", 1))
    assert order == ["first", "large", "small"]


async def test_what_is_larger_than_the_room_takes_all_of_it() -> None:
    room, _ = made(10)
    async with room.take(100):
        pass
    async with room.take(10):
        pass


async def test_who_waits_too_long_is_told_and_holds_nothing() -> None:
    room, _ = made(10, 0.05)
    async with room.take(10):
        with pytest.raises(LineFull, match="there is none"):
            async with room.take(1):
                pass
    async with room.take(10):
        pass


async def test_who_leaves_while_waiting_holds_nothing() -> None:
    room, _ = made(10)

    async def use() -> None:
        async with room.take(10):
            pass

    async with room.take(10):
        waiting = asyncio.create_task(use())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with room.take(10):
        pass


async def test_a_holder_has_half_at_most_and_the_others_pass_it_by() -> None:
    room, _ = made(10)
    order = []

    async def use(holder: str, size: int, seconds: float) -> None:
        async with room.take(size, holder):
            order.append((holder, size))
            await asyncio.sleep(seconds)

    await asyncio.gather(use("slow", 3, 0.05), use("slow", 2, 0.05), use("slow", 1, 0), use("other", 5, 0.01), use("third", 5, 0))
    assert order == [("slow", 3), ("slow", 2), ("other", 5), ("third", 5), ("slow", 1)]


async def test_a_holder_of_nothing_may_have_all_and_nobody_has_no_share() -> None:
    room, _ = made(10)
    async with room.take(10, "alone"):
        pass
    async with room.take(4), room.take(4), room.take(2):
        pass


async def test_whoever_waits_for_its_share_to_no_purpose_is_told_while_there_is_room() -> None:
    room, gauge = made(10, 0.05)
    async with room.take(5, "slow"):
        with pytest.raises(LineFull):
            async with room.take(1, "slow"):
                pass
        async with room.take(5, "other"):
            pass
    assert gauge._value.get() == 0
    async with room.take(10, "slow"):  # nothing is counted against it any more
        pass
