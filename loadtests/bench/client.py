"""One client for all servers, small beside any of them: raw HTTP/1.1 over kept-alive connections, or gRPC, in one event loop.

A closed loop has N requests under way and sends the next when one is answered. An open loop sends at times drawn in
advance, whatever the server does, and counts from when a request was due, so that a queue before a slow server counts.
"""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import grpc

from loadtests.bench.figures import Load
from loadtests.bench.forms import Request
from transformer.upstream.loopback import Connections

REQUEST_TIMEOUT_S = 60.0
# An open loop that the server does not hold piles up: no more than this many wait, the rest counts as failed.
MOST_PENDING = 256
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class Refused(Exception):
    """The server answered, but not with success."""


class Client(Protocol):
    """A connection to one server."""

    async def ask(self, request: Request) -> bytes:
        """The answer's body. Raises Refused, OSError, TimeoutError, grpc.RpcError."""
        ...


FAILURES = (Refused, OSError, TimeoutError, grpc.RpcError)


class HttpClient:
    """HTTP/1.1; connections are opened when needed and kept."""

    def __init__(self, address: str) -> None:
        self.connections = Connections(f"http://{address}")

    async def ask(self, request: Request) -> bytes:
        """See Client."""
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            reply = await self.connections.request("POST", request.path, request.headers, request.body)
        if reply.status != 200:
            raise Refused(f"{reply.status}: {reply.body[:300].decode(errors='replace')}")
        return reply.body


class GrpcClient:
    """gRPC; messages go as the bytes that they were made into once."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def ask(self, request: Request) -> bytes:
        """See Client."""
        answer: Any = await self._channel.unary_unary(request.path)(request.body, timeout=REQUEST_TIMEOUT_S)
        return bytes(answer)


@asynccontextmanager
async def connected(address: str, *, is_grpc: bool) -> AsyncIterator[Client]:
    """A client of HOST:PORT until the block's end."""
    if is_grpc:
        async with grpc.aio.insecure_channel(address, options=UNLIMITED) as channel:
            yield GrpcClient(channel)
    else:
        client = HttpClient(address)
        try:
            yield client
        finally:
            client.connections.close()


async def closed_loop(client: Client, requests: Sequence[Request], concurrency: int, seconds: float) -> Load:
    """`concurrency` requests at a time for `seconds`; those under way then are waited for, and counted."""
    turns = itertools.cycle(requests)
    latencies: list[float] = []
    failures = 0
    start = time.perf_counter()

    async def user() -> None:
        nonlocal failures
        while (sent := time.perf_counter()) - start < seconds:
            try:
                await client.ask(next(turns))
            except FAILURES:
                failures += 1
                await asyncio.sleep(0.01)  # one that is refused at once would send nothing but refusals
            else:
                latencies.append(time.perf_counter() - sent)

    await asyncio.gather(*(user() for _ in range(concurrency)))
    return Load(latencies, time.perf_counter() - start, failures)


async def open_loop(client: Client, requests: Sequence[Request], rate: float, seconds: float, seed: int = 0) -> Load:
    """Poisson arrivals of `rate` a second for `seconds`, then until all are answered."""
    turns = itertools.cycle(requests)
    latencies: list[float] = []
    pending: set[asyncio.Task[None]] = set()
    failures = 0
    start = time.perf_counter()

    async def one(due: float) -> None:
        nonlocal failures
        try:
            await client.ask(next(turns))
        except FAILURES:
            failures += 1
        else:
            latencies.append(time.perf_counter() - start - due)

    for due in arrivals(rate, seconds, seed):
        if (early := due - (time.perf_counter() - start)) > 0:
            await asyncio.sleep(early)
        if len(pending) >= MOST_PENDING:
            failures += 1
            continue
        task = asyncio.create_task(one(due))
        pending.add(task)
        task.add_done_callback(pending.discard)
    await asyncio.gather(*pending)
    return Load(latencies, time.perf_counter() - start, failures)


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Seconds since the start at which requests are due: a Poisson process, whose gaps are exponential of mean 1 / rate."""
    gaps = random.Random(seed)
    times = itertools.accumulate(gaps.expovariate(rate) for _ in itertools.count())
    return list(itertools.takewhile(lambda due: due < seconds, times))
