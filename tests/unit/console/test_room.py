"""Room in memory is lent in the order of arrival, and comes back whatever happens."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Gauge

from console.errors import LineFull
from console.room import Room


def made(size: int, most_s: float = 5.0) -> tuple[Room, Gauge]:
    gauge = Gauge("lent", "Bytes.", registry=CollectorRegistry())
    return Room(size, most_s, gauge), gauge


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
        with pytest.raises(LineFull):
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
