"""`python -m loadtests.bench.path` measures where one request's milliseconds go, through client, edge and TorchServe.

One request at a time, the ways in turns, so that each difference is of calls that follow each other: a noisy machine is
noisy for both. A stage's time is the median of those differences.
"""

import argparse
import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from handlers.backends import load_backend
from handlers.errors import VisorError
from handlers.predictor import Item, predict
from loadtests.bench.client import connected
from loadtests.bench.forms import BINARY, GRPC, JSON, V2_FORMS, Request, v2_binary
from loadtests.bench.model import Model, add_model_flags, chosen
from loadtests.bench.pictures import photos
from loadtests.bench.processes import stop, tree
from loadtests.errors import LoadTestError, ServerFailed
from loadtests.local_server import serving
from transformer.upstream.workers import Workers
from visor.serving.launch import KEYS, SOCKETS
from visor.serving.ports import free_ports

WARM_UP, START_TIMEOUT_S = 200, 30.0
BARE, HANDLER, WORKER, TORCHSERVE = "bare", "the handler's stages", "a worker asked directly", "TorchServe alone"
STARLETTE, EXPLAINED = "Starlette alone", "V2 binary, explained"
STAGES: Sequence[tuple[str, str, tuple[str, ...]]] = (
    ("the network's process: worker instead of a loop", HANDLER, (BARE,)),
    ("the worker's socket", WORKER, (HANDLER,)),
    ("TorchServe's Java instead of the worker's socket", TORCHSERVE, (WORKER,)),
    ("the edge, V2 binary", BINARY, (WORKER,)),
    ("the edge without what Starlette alone costs", BINARY, (WORKER, STARLETTE)),
    ("JSON and base64 instead of binary", JSON, (BINARY,)),
    ("gRPC instead of REST", GRPC, (BINARY,)),
    ("explain: true", EXPLAINED, (BINARY,)),
    ("all of V2 binary over the bare loop", BINARY, (BARE,)),
)
"""Of each stage: its name, the way that has it, and the ways that are subtracted from it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print two tables in Markdown."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench.path",
        description="Measure where the milliseconds of one request go, through client, visor's server and TorchServe. "
        "Starts `visor serve`, asks it and each part behind it one request at a time, and prints two tables.",
        epilog="Exit codes: 0 the tables were made; 2 they could not be, for the reason printed, or a mistyped command line.",
    )
    add_model_flags(parser)
    parser.add_argument(
        "--count",
        type=int,
        default=1000,
        metavar="NUMBER",
        help="number of requests to each part that are measured; as many again, and 400 at first, only warm it "
        "(default: %(default)s)",
    )
    args = parser.parse_args(argv)
    try:
        with chosen(args) as model, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            times = runner.run(measure(model, args.count))
    except (LoadTestError, VisorError) as err:
        sys.stderr.write(f"loadtests.bench.path: {err}\n")
        return 2
    sys.stdout.write(to_markdown(times))
    return 0


async def measure(model: Model, count: int) -> dict[str, list[float]]:
    """Milliseconds of each call, by way. Raises ServerFailed."""
    backend = load_backend(model.unpacked, model.spec)
    pictures = photos()
    times: dict[str, list[float]] = {}

    async def timed(way: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await call()  # so that every way finds its processes and their caches warm, as under a steady load
        start = time.perf_counter()
        answer = await call()
        times.setdefault(way, []).append((time.perf_counter() - start) * 1e3)
        return answer

    with serving(model.archive, model.public_key) as server, starlette() as nothing, ExitStack() as stack:
        config = torchserve_config(server.pid)
        worker = stack.enter_context(closing(Workers(config.parent / SOCKETS, nowhere)))
        await worker.connect_new()
        key = json.loads((config.parent / KEYS).read_text())["inference"]["key"]
        octets = {"Content-Type": "application/octet-stream", "Authorization": f"Bearer {key}"}
        async with (
            connected(torchserve_address(config), is_grpc=False) as alone,
            connected(nothing, is_grpc=False) as floor,
            connected(server.rest, is_grpc=False) as rest,
            connected(server.grpc, is_grpc=True) as grpc,
        ):
            for number in range(WARM_UP + count):
                if number == WARM_UP:
                    times.clear()
                picture = pictures[number % len(pictures)]

                async def bare(picture: bytes = picture) -> object:
                    return predict([Item(picture)], model.spec, backend)

                await timed(BARE, bare)
                request = Request(f"/predictions/{model.spec.name}", octets, picture)
                await timed(TORCHSERVE, lambda request=request: alone.ask(request))  # type: ignore[misc]
                reply = await timed(WORKER, lambda picture=picture: directly(worker, picture))  # type: ignore[misc]
                times.setdefault(HANDLER, []).append(sum(json.loads(reply)["seconds"].values()) * 1e3)
                await timed(STARLETTE, lambda picture=picture: floor.ask(Request("/", octets, picture)))  # type: ignore[misc]
                explained = v2_binary([picture], model.spec.name, explain=True)
                await timed(EXPLAINED, lambda explained=explained: rest.ask(explained))  # type: ignore[misc]
                for form in (BINARY, JSON, GRPC):
                    client, question = (grpc if form == GRPC else rest), V2_FORMS[form].make([picture], model.spec.name)
                    await timed(form, lambda client=client, question=question: client.ask(question))  # type: ignore[misc]
    return times


async def directly(worker: Workers, picture: bytes) -> bytes:
    """A worker's answer. Raises ServerFailed."""
    return (await worker.begin({}, picture)).body


def nowhere(*_: object) -> asyncio.Future[Any]:
    """Where to ask if not a worker. Raises ServerFailed."""
    raise ServerFailed("no worker can be asked directly")


@contextmanager
def starlette() -> Iterator[str]:
    """The address of `loadtests.bench.nothing` in a process of its own, which is the least that an edge can cost."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "loadtests.bench.nothing:app", "--port", str(port), "--log-level", "error"]
    process = subprocess.Popen([*command, "--no-access-log"], start_new_session=True)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed("a bare Starlette does not start")
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        stop(process)


def torchserve_config(pid: int) -> Path:
    """The configuration of the TorchServe below `visor serve`. Raises ServerFailed."""
    for process in tree(pid):
        for argument in process.cmdline():
            if argument.endswith("config.properties"):
                return Path(argument)
    raise ServerFailed(f"process {pid} has started no TorchServe")


def torchserve_address(config: Path) -> str:
    """Where TorchServe's inference API listens. Raises ServerFailed."""
    if found := re.search(r"inference_address=http://(\S+)", config.read_text()):
        return found[1]
    raise ServerFailed(f"{config} names no inference_address")


def to_markdown(times: dict[str, list[float]]) -> str:
    """Each way's own percentiles, and each stage as the difference of two ways."""
    lines = ["| way | min ms | p50 ms | p95 ms |", "| --- | --- | --- | --- |"]
    for way, values in times.items():
        low, middle, high = np.percentile(values, [0, 50, 95])
        lines.append(f"| {way} | {low:.2f} | {middle:.2f} | {high:.2f} |")
    lines += ["", "| stage | p50 of the differences, ms | difference of the minima, ms |", "| --- | --- | --- |"]
    for name, way, bases in STAGES:
        middle = float(np.median(times[way] - np.sum([times[base] for base in bases], axis=0)))
        lines.append(f"| {name} | {middle:.2f} | {min(times[way]) - sum(min(times[base]) for base in bases):.2f} |")
    ratio = np.median(times[EXPLAINED]) / np.median(times[BINARY])
    lines += ["", f"`explain: true` costs {ratio - 1:+.1%} at p50."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
