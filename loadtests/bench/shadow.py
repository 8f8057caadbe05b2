"""Measure what a shadow costs the release that has one: `python -m loadtests.bench.shadow --network efficientnet_lite0`.

A stable server of one worker has a CPU of its own; its canary and the clients have another one, on which the canary gives way:
what the clients wait for is the stable server, as where the canary has a node of its own. Requests arrive at a share of what the
stable server can answer, and its shadow is off and on in turns, a pair of them a round: the ratios of a round's two
turns, of the same server and the same arrivals, are what counts. A machine of one CPU cannot measure it.
"""

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import uvloop

from handlers.errors import VisorError
from loadtests.bench.client import Client, HttpClient, closed_loop, connected, open_loop
from loadtests.bench.figures import percentiles_ms, throughput
from loadtests.bench.forms import BINARY, GRPC, V2_FORMS, Request
from loadtests.bench.machine import describe
from loadtests.bench.model import Model, add_model_flags, chosen
from loadtests.bench.pictures import photos
from loadtests.bench.processes import cpu_seconds, tree
from loadtests.errors import FlagsWrong, LoadTestError, ServerFailed
from loadtests.local_server import LocalServer, serving

CONCURRENCY, CAPACITY_S = 4, 3.0
SETTLE_S = 1.2
"""Between a change of the shadow's file and a turn: the edge looks at it every second."""
GIVES_WAY = 10
"""Steps of niceness between the clients and the canary: beside a client that wants the CPU, the canary has a tenth of it."""
ONE_WORKER = ("--workers", "1", "--request-log", "none")


