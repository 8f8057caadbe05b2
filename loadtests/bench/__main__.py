"""`python -m loadtests.bench`: the same network behind visor and behind others, side by side on this machine.

In each round every server is started, loaded and stopped in its turn, in alternating order; of each figure the best round
counts. A server that fails is a row that says why. Results: a table, JSON and plots in --out, written after each round, so
that Ctrl-C, which stops all that runs, leaves those of the rounds before it.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import uvloop

from handlers.errors import VisorError
from loadtests.bench import machine, report
from loadtests.bench.figures import Round, in_turns
from loadtests.bench.model import Model, add_model_flags, chosen
from loadtests.bench.pictures import HEIGHT, WIDTH, photo
from loadtests.bench.rounds import Bench, Outcome, Plan
from loadtests.bench.servers import SERVERS, prepare
from loadtests.errors import FlagsWrong, LoadTestError, ServerFailed
from visor.serving.cgroup import cpu_limit

PACKAGES = ("torchserve", "openvino", "torch", "pillow", "uvicorn", "grpcio", "numpy")
FULL, QUICK = (6.0, 6.0, 8.0, 1.5), (0.7, 0.7, 0.7, 0.2)
"""Seconds: one at a time, saturated, open loop, warm-up."""
MOST_ROUNDS = 20
DONE, FAILED, INTERRUPTED = 0, 2, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise FlagsWrong(f"{message}; see --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, save everything and print the table."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leaves through the same blocks as Ctrl-C
    try:
        args = parse_args(argv)
        with chosen(args) as model, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            results = runner.run(measure(model, args))
    except (LoadTestError, VisorError) as err:
        print(f"loadtests.bench: {err}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("loadtests.bench: interrupted; everything that was started is stopped", file=sys.stderr)
        return INTERRUPTED
    print(report.to_markdown(results), end="")
    print(f"results: {args.out}", file=sys.stderr)
    return DONE


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse and check the command line. Raises FlagsWrong."""
    parser = _Parser(
        prog="python -m loadtests.bench",
        description="Serve the same network by visor and by other servers, in turns on this machine, and compare their speed. "
        "Prints a table of latency, throughput, CPU time, memory and start-up, and writes it with JSON and plots into --out "
        "after each round; a server that fails is a row that says why. Makes the Python environments of the other servers first, "
        "which downloads their packages once.",
        epilog="Exit codes: 0 the table was made; 2 it could not be made, for the reason printed; 130 interrupted.",
    )
    names = ", ".join(SERVERS)
    parser.add_argument(
        "--servers",
        default=",".join(SERVERS),
        metavar="NAME,...",
        help=f"servers to measure, separated by commas: {names} (default: all); the baseline bare, the network without a server, "
        "is always measured",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        metavar="NUMBER",
        help=f"number of rounds, 1 to {MOST_ROUNDS}, of which each figure's best counts (default: %(default)s)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="make one short round, which shows that everything works and not how fast it is; --rounds is then without effect "
        "(default: --rounds full ones)",
    )
    parser.add_argument(
        "--growth",
        action="store_true",
        help="also measure how speed changes with concurrency, images in a request and JPEG size (default: leave this out)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=cpu_limit(),
        metavar="NUMBER",
        help="worker processes of each server, 1 to 64, but visor always takes one for each CPU and mlserver one "
        "(default: one for each CPU that this process may use, %(default)s)",
    )
    add_model_flags(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bench"), metavar="FOLDER", help="folder of the results (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    args.servers = [name for name in dict.fromkeys(args.servers.split(",")) if name not in ("", "bare")]
    if unknown := [name for name in args.servers if name not in SERVERS]:
        raise FlagsWrong(f"--servers {unknown[0]!r} is none of {names}")
    if not 1 <= args.rounds <= MOST_ROUNDS:
        raise FlagsWrong(f"--rounds {args.rounds} is not within 1 and {MOST_ROUNDS}")
    if not 1 <= args.workers <= 64:
        raise FlagsWrong(f"--workers {args.workers} is not within 1 and 64")
    return args


async def measure(model: Model, args: argparse.Namespace) -> report.Results:
    """All rounds. Raises ServerFailed where the baseline cannot run."""
    latency_s, saturated_s, open_s, warm_up_s = QUICK if args.quick else FULL
    plan = Plan(args.workers, 4 * args.workers, latency_s, saturated_s, open_s, warm_up_s)
    begun, rounds = time.monotonic(), 1 if args.quick else args.rounds
    rows: dict[str, list[Round]] = {}
    last = Outcome()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - begun:5.0f} s] {what}", file=sys.stderr, flush=True)

    bench, unprepared = Bench(model, plan, say), dict[str, str]()
    for name in args.servers:
        say(f"{name}: environment")
        try:
            prepare(name)
        except ServerFailed as err:
            unprepared |= {f"{name}, {form}": str(err) for form in SERVERS[name].forms}
    ready = [name for name in args.servers if not any(row.startswith(f"{name}, ") for row in unprepared)]
    for number, names in enumerate(in_turns(ready, rounds), 1):
        say(f"round {number} of {rounds}")
        grow = args.growth and number == rounds
        outcomes = [bench.run_bare(grow=grow), *[await bench.run_server(name, grow=grow) for name in names]]
        for outcome in outcomes:
            for row, figures in outcome.rows.items():
                rows.setdefault(row, []).append(figures)
            last.failed |= outcome.failed
            last.curves += outcome.curves
        failed = {row: why for row, why in {**unprepared, **last.failed}.items() if row not in rows}
        settings = _settings(model, plan, number, bench.rate)
        results = report.Results(settings, machine.describe(PACKAGES), rows, failed, last.curves)
        report.save(results, args.out)
    return results


def _settings(model: Model, plan: Plan, rounds: int, rate: float) -> dict[str, str]:
    spec = model.spec
    return {
        "network": f"{spec.network} at {spec.preprocessing.width} x {spec.preprocessing.height} on {spec.backend}",
        "picture": f"JPEG, {WIDTH} x {HEIGHT}, {len(photo(0)) / 1e3:.0f} kB",
        "workers": f"{plan.workers}, of one thread each",
        "loops": f"one at a time {plan.latency_s:g} s, {plan.concurrency} at a time {plan.saturated_s:g} s, "
        f"open loop of {rate:.1f} a second {plan.open_s:g} s",
        "rounds": f"{rounds}, the best of each figure",
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
    }


if __name__ == "__main__":
    sys.exit(main())
