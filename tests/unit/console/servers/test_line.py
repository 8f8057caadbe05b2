"""The line: places, waiting, and obeying a server that asks to be asked later."""

import asyncio
import time

import pytest

from console.errors import LineFull, ServerRefused
from console.metrics import Metrics
from console.servers.line import Line


def full(retry_after_s: int | None = 0) -> ServerRefused:
    return ServerRefused("server.overloaded", 503, "more images wait already than may", retry_after_s)


async def test_so_many_are_asked_at_once_and_all_are_answered() -> None:
    line = Line(3, 100, 10, Metrics())
    asked = most = 0

    async def call() -> int:
        nonlocal asked, most
        asked += 1
        most = max(most, asked)
        await asyncio.sleep(0.001)
        asked -= 1
        return 7

    assert await asyncio.gather(*(line.ask(call) for _ in range(50))) == [7] * 50
    assert most == 3


async def test_a_full_server_is_asked_again_once_its_time_has_passed() -> None:
    metrics = Metrics()
    line = Line(8, 100, 20, metrics)
    refused_at, asked_at, left = [], [], 3

    async def call() -> str:
        nonlocal left
        asked_at.append(time.monotonic())
        if left:
            left -= 1
            refused_at.append(time.monotonic())
            raise full(1)
        return "answered"

    assert await line.ask(call) == "answered"
    assert [later - refused >= 1 for refused, later in zip(refused_at, asked_at[1:], strict=True)] == [True] * 3
    assert metrics.registry.get_sample_value("visor_console_retries_total") == 3


async def test_who_was_refused_keeps_its_place_and_the_others_go_on() -> None:
    line = Line(2, 100, 20, Metrics())
    order = []

    async def refused() -> None:
        if "refused" not in order:
            order.append("refused")
            raise full(1)
        order.append("answered")

    async def other() -> None:
        order.append("other")
        await asyncio.sleep(0.01)

    await asyncio.gather(line.ask(refused), *(line.ask(other) for _ in range(5)))
    assert order == ["refused", *["other"] * 5, "answered"]


async def test_the_servers_refusal_is_handed_on_once_the_time_is_up() -> None:
    line = Line(1, 10, 0.2, Metrics())

    async def call() -> None:
        raise full(1)

    with pytest.raises(ServerRefused) as caught:
        await line.ask(call)
    assert (caught.value.told_code, caught.value.told_status, caught.value.retry_after_s) == ("server.overloaded", 503, 1)


async def test_a_refusal_without_a_time_is_handed_on_at_once() -> None:
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1
        raise full(None)

    with pytest.raises(ServerRefused):
        await Line(1, 10, 10, Metrics()).ask(call)
    assert calls == 1


async def test_more_than_may_wait_are_refused_and_the_others_answered() -> None:
    line = Line(1, 3, 10, Metrics())
    go = asyncio.Event()

    async def call() -> int:
        await go.wait()
        return 1

    waiting = [asyncio.create_task(line.ask(call)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(LineFull, match="3 pictures wait"):
        await line.ask(call)
    go.set()
    assert await asyncio.gather(*waiting) == [1, 1, 1]
    assert await line.ask(call) == 1


async def test_who_waits_for_too_long_is_told_so_and_gives_its_place_up() -> None:
    line = Line(1, 10, 0.05, Metrics())
    go = asyncio.Event()

    async def call() -> int:
        await go.wait()
        return 1

    slow = asyncio.create_task(line.ask(call))
    await asyncio.sleep(0)
    with pytest.raises(LineFull, match="has waited"):
        await line.ask(call)
    go.set()
    assert await slow == 1
    assert await line.ask(call) == 1