@dataclass(frozen=True)
class Turn:
    """What the stable server did in a turn: milliseconds of the median request, and CPU milliseconds for each."""

    p50_ms: float
    cpu_ms: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table in Markdown."""
    try:
        args = parse_args(argv)
        with chosen(args) as model, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(runner.run(measure(model, args)))
    except (LoadTestError, VisorError) as err:
        print(f"shadow: {err}", file=sys.stderr)
        return 2
    return 0


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line. Raises FlagsWrong where there is one CPU alone."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench.shadow",
        description="Measure what a shadow costs the release that has one, by rounds with it and without, and print a table.",
        epilog="Exit codes: 0 the table was made; 2 it could not be, for the reason printed, or a mistyped command line.",
    )
    add_model_flags(parser)
    parser.add_argument(
        "--percent", type=float, default=20.0, metavar="PERCENT", help="share of images the canary is asked about (default: 20)"
    )
    parser.add_argument(
        "--load",
        type=float,
        default=0.7,
        metavar="SHARE",
        help="share of its capacity that arrives (default: 0.7)",
    )
    parser.add_argument("--rounds", type=int, default=20, metavar="NUMBER", help="rounds of two turns (default: 20)")
    parser.add_argument("--turn-s", type=float, default=5.0, metavar="S", help="seconds of a turn (default: 5)")
    parser.add_argument("--grpc", action="store_true", help="ask over gRPC (default: REST, binary)")
    args = parser.parse_args(argv)
    if len(os.sched_getaffinity(0)) < 2:
        raise FlagsWrong("this process may use one CPU alone; the stable server needs one, and its canary and clients another")
    return args


async def measure(model: Model, args: argparse.Namespace) -> str:
    """All rounds; the table. Raises ServerFailed."""
    cpus = os.sched_getaffinity(0)
    machine = ", ".join(f"{key} {value}" for key, value in describe(("openvino", "uvicorn")).items())
    try:
        return f"{await _measure(model, args, *sorted(cpus)[:2])}\n{machine}"
    finally:
        os.sched_setaffinity(0, cpus)


async def _measure(model: Model, args: argparse.Namespace, own: int, others: int) -> str:
    """`own`: the stable server's CPU; `others`: everybody else's."""
    form = V2_FORMS[GRPC if args.grpc else BINARY]
    requests = [form.make([photo], model.spec.name) for photo in photos()]
    pairs: list[tuple[Turn, Turn]] = []
    with tempfile.TemporaryDirectory(prefix="visor-shadow-") as folder:
        file = Path(folder) / "shadow.json"
        with (
            _on_cpu(others, model, "--track", "canary") as canary,
            _on_cpu(own, model, "--shadow-url", f"http://{canary.rest}", "--shadow-file", str(file)) as stable,
        ):
            _give_way(canary)
            os.sched_setaffinity(0, {others})  # of the load
            address, processes = stable.grpc if args.grpc else stable.rest, tree(stable.pid)
            async with connected(address, is_grpc=args.grpc) as client:
                await closed_loop(client, requests, CONCURRENCY, CAPACITY_S)
                rate = args.load * throughput(await closed_loop(client, requests, CONCURRENCY, CAPACITY_S))
                for number in range(args.rounds):
                    turns = {}
                    for percent in (0.0, args.percent) if number % 2 else (args.percent, 0.0):
                        file.write_text(json.dumps({"percent": percent}))
                        await asyncio.sleep(SETTLE_S)
                        turns[percent] = await _turn(client, requests, rate, args.turn_s, number, processes)
                    pairs.append((turns[0.0], turns[args.percent]))
            results = await _results(stable)
    settings = f"{model.spec.network} on {model.spec.backend}, {rate:.0f} requests/s over {'gRPC' if args.grpc else 'REST'}"
    return "\n".join(
        [
            f"{settings}, {args.load:.0%} of one worker's capacity, {len(pairs)} rounds of {args.turn_s:g} s a turn:\n",
            "| | shadow off | on | on / off | 95 % |",
            "| --- | --- | --- | --- | --- |",
            _line("p50, ms", [(off.p50_ms, on.p50_ms) for off, on in pairs]),
            _line("CPU a request, ms", [(off.cpu_ms, on.cpu_ms) for off, on in pairs]),
            f"\nThe shadow's images, at {args.percent:g} %: {results}.\n",
        ]
    )


@contextmanager
def _on_cpu(cpu: int, model: Model, *flags: str) -> Iterator[LocalServer]:
    """Serve on this CPU alone, on which this process is from now on, too."""
    os.sched_setaffinity(0, {cpu})  # of this thread, which starts the processes
    with serving(model.archive, model.public_key, *ONE_WORKER, *flags) as server:
        yield server


def _give_way(server: LocalServer) -> None:
    """Let a server wait for whoever else wants its CPU: all threads of its processes, and those that they begin."""
    niceness = min(19, os.getpriority(os.PRIO_PROCESS, 0) + GIVES_WAY)
    for process in tree(server.pid):
        for thread in process.threads():
            os.setpriority(os.PRIO_PROCESS, thread.id, niceness)


async def _turn(
    client: Client, requests: Sequence[Request], rate: float, seconds: float, seed: int, processes: Sequence[psutil.Process]
) -> Turn:
    """One turn of the same arrivals as the other of its round. Raises ServerFailed for a request that failed."""
    before = cpu_seconds(processes)
    load = await open_loop(client, requests, rate, seconds, seed)
    cpu_s = cpu_seconds(processes) - before
    if load.failures:
        raise ServerFailed(f"{load.failures} requests failed, with {rate:.0f} a second")
    return Turn(percentiles_ms(load)[0], 1e3 * cpu_s / len(load.latencies_s))


async def _results(server: LocalServer) -> str:
    """What became of the shadow's images."""
    with closing(HttpClient(server.rest).connections) as connections:
        text = (await connections.request("GET", "/metrics")).body.decode()
    found = re.findall(r'^visor_shadow_images_total{.*result="(\w+)".*} (\d+)', text, re.MULTILINE)
    return ", ".join(f"{count} {result}" for result, count in found if int(count))


def _line(name: str, pairs: Sequence[tuple[float, float]]) -> str:
    off, on = np.array(pairs).T
    mean, half = interval(on / off)
    return f"| {name} | {np.median(off):.2f} | {np.median(on):.2f} | {mean:.3f} | {mean - half:.3f} to {mean + half:.3f} |"


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The mean of ratios, and half of its interval of 95 % by the normal law; NaN of one alone."""
    found = np.asarray(ratios)
    error = found.std(ddof=1) / len(found) ** 0.5 if len(found) > 1 else float("nan")
    return float(found.mean()), float(1.96 * error)


if __name__ == "__main__":
    sys.exit(main())
