"""Measure what the console adds to the bare V2 call: `python -m loadtests.bench.console --network efficientnet_lite0`.

One server, asked directly and by the console in turns, a pair of them a round, at a concurrency of 1 and of 8: the same pictures
of about 100 KB over kept connections. What counts is the difference of a round's two turns. With `--soak-s` the console is asked
at a steady rate instead, and its memory is judged by the soak's rule.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop

from handlers.errors import VisorError
from loadtests import soak
from loadtests.bench.client import Client, closed_loop, connected, open_loop
from loadtests.bench.figures import percentiles_ms
from loadtests.bench.forms import BINARY, V2_FORMS, Request, raw
from loadtests.bench.machine import describe
from loadtests.bench.model import Model, add_model_flags, chosen
from loadtests.bench.pictures import photos
from loadtests.errors import LoadTestError, ServerFailed
from loadtests.local_server import serving
from loadtests.processes import EVERY_S, resident_bytes

CONCURRENCIES = (1, 8)
WIDTH, HEIGHT = 768, 512
"""Of the pictures, which have about 100 KB."""
WARM_S = 1.0
P50_MS, P95_MS = 5.0, 15.0
"""Milliseconds that the console may add: the bars of docs/console.md."""
READY_S, STOP_S = 30.0, 30.0
SOAK_RATE = 10.0


@dataclass(frozen=True)
class Turn:
    """Milliseconds of a turn's requests."""

    p50_ms: float
    p95_ms: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table in Markdown; 1 where a bar is not held."""
    try:
        args = parse_args(argv)
        with chosen(args) as model, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            table, held = runner.run(measure(model, args))
    except (LoadTestError, VisorError) as err:
        print(f"console: {err}", file=sys.stderr)
        return 2
    machine = ", ".join(f"{key} {value}" for key, value in describe(("fastapi", "uvicorn", "aiohttp")).items())
    print(f"{table}\n{machine}")
    return 0 if held else 1


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench.console",
        description="Measure what the console adds to the bare V2 call, by rounds of both, and print a table.",
        epilog="Exit codes: 0 the bars are held; 1 they are not; 2 nothing was measured, for the reason printed, or a mistyped "
        "command line.",
    )
    add_model_flags(parser)
    parser.add_argument("--rounds", type=int, default=10, metavar="NUMBER", help="rounds of two turns (default: 10)")
    parser.add_argument("--turn-s", type=float, default=3.0, metavar="S", help="seconds of a turn (default: 3)")
    parser.add_argument(
        "--soak-s", type=float, metavar="S", help="judge the console's memory over so many seconds instead (default: latencies)"
    )
    return parser.parse_args(argv)


async def measure(model: Model, args: argparse.Namespace) -> tuple[str, bool]:
    """The table, and whether the bars are held. Raises ServerFailed."""
    pictures = photos(width=WIDTH, height=HEIGHT)
    direct = [V2_FORMS[BINARY].make([picture], model.spec.name) for picture in pictures]
    through = [raw("/predict").make([picture], model.spec.name) for picture in pictures]
    with serving(model.archive, model.public_key, "--request-log", "none") as server, running(server.rest) as (console, pid):
        async with connected(console, is_grpc=False) as asked:
            if args.soak_s:
                return await _soak(asked, through, args.soak_s, pid)
            async with connected(server.rest, is_grpc=False) as bare:
                size = f"{sum(map(len, pictures)) / len(pictures) / 1000:.0f} KB"
                return await _rounds((bare, direct), (asked, through), args, f"{model.spec.network}, pictures of {size}")


Side = tuple[Client, Sequence[Request]]


async def _rounds(bare: Side, console: Side, args: argparse.Namespace, said: str) -> tuple[str, bool]:
    lines = [
        f"{said}, {args.rounds} rounds of {args.turn_s:g} s a turn; medians over rounds, ms:\n",
        "| concurrency | bare p50 | console p50 | more | bare p95 | console p95 | more |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    held = True
    for concurrency in CONCURRENCIES:
        for side in (bare, console):
            await _turn(side, concurrency, WARM_S)
        pairs = []
        for number in range(args.rounds):
            turns = {}
            for name in ("bare", "console") if number % 2 else ("console", "bare"):
                turns[name] = await _turn(bare if name == "bare" else console, concurrency, args.turn_s)
            pairs.append((turns["bare"], turns["console"]))
        p50, p95 = (_medians([(getattr(a, name), getattr(b, name)) for a, b in pairs]) for name in ("p50_ms", "p95_ms"))
        held = held and p50[2] <= P50_MS and p95[2] <= P95_MS
        lines.append(f"| {concurrency} | {' | '.join(f'{value:.2f}' for value in (*p50, *p95))} |")
    lines.append(f"\nBars: {P50_MS:g} ms more at p50, {P95_MS:g} ms at p95: {'held' if held else 'not held'}.\n")
    return "\n".join(lines), held


def _medians(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """The medians of both sides, and of their differences."""
    both = np.array(pairs)
    return float(np.median(both[:, 0])), float(np.median(both[:, 1])), float(np.median(both[:, 1] - both[:, 0]))


async def _turn(side: Side, concurrency: int, seconds: float) -> Turn:
    """One turn. Raises ServerFailed for a request that failed."""
    client, requests = side
    load = await closed_loop(client, requests, concurrency, seconds)
    if load.failures or not load.latencies_s:
        raise ServerFailed(f"{load.failures} requests failed at a concurrency of {concurrency}")
    p50, p95, _ = percentiles_ms(load)
    return Turn(p50, p95)


async def _soak(client: Client, requests: Sequence[Request], seconds: float, pid: int) -> tuple[str, bool]:
    """Ask at a steady rate, and judge the console's memory by the soak's rule."""
    async with _memory(pid) as noted:
        load = await open_loop(client, requests, SOAK_RATE, seconds)
    if load.failures:
        raise ServerFailed(f"{load.failures} of {load.failures + len(load.latencies_s)} requests failed")
    figures = soak.measure((), noted, SOAK_RATE, seconds)
    violations = soak.judge_soak(figures)
    grown = figures.growth
    if grown is None:
        raise ServerFailed("the console's memory was not seen; is it running?")
    first, last = noted[0][1] / soak.MIB, noted[-1][1] / soak.MIB
    said = (
        f"{len(load.latencies_s)} requests at {SOAK_RATE:g}/s in {seconds:g} s, 0 failed; memory {first:.0f} MiB at first, "
        f"{last:.0f} at last, {grown.mib_per_min:+.3f} MiB/min ({grown.low:.3f} to {grown.high:.3f}): "
        f"{'; '.join(map(str, violations)) or 'held'}\n"
    )
    return said, not violations


@asynccontextmanager
async def _memory(pid: int) -> AsyncIterator[list[tuple[float, int]]]:
    """Note the console's memory every EVERY_S until the block's end: (seconds, bytes)."""
    noted: list[tuple[float, int]] = []
    began = time.monotonic()

    async def note() -> None:
        while True:
            if size := resident_bytes(pid):
                noted.append((time.monotonic() - began, size))
            await asyncio.sleep(EVERY_S)

    task = asyncio.create_task(note())
    try:
        yield noted
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def running(server: str) -> Iterator[tuple[str, int]]:
    """Run a console in front of a server until the block's end: its HOST:PORT and process. Raises ServerFailed."""
    command = [sys.executable, "-m", "console", "--port", "0", "--servers", f"http://{server}"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("VISOR_CONSOLE_")}
    code = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), own.get("PYTHONPATH"))))
    with tempfile.TemporaryDirectory(prefix="visor-console-") as folder, Path(folder, "log").open("w+") as log:
        process = subprocess.Popen(command, cwd=folder, env={**own, "PYTHONPATH": code}, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield _announced(process, Path(folder, "log")), process.pid
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _announced(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"^console +http://(\S+)/$", log.read_text(), re.MULTILINE):
            return found[1]
        time.sleep(0.05)
    raise ServerFailed(f"the console did not start:\n{log.read_text()[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
