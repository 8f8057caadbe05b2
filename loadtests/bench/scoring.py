"""Measure what batch scoring keeps of the bare network's speed: `visor score` beside `loadtests.bench.bare`, in turns.

`python -m loadtests.bench.scoring --images 1000`: the same archive, the same pictures, the same number of single-threaded
processes; of each, the best round counts. `whole` is the command from its beginning to its end, with signature, processes,
loading and the one file at the end; `working` is from the first image to the last, as the bare loop measures itself. CPU time
of an image stands beside them: on a machine that others use too, it tells more than rates that were measured one after the other.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtests.bench import bare
from loadtests.bench.figures import throughput
from loadtests.bench.machine import describe
from loadtests.bench.model import Model, add_network_flag, make_archive, opened
from loadtests.bench.pictures import photos
from visor.scoring.score import Options, score
from visor.serving.cgroup import cpu_limit

BARE_S = 8.0


@dataclass(frozen=True)
class Rates:
    """Images a second: of the bare loop, and of scoring with and without what is before its first image.

    `*_cpu`: images that a second of one CPU is enough for.
    """

    bare: float
    working: float
    whole: float
    bare_cpu: float
    working_cpu: float


def measure(model: Model, images: Path, count: int, workers: int, bare_s: float = BARE_S) -> Rates:
    """One round. `images`: a folder of `count` of them."""
    with bare.running(model.unpacked, workers) as loop:
        loop.run(workers, 1.0)
        before = _cpu_s(loop)
        load = loop.run(workers, bare_s)
        busy = _cpu_s(loop) - before
    with tempfile.TemporaryDirectory(prefix="visor-bench-") as folder:
        out, begun = Path(folder) / "scores.parquet", time.monotonic()
        scored = score(model.archive, model.public_key, Options(images, out, workers=workers))
        whole = time.monotonic() - begun
    rates = throughput(load), count / scored.seconds, count / whole
    return Rates(*rates, len(load.latencies_s) / busy, count / scored.cpu_s)


def _cpu_s(loop: bare.Bare) -> float:
    """Seconds that the loop's processes have had a CPU for, since they began."""
    times = [psutil.Process(process.pid).cpu_times() for process in loop.processes]
    return float(sum(one.user + one.system for one in times))


def best(rounds: Sequence[Rates]) -> Rates:
    """Of each figure the best: a machine that others use too only ever makes a round worse."""
    return Rates(*(max(getattr(one, name) for one in rounds) for name in Rates.__dataclass_fields__))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench.scoring",
        description="Measure how much of the bare network's speed `visor score` keeps. Scores the same pictures by one archive "
        "both ways in turns, and prints images a second, from the first image on (working) and of the whole command (whole), "
        "with their shares of the bare rate, and CPU time.",
        epilog="Exit codes: 0 the rates were measured; 1 an error, with its traceback; 2 a mistyped command line.",
    )
    add_network_flag(parser)
    parser.add_argument(
        "--images", type=int, default=1000, metavar="NUMBER", help="images that each round scores (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=2,
        metavar="NUMBER",
        help="number of rounds, of which each figure's best counts (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=cpu_limit(),
        metavar="NUMBER",
        help="single-threaded processes (default: one for each CPU that this process may use, %(default)s)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the rates, their ratios and the machine."""
    args = parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="visor-bench-") as folder:
        images, pictures = Path(folder) / "images", photos()
        images.mkdir()
        for number in range(args.images):
            (images / f"{number:06}.jpg").write_bytes(pictures[number % len(pictures)])
        with opened(*make_archive(args.network, "openvino", Path(folder))) as model:
            rounds = [measure(model, images, args.images, args.workers) for _ in range(args.rounds)]
    for number, one in enumerate([*rounds, best(rounds)], 1):
        what = "best" if number > len(rounds) else f"round {number}"
        print(
            f"{what:8}  bare {one.bare:6.1f}/s  working {one.working:6.1f}/s ({one.working / one.bare:.3f})  "
            f"whole {one.whole:6.1f}/s ({one.whole / one.bare:.3f})  "
            f"a CPU's second: bare {one.bare_cpu:5.1f}, working {one.working_cpu:5.1f} ({one.working_cpu / one.bare_cpu:.3f})"
        )
    facts = {"network": args.network, "workers": str(args.workers), **describe(["openvino", "pillow", "pyarrow", "numpy"])}
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
