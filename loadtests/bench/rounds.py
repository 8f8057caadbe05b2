"""One server's turn: start it, wait for its first right answer, load it in each way, and stop it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from loadtests.bench import bare, growth
from loadtests.bench.client import FAILURES, Client, Refused, closed_loop, connected, open_loop
from loadtests.bench.figures import Load, Round, percentiles_ms, throughput
from loadtests.bench.forms import Form
from loadtests.bench.model import Model
from loadtests.bench.pictures import photos
from loadtests.bench.processes import cpu_seconds, memory_bytes, tree
from loadtests.bench.servers import SERVERS, Running
from loadtests.errors import ServerFailed

BARE = "bare"
START_TIMEOUT_S, POLL_S = 120.0, 0.05
REASON_CHARACTERS = 150


@dataclass(frozen=True)
class Plan:
    """How wide and how long (seconds) each loop is. `share`: of the bare throughput, the open loop's rate."""

    workers: int
    concurrency: int
    latency_s: float
    saturated_s: float
    open_s: float
    warm_up_s: float
    share: float = 0.5


@dataclass
class Outcome:
    """What turns gave: the figures of each row ("SERVER, FORM"), why a row has none, and curves of growth."""

    rows: dict[str, Round] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    curves: list[growth.Curve] = field(default_factory=list)


@dataclass
class Bench:
    """Turns over one model. The baseline's comes first: it gives the open loops' rate, and the label that is right."""

    model: Model
    plan: Plan
    say: Callable[[str], None]
    rate: float = 0.0
    label: str = ""

    def run_bare(self, *, grow: bool) -> Outcome:
        """The baseline's turn. Raises ServerFailed."""
        self.say(f"{BARE}: starting")
        start = time.perf_counter()
        with bare.running(self.model.unpacked, self.plan.workers) as loop:
            self.label = loop.label()
            started = time.perf_counter() - start
            family = [process for one in loop.processes for process in tree(one.pid)]
            latency = loop.run(1, self.plan.latency_s)
            before = cpu_seconds(family)
            saturated = loop.run(self.plan.workers, self.plan.saturated_s)
            cpu_s = cpu_seconds(family) - before
            self.rate = self.plan.share * throughput(saturated)
            figures = _figures(started, latency, saturated, cpu_s, memory_bytes(family))
            return Outcome({BARE: figures}, curves=growth.of_bare(loop, BARE) if grow else [])

    async def run_server(self, name: str, *, grow: bool) -> Outcome:
        """A server's turn. Whatever fails is in the outcome: nothing that a server does ends the run."""
        server, outcome = SERVERS[name], Outcome()
        self.say(f"{name}: starting")
        start = time.perf_counter()
        try:
            with server.start(self.model, min(self.plan.workers, server.most_workers or self.plan.workers)) as running:
                expected = None if server.own_preprocessing else self.label
                await self._first_answer(running, next(iter(server.forms.values())), expected)
                started = time.perf_counter() - start
                for label, form in server.forms.items():
                    row = f"{name}, {label}"
                    self.say(f"{row}: under load")
                    try:
                        async with connected(address_of(running, form), is_grpc=form.is_grpc) as client:
                            await self._ask(client, form, expected)
                            outcome.rows[row] = await self._load(client, form, running, started)
                            if grow:
                                outcome.curves += await growth.of_server(client, form, self.model.spec.name, row)
                    except (*FAILURES, ServerFailed) as err:
                        outcome.failed[row] = reason(err)
        except ServerFailed as err:
            outcome.failed |= {f"{name}, {label}": reason(err) for label in server.forms}
        for row, why in outcome.failed.items():
            self.say(f"{row}: failed: {why}")
        return outcome

    async def _first_answer(self, running: Running, form: Form, expected: str | None) -> None:
        """Ask until there is a right answer. Raises ServerFailed: it ended, or does not answer in START_TIMEOUT_S."""
        deadline, last = time.monotonic() + START_TIMEOUT_S, "nobody listens"
        while time.monotonic() < deadline:
            try:
                async with connected(address_of(running, form), is_grpc=form.is_grpc) as client:
                    return await self._ask(client, form, expected)
            except FAILURES as err:
                last = reason(err)
            if running.ended():
                raise ServerFailed(f"it ended: {running.tail()}")
            await asyncio.sleep(POLL_S)
        raise ServerFailed(f"no right answer within {START_TIMEOUT_S:g} s ({last}): {running.tail()}")

    async def _ask(self, client: Client, form: Form, expected: str | None) -> None:
        """One question, whose answer must name the label. Raises Refused where it does not, and what `ask` raises."""
        answer = await client.ask(form.make(photos(1), self.model.spec.name))
        if expected is not None and expected.encode() not in answer:
            raise Refused(f"the answer does not say {expected}: {answer[:200]!r}")

    async def _load(self, client: Client, form: Form, running: Running, started: float) -> Round:
        plan = self.plan
        requests = [form.make([photo], self.model.spec.name) for photo in photos()]
        await closed_loop(client, requests, plan.concurrency, plan.warm_up_s)
        latency = await closed_loop(client, requests, 1, plan.latency_s)
        family = tree(running.pid)
        before = cpu_seconds(family)
        saturated = await closed_loop(client, requests, plan.concurrency, plan.saturated_s)
        cpu_s, memory = cpu_seconds(family) - before, memory_bytes(family)
        arrived = await open_loop(client, requests, self.rate, plan.open_s)
        return _figures(started, latency, saturated, cpu_s, memory, arrived)


def address_of(running: Running, form: Form) -> str:
    """HOST:PORT that this form is asked at."""
    return running.grpc if form.is_grpc else running.http


def reason(err: BaseException) -> str:
    """An error in one line: its beginning, and of a long one the end, where a log says what went wrong."""
    text = " ".join(f"{type(err).__name__}: {err}".split())
    return text if len(text) <= 2 * REASON_CHARACTERS else f"{text[:REASON_CHARACTERS]} ... {text[-REASON_CHARACTERS:]}"


def _figures(started: float, latency: Load, saturated: Load, cpu_s: float, memory: int, arrived: Load | None = None) -> Round:
    """Raises ServerFailed where a loop got no answer at all."""
    loads = [latency, saturated, *([arrived] if arrived else [])]
    if not all(load.latencies_s for load in loads):
        raise ServerFailed(f"{sum(load.failures for load in loads)} requests failed, and a loop got no answer")
    p50, p95, p99 = percentiles_ms(latency)
    open_ms = percentiles_ms(arrived) if arrived else (None, None, None)
    return Round(
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        open_p50_ms=open_ms[0],
        open_p95_ms=open_ms[1],
        open_p99_ms=open_ms[2],
        throughput_per_s=throughput(saturated),
        cpu_s_per_request=cpu_s / len(saturated.latencies_s),
        memory_mb=memory / 1e6,
        start_s=started,
        failures=latency.failures + saturated.failures,
        open_failures=arrived.failures if arrived else 0,
    )
