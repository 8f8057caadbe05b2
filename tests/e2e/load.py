"""A constant open load of V2 requests, REST and gRPC side by side, by tritonclient; every answer is looked at.

Open: a request leaves when its time has come, whether or not those before it were answered. Nothing is tried again,
so what fails here is what a client would have seen fail.
"""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
import tritonclient.grpc.aio as grpc_client
import tritonclient.http.aio as http_client

DECISIONS = {"pass", "flag", "review"}
TIMEOUT_S = 30.0
EXPLAIN = {"explain": True}


@dataclass(frozen=True)
class Target:
    """A route at a gateway. `address`: HOST:PORT of the gateway; `host`: the route's host name."""

    address: str
    host: str
    model: str


@dataclass(frozen=True)
class Outcome:
    """One request's end. `error` is empty when the answer was whole; then `version` and `track` say who gave it.

    `ended`: on the monotonic clock, in seconds.
    """

    protocol: str
    seconds: float
    version: str = ""
    track: str = ""
    label: str = ""
    error: str = ""
    ended: float = field(default_factory=time.monotonic)


class Caller:
    """Both clients of one target; used inside one event loop."""

    def __init__(self, target: Target, pictures: Sequence[bytes], headers: dict[str, str] | None = None) -> None:
        self._target = target
        self._pictures = pictures
        self._chance = random.Random(0)
        self._headers = headers or {}
        self._http = http_client.InferenceServerClient(target.address, conn_limit=64, conn_timeout=TIMEOUT_S)
        self._grpc = grpc_client.InferenceServerClient(
            target.address, channel_args=[("grpc.default_authority", target.host), ("grpc.enable_retries", 0)]
        )

    async def call(self, protocol: str) -> Outcome:
        """One request; its outcome, whatever happens."""
        start = time.monotonic()
        try:
            version, track, label = await (self._rest() if protocol == "rest" else self._rpc())
        except Exception as err:
            # Any end but a whole answer counts the same here: the client did not get what it asked for.
            return Outcome(protocol, time.monotonic() - start, error=f"{type(err).__name__}: {err}")
        return Outcome(protocol, time.monotonic() - start, version, track, label)

    async def _rest(self) -> tuple[str, str, str]:
        # tritonclient cannot read an error that the gateway has compressed.
        headers = {"Host": self._target.host, "Accept-Encoding": "identity", **self._headers}
        result = await self._http.infer(self._target.model, self._inputs(http_client), headers=headers, parameters=EXPLAIN)
        answer = result.get_response()
        return answer["model_version"], answer["parameters"].get("track", ""), self._check(result)

    async def _rpc(self) -> tuple[str, str, str]:
        result = await self._grpc.infer(
            self._target.model, self._inputs(grpc_client), headers=self._headers, client_timeout=TIMEOUT_S,
            parameters=EXPLAIN,
        )  # fmt: skip
        answer = result.get_response()
        return answer.model_version, answer.parameters["track"].string_param, self._check(result)

    def _inputs(self, client: Any) -> list[Any]:
        image = client.InferInput("image", [1], "BYTES")
        image.set_data_from_numpy(np.array([self._chance.choice(self._pictures)], dtype=object))
        return [image]

    def _check(self, result: Any) -> str:
        decision = result.as_numpy("decision")[0].decode()
        heatmap = result.as_numpy("heatmap")
        assert decision in DECISIONS, decision
        assert heatmap.dtype == np.float32
        assert heatmap.ndim == 3
        assert heatmap.min() >= 0
        assert heatmap.max() <= 1
        return str(result.as_numpy("label")[0].decode())

    async def close(self) -> None:
        """Close both clients' connections."""
        await self._http.close()
        await self._grpc.close()


@dataclass
class Load:
    """`with Load(...) as load:` sends `rate` requests a second of each protocol until `stop` or the block's end.

    `pictures`: one, or several of which each request has one by chance. `limit` bounds the requests in all: the load ends by
    itself.
    """

    target: Target
    pictures: bytes | Sequence[bytes]
    rate: float = 10.0  # two cores carry it while pods start on them; more is the autoscaler's test
    protocols: tuple[str, ...] = ("rest", "grpc")
    limit: int = 20_000
    outcomes: list[Outcome] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for(self, count: int, timeout_s: float = 600) -> None:
        """Return once `count` requests have ended, since the load began."""
        deadline = time.monotonic() + timeout_s
        while len(self.outcomes) < count:
            assert self._thread.is_alive(), f"the load ended after {len(self.outcomes)} requests"
            assert time.monotonic() < deadline, f"{len(self.outcomes)} of {count} requests after {timeout_s} s"
            time.sleep(0.5)

    @property
    def failures(self) -> list[Outcome]:
        """The requests that were not answered in full."""
        return [outcome for outcome in self.outcomes if outcome.error]

    def versions(self, since: int = 0) -> Counter[str]:
        """How many answers each model version gave, from the outcome number `since` on."""
        return Counter(outcome.version for outcome in self.outcomes[since:])

    async def _run(self) -> None:
        pictures = [self.pictures] if isinstance(self.pictures, bytes) else self.pictures
        caller = Caller(self.target, pictures)
        pending: set[asyncio.Task[None]] = set()
        start, sent = time.monotonic(), 0
        while not self._stop.is_set() and sent * len(self.protocols) < self.limit:
            for protocol in self.protocols:
                task = asyncio.create_task(self._one(caller, protocol))
                pending.add(task)
                task.add_done_callback(pending.discard)
            sent += 1
            await asyncio.sleep(max(0.0, start + sent / self.rate - time.monotonic()))
        await asyncio.gather(*pending)
        await caller.close()

    async def _one(self, caller: Caller, protocol: str) -> None:
        self.outcomes.append(await caller.call(protocol))


def call_many(
    target: Target,
    picture: bytes,
    count: int,
    headers: dict[str, str] | None = None,
    protocols: tuple[str, ...] = ("rest", "grpc"),
) -> list[Outcome]:
    """`count` requests one after the other, the protocols in turn."""

    async def calls() -> list[Outcome]:
        caller = Caller(target, [picture], headers)
        try:
            return [await caller.call(protocols[number % len(protocols)]) for number in range(count)]
        finally:
            await caller.close()

    return asyncio.run(calls())
