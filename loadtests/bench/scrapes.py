"""What scrapes that are far apart and sparse traffic cost a release: simulated pods, each scraped at an instant of its own.

`python -m loadtests.bench.scrapes` prints both tables as Markdown; docs/rollout.md has them. Unlike `loadtests.bench.releases`,
where every look has all requests up to then, a look here has what was scraped since the look before it.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from handlers.arrays import Float64, Int64
from rollout.gates import GATES, Gate
from rollout.safe_test import SafeTest

LIMIT = math.log(len(GATES) / 0.05)
"""Of an alarm, as a logarithm."""
RELEASES = 1_000
GAPS_S = (1, 30, 120, 360, 1200)
"""Seconds between two requests of a track, on the average."""
TIMES_S = ((15, 15), (30, 10), (60, 10), (60, 15), (120, 5))
"""Seconds between two scrapes of a pod, and between two looks."""
MOST, MOST_SCRAPES = 150, 20
"""Requests of the canary, and scrapes of its pod, after which an alarm is not waited for any longer: after the later of both."""
PERIOD_S, SWING = 1800.0, 0.9
SAME = (("errors", 0.01), ("slower", 0.04), ("flagged", 0.2))
WEIGHTS = (0.05, 0.25, 0.5)
HOURS = 2


@dataclass(frozen=True)
class Traffic:
    """Two tracks of a gate. `gap_s`: seconds between two requests of both together, on the average; `weight`: the canary's share.

    `stable`, `canary`: their rates; both go up and down by `swing`, once in PERIOD_S. `scrape_s`, `look_s`: seconds between two
    scrapes of a pod, and between two looks; `pods`: of each track.
    """

    gate: Gate
    gap_s: float
    weight: float = 0.5
    stable: float = 0.0
    canary: float = 0.0
    swing: float = 0.0
    scrape_s: float = 15.0
    look_s: float = 15.0
    pods: int = 1


def looks(traffic: Traffic, releases: int, count: int, seed: int) -> Iterator[Int64]:
    """Draw the counts of so many looks, (releases, 4) each, as `SafeTest.look` takes them."""
    rng = np.random.default_rng(seed)
    begins = rng.uniform(0, PERIOD_S, (releases, 1))
    tracks = ((traffic.weight, traffic.canary), (1 - traffic.weight, traffic.stable))
    first = rng.uniform(0, traffic.scrape_s, (len(tracks), releases, traffic.pods))
    for look in range(count):
        counts = []
        for at, (share, rate) in zip(first, tracks, strict=True):
            before, now = (np.floor((number * traffic.look_s - at) / traffic.scrape_s) for number in (look, look + 1))
            seconds = traffic.scrape_s * (now - before)
            middle = begins + at + traffic.scrape_s * now - seconds / 2
            level = 1 + traffic.swing * np.sin(2 * math.pi * middle / PERIOD_S)
            total = rng.poisson(seconds * share / traffic.gap_s / traffic.pods)
            counts += [rng.binomial(total, np.minimum(rate * level, 1)).sum(axis=1), total.sum(axis=1)]
        yield np.stack(counts, axis=-1)


def needed(traffic: Traffic, releases: int, seed: int) -> Float64:
    """The canary's requests that each release had when the alarm was raised, (releases,); infinite for those without one."""
    seconds = max(MOST * traffic.gap_s / traffic.weight, MOST_SCRAPES * traffic.scrape_s)
    count = math.ceil(seconds / traffic.look_s)
    test, found = SafeTest.begin(traffic.gate, (releases,), bounds=(1.0,)), np.full(releases, np.inf)
    for counts in looks(traffic, releases, count, seed):
        if not (counts[:, 1] + counts[:, 3]).any():
            continue  # no release has anything new, which changes nothing
        test = test.look(counts)
        new = (test.log_e >= LIMIT) & np.isinf(found)
        found[new] = test.seen[new, 1]
        if np.isfinite(found).all():
            break
    return found


def rolled_back(traffic: Traffic, releases: int, seed: int) -> tuple[float, float]:
    """How many of the releases are rolled back within HOURS, as a share, and the mean of their capitals at the end."""
    test, most = SafeTest.begin(traffic.gate, (releases,), bounds=(1.0,)), np.full(releases, -np.inf)
    for counts in looks(traffic, releases, round(HOURS * 3600 / traffic.look_s), seed):
        test = test.look(counts)
        most = np.maximum(most, test.log_e)
    return float((most >= LIMIT).mean()), float(np.exp(test.log_e).mean())


def _effect(releases: int) -> None:
    """Half of the requests to the canary, of which half fail, and none of the stable release: the canary's until the alarm."""
    gate = next(gate for gate in GATES if gate.name == "errors")
    print(f"| scrapes, looks | {' | '.join(f'one each {gap_s} s' for gap_s in GAPS_S)} |\n| --- {'| --- ' * len(GAPS_S)}|")
    for scrape_s, look_s in TIMES_S:
        cells = []
        for gap_s in GAPS_S:
            traffic = Traffic(gate, gap_s / 2, canary=0.5, scrape_s=scrape_s, look_s=look_s)
            found = needed(traffic, releases, 1)
            cells.append(", ".join(f"{np.quantile(found, part, method='higher'):.0f}" for part in (0.5, 0.95)))
        print(f"| {scrape_s} s, {look_s} s | {' | '.join(cells)} |", flush=True)


def _same(releases: int) -> None:
    """The same release, whose rates swing, scraped every 60 s and looked at every 15 s: rolled back, and the mean of E."""
    print(f"| gate, weight | {' | '.join(f'one each {gap_s} s' for gap_s in GAPS_S)} |\n| --- {'| --- ' * len(GAPS_S)}|")
    for name, rate in SAME:
        gate = next(gate for gate in GATES if gate.name == name)
        for weight in WEIGHTS:
            cells = []
            for gap_s in GAPS_S:
                traffic = Traffic(gate, gap_s, weight, rate, rate, SWING, scrape_s=60.0)
                share, mean = rolled_back(traffic, releases, 2)
                cells.append(f"{100 * share:.2f} %, {mean:.2f}")
            print(f"| {name}, {100 * weight:g} % | {' | '.join(cells)} |", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.scrapes", description=__doc__)
    parser.add_argument("--releases", type=int, default=RELEASES, help="simulated releases of each cell (default: %(default)s)")
    args = parser.parse_args(argv)
    for table in (_effect, _same):
        print(f"\n{table.__doc__}\n")
        table(args.releases)
    return 0


if __name__ == "__main__":
    sys.exit(main())
