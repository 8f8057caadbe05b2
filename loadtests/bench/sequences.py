"""How often `watch.sequences` is wrong, ever, and how soon it finds an excess: `python -m loadtests.bench.sequences`, a minute.

The errors are of simulated streams, and what is found within so many labels is computed exactly, beside the best test that
looks but once, which nothing that may be looked at at all times can outdo by its own number of labels.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binom

from handlers.arrays import Bools, Int64
from watch import sequences

ALPHA = 0.05
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
PROMISES = (0.01, 0.02, 0.05, 0.1, 0.2)
EXCESSES = (0.02, 0.05, 0.1)
STREAMS, LABELS, WITHIN = 10_000, 5_000, 400
PIECE = 500
"""Streams that are simulated at a time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.sequences", description=__doc__)
    parser.add_argument("--streams", type=int, default=STREAMS, help="number of simulated streams a share (default: %(default)s)")
    parser.add_argument("--labels", type=int, default=LABELS, help="labels of each simulated stream (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulated streams (default: %(default)s)")
    args = parser.parse_args(argv)
    print(
        "| true share | lower bound ever above it | upper ever below it | either, each at half of it |\n| --- | --- | --- | --- |"
    )
    for share in SHARES:
        wrong = errors(share, args.streams, args.labels, np.random.default_rng(args.seed))
        print(f"| {share:g} | {' | '.join(f'{one:.2%}' for one in wrong)} |")
    print(f"\n| promise | {' | '.join(f'+{100 * excess:g} points' for excess in EXCESSES)} |\n| --- {'| --- ' * len(EXCESSES)}|")
    for promise in PROMISES:
        cells = [f"{found(promise, promise + x, WITHIN):.1%} ({once(promise, promise + x, WITHIN):.1%})" for x in EXCESSES]
        print(f"| {promise:g} | {' | '.join(cells)} |")
    return 0


def errors(share: float, streams: int, labels: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Simulate streams: the fractions whose lower bound, upper bound, and interval of both at ALPHA / 2, ever errs."""
    single, double = _band(share, labels, ALPHA), _band(share, labels, ALPHA / 2)
    wrong = np.zeros(3)
    for begin in range(0, streams, PIECE):
        events = (rng.random((min(PIECE, streams - begin), labels)) < share).cumsum(axis=1)
        wrong += [
            (events >= single[0]).any(axis=1).sum(),
            (events <= single[1]).any(axis=1).sum(),
            ((events >= double[0]) | (events <= double[1])).any(axis=1).sum(),
        ]
    low, high, either = wrong / streams
    return float(low), float(high), float(either)


def _band(share: float, labels: int, alpha: float) -> tuple[Int64, Int64]:
    """At each number of labels from 1 on: the fewest events that are too many for the share, the most that are too few."""
    trials = np.arange(1, labels + 1)
    limit = -np.log(alpha)
    high = _turn(lambda events: np.asarray(sequences.evidence(events, trials, share) >= limit), trials)
    low = _turn(lambda events: np.asarray(sequences.evidence_below(events, trials, share) < limit), trials)
    return high, low - 1


def _turn(true: Callable[[Int64], Bools], trials: Int64) -> Int64:
    """The fewest events at which a statement that stays true with more is true, trials + 1 where it never is; by bisection."""
    false, so = np.full(len(trials), -1), trials + 1
    while (so - false > 1).any():
        middle = np.where(so - false > 1, (false + so) // 2, false)
        holds = true(np.maximum(middle, 0)) & (middle > false)
        so, false = np.where(holds, middle, so), np.where(holds, false, np.maximum(middle, false))
    return so


def found(promise: float, share: float, labels: int) -> float:
    """Compute the probability that the bet against a promise wins within so many labels: exactly, by going through all counts."""
    chance, won = np.zeros(labels + 2), 0.0
    chance[0] = 1.0
    for limit in _band(promise, labels, ALPHA)[0]:
        chance[1:] = chance[1:] * (1 - share) + chance[:-1] * share
        chance[0] *= 1 - share
        won += float(chance[limit:].sum())
        chance[limit:] = 0.0
    return won


def once(promise: float, share: float, labels: int) -> float:
    """Compute the same of the exact binomial test of ALPHA that looks once, at the end."""
    counts = np.arange(labels + 2)
    least = int(np.argmax(binom.sf(counts - 1, labels, promise) <= ALPHA))
    return float(binom.sf(least - 1, labels, share))


if __name__ == "__main__":
    sys.exit(main())
