"""The loops, on a server of this test's own that answers, refuses or leaves as its path says."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadtests.bench.client import MOST_PENDING, Refused, arrivals, closed_loop, connected, open_loop
from loadtests.bench.forms import Request

ANSWERS = {
    b"/ok": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"/full": b"HTTP/1.1 503 Full\r\nContent-Length: 4\r\n\r\nfull",
}


class Server:
    """Counts requests, and how many it had at the same time."""

    def __init__(self) -> None:
        self.requests = 0
        self.most_at_once = 0
        self.connections: list[asyncio.Task[object]] = []
        self._now = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            self.connections.append(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                self._now += 1
                self.most_at_once = max(self.most_at_once, self._now)
                await asyncio.sleep(0.005)
                self._now -= 1
                writer.write(ANSWERS[head.split()[1]])
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass  # the client has left
        finally:
            writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[Server, str]]:
    server = Server()
    async with await asyncio.start_server(server.answer, "127.0.0.1", 0) as listener:
        yield server, f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    await asyncio.gather(*server.connections)


def request(path: str) -> Request:
    return Request(path, {}, b"")


async def test_a_closed_loop_keeps_its_requests_under_way_and_no_more() -> None:
    async with listening() as (server, address), connected(address, is_grpc=False) as client:
        load = await closed_loop(client, [request("/ok")], 3, 0.2)
    assert server.most_at_once == 3
    assert len(load.latencies_s) == server.requests
    assert load.failures == 0
    assert min(load.latencies_s) >= 0.005
    assert load.elapsed_s >= 0.2


async def test_refusals_are_failures_and_no_latencies() -> None:
    async with listening() as (server, address), connected(address, is_grpc=False) as client:
        with pytest.raises(Refused, match="503: full"):
            await client.ask(request("/full"))
        load = await closed_loop(client, [request("/ok"), request("/full")], 1, 0.2)
    assert abs(len(load.latencies_s) - load.failures) <= 1
    assert len(load.latencies_s) + load.failures + 1 == server.requests


async def test_nobody_listening_is_a_failure() -> None:
    async with listening() as (_, address):
        pass
    async with connected(address, is_grpc=False) as client:
        load = await closed_loop(client, [request("/ok")], 1, 0.05)
    assert load.latencies_s == []
    assert load.failures > 0


async def test_an_open_loop_sends_what_is_due_whatever_the_server_does() -> None:
    due = arrivals(100.0, 0.5, seed=3)
    async with listening() as (server, address), connected(address, is_grpc=False) as client:
        load = await open_loop(client, [request("/ok")], 100.0, 0.5, seed=3)
    assert server.requests == len(load.latencies_s) == len(due)
    assert load.failures == 0


class Stuck:
    """A server that answers one request at a time, each after 20 ms."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def ask(self, _: Request) -> bytes:
        async with self._turn:
            await asyncio.sleep(0.02)
        return b""


async def test_waiting_before_a_slow_server_counts_as_latency() -> None:
    load = await open_loop(Stuck(), [request("/ok")], 200.0, 0.5)
    # Four times as many arrive as are answered: the n-th of N is answered at n x 20 ms or later, and was due before 0.5 s.
    assert max(load.latencies_s) >= len(load.latencies_s) * 0.02 - 0.5


async def test_what_piles_up_is_bounded() -> None:
    load = await open_loop(Stuck(), [request("/ok")], 4000.0, 0.1)
    assert load.failures >= len(arrivals(4000.0, 0.1, 0)) - MOST_PENDING - 6  # 5 are answered in 0.1 s
    assert len(load.latencies_s) + load.failures == len(arrivals(4000.0, 0.1, 0))


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    times = arrivals(50.0, 200.0, seed=1)
    assert times == sorted(times)
    assert times[-1] < 200.0
    assert len(times) == pytest.approx(10_000, abs=400)  # four standard deviations
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.1)  # exponential: variance = mean²
    assert arrivals(50.0, 200.0, seed=1) == times != arrivals(50.0, 200.0, seed=2)
