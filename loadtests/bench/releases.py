"""How often `rollout.evidence` errs, and what it finds: simulated releases of 30 minutes, looked at every 10 s, a table each.

`python -m loadtests.bench.releases` prints all tables as Markdown; docs/rollout.md has them. Each gate's counts are drawn for
as many releases as are asked for, and go through the code that decides about real ones.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import betaln

from handlers.arrays import Bools, Float64, Int64
from rollout.gates import GATES, Gate
from rollout.planning import requests_to_find, requests_to_prove
from rollout.safe_test import LIFTS, MOST_WON, SafeTest

ALPHA = 0.05
LOOKS, LOOK_S = 180, 10.0
RELEASES, PIECE = 10_000, 500
STEPS = tuple(0.01 * percent for percent in (5, 25, 50) for _ in range(LOOKS // 3))
TENTH = (0.1,) * LOOKS
SWING = 0.9
BASES = {"errors": 0.001, "refusals": 0.002, "slow": 0.01, "slower": 0.04, "flagged": 0.2, "reviewed": 0.1}
DISAGREES = 0.02
"""The share of images of which two releases that are to be promoted decide differently."""
BY_NAME = {gate.name: gate for gate in GATES}
EFFECTS = (("errors", 0.001, 0.02), ("slow", 0.05, 0.5), ("slow", 0.05, 0.1), ("flagged", 0.2, 0.3), ("flagged", 0.2, 0.25))
"""The gate, the stable release's rate and the canary's."""
FORMS = (
    ("the same, 10 %, steady", TENTH, 0.0, False),
    ("the same, 10 %, swinging", TENTH, SWING, False),
    ("the same, 5, 25, 50 %, steady", STEPS, 0.0, False),
    ("the same, 5, 25, 50 %, swinging", STEPS, SWING, False),
    ("tolerated, 5, 25, 50 %, steady", STEPS, 0.0, True),
    ("tolerated, 5, 25, 50 %, swinging", STEPS, SWING, True),
)
"""Of a canary that should not be rolled back: weights, the swing, and whether it is as much worse as is tolerated."""
SIZES = (
    ("16 images, alike", ((1.0, 16),), 1.0),
    ("10 % with 32 images, alike, others 1", ((0.1, 32), (0.9, 1)), 1.0),
    ("16 images, correlated by 0.5", ((1.0, 16),), 0.5),
)
"""How many images requests have, and how alike these are."""
NEVER = -1
HALVINGS = 20
"""Of the interval that a sum's bound is searched in."""
MOST_LOG = 700.0
"""A float has no more."""


@dataclass(frozen=True)
class Scenario:
    """One gate of a release. `weights`: the canary's share at each look; `per_s`: requests of both tracks.

    `base`: the stable release's rate; `effect`: so much more of the canary. `swing`: rates go up and down by so much, once in
    30 minutes, and so does traffic, a quarter later; `grows`: the effect swings with the rate instead of being added to it.
    `begins`: the look at which the canary gets so. `sizes`: shares of the requests and how many images these have; so many of
    them, `alike`, have images that share one fate, which is their correlation. `drawn`: one image of each request is counted, as
    edges do, and not all.
    """

    gate: Gate
    base: float
    effect: float = 0.0
    weights: tuple[float, ...] = TENTH
    per_s: float = 20.0
    swing: float = 0.0
    grows: bool = False
    begins: int = 0
    sizes: tuple[tuple[float, int], ...] = ((1.0, 1),)
    alike: float = 1.0
    drawn: bool = True


@dataclass(frozen=True)
class First:
    """Of each release, (N,): at which look something was so, NEVER for none, and the canary's requests until then."""

    look: Int64
    requests: Int64

    @property
    def share(self) -> str:
        """How many of the releases it ever was so in."""
        return f"{100 * (self.look != NEVER).mean():.2f} %"

    @property
    def median_s(self) -> float:
        """After how many seconds it was so in half of them."""
        return float(np.median(np.where(self.look != NEVER, (self.look + 1) * LOOK_S, np.inf)))

    def within(self, part: float) -> str:
        """How many of the canary's requests it took in this part of them."""
        return f"{np.quantile(np.where(self.look != NEVER, self.requests, np.inf), part, method='higher'):,.0f}"


@dataclass(frozen=True)
class Outcome:
    """When the alarm was raised, when the difference was proven to be less than the margin, when sums over looks would have said
    so, and the capitals (N,) against what is tolerated and against the margin at the end."""

    alarm: First
    proof: First
    sums: First
    capital: Float64
    proof_capital: Float64


def simulate(scenario: Scenario, releases: int, seed: int, proof_alone: bool = False) -> Outcome:
    """Draw the counts of so many releases and let the tests look at them, one of len(GATES) gates that share ALPHA.

    `proof_alone`: without the alarm, and with what sums say.
    """
    rng = np.random.default_rng(seed)
    pieces = [_piece(scenario, min(PIECE, releases - begin), rng, proof_alone) for begin in range(0, releases, PIECE)]
    alarm, proof, sums, capital, at_margin = (np.concatenate(kind, axis=-1) for kind in zip(*pieces, strict=True))
    return Outcome(First(*alarm), First(*proof), First(*sums), capital, at_margin)


def _piece(scenario: Scenario, releases: int, rng: np.random.Generator, proof_alone: bool) -> list[Any]:
    """Arrays (2, releases) of looks and requests for alarm, proof and sums, and (releases,) of both capitals."""
    test = SafeTest.begin(scenario.gate, (releases,), () if proof_alone else LIFTS, (1.0,))
    firsts = np.zeros((3, 2, releases), dtype=np.int64)
    firsts[:, 0] = NEVER
    for look in range(LOOKS):
        test = test.look(draw(scenario, look, releases, rng))
        alarm = test.log_e >= math.log(len(GATES) / ALPHA)
        sums = _by_sums(test.seen, scenario.gate) if proof_alone else np.zeros(releases, dtype=bool)
        for first, now in zip(firsts, (alarm, test.proven(ALPHA), sums), strict=True):
            new = now & (first[0] == NEVER)
            first[0, new], first[1, new] = look, test.seen[new, 1]
    return [*firsts, *(np.exp(np.minimum(log, MOST_LOG)) for log in (test.log_e, test.log_at_margin))]


def draw(scenario: Scenario, look: int, releases: int, rng: np.random.Generator) -> Int64:
    """Draw one look's counts of so many releases: (releases, 4)."""
    phase = 2 * math.pi * (look + 0.5) / LOOKS
    level = 1 + scenario.swing * math.sin(phase)
    requests = rng.poisson(scenario.per_s * LOOK_S * (1 + scenario.swing * math.cos(phase)), releases)
    canary = rng.binomial(requests, scenario.weights[look]) if scenario.gate.paired else requests
    stable = requests - canary
    rate = scenario.base * level
    effect = scenario.effect if look >= scenario.begins else 0.0
    worse = rate + effect * (level if scenario.grows else 1)
    return np.stack([*_counted(scenario, canary, worse, rng), *_counted(scenario, stable, rate, rng)], axis=-1)


def _counted(scenario: Scenario, requests: Int64, rate: float, rng: np.random.Generator) -> tuple[Int64, Int64]:
    """Draw the fates of one track's images: events, and of how many, (releases,)."""
    events, total, left, unasked = np.zeros_like(requests), np.zeros_like(requests), requests, 1.0
    for share, size in scenario.sizes:
        these = left if share == unasked else rng.binomial(left, share / unasked)
        left, unasked = left - these, unasked - share
        same = rng.binomial(these, scenario.alike) if size > 1 else these
        shared, own = rng.binomial(same, rate), rng.binomial(these - same, rate)  # own: of each request the one that is drawn
        if scenario.drawn:
            events, total = events + shared + own, total + these
        else:
            others = rng.binomial((size - 1) * (these - same), rate)
            events, total = events + size * shared + own + others, total + size * these
    return events, total


def _by_sums(seen: Int64, gate: Gate) -> Bools:
    """What sums over looks say of the margin: a confidence sequence for each rate at ALPHA / 2 (Robbins 1970), the usual way."""
    upper = _robbins(seen[:, 0], seen[:, 1])
    lower = 1 - _robbins(seen[:, 3] - seen[:, 2], seen[:, 3])
    return np.asarray((upper - lower < gate.margin) & gate.paired)


def _robbins(events: Int64, total: Int64) -> Float64:
    """The upper end for a rate: where the beta-binomial mixture's likelihood ratio reaches 2 / ALPHA, by halving."""
    low, high = events / np.maximum(total, 1), np.ones(len(events))
    mixed = betaln(events + 1, total - events + 1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        with np.errstate(divide="ignore", invalid="ignore"):  # where all are events, up to 1
            ratio = mixed - events * np.log(middle) - (total - events) * np.log1p(-middle)
        out = ratio >= math.log(2 / ALPHA)
        low, high = np.where(out, low, middle), np.where(out, middle, high)
    return np.asarray(high)


def _head(*columns: str) -> None:
    print(f"| | {' | '.join(columns)} |\n| --- {'| --- ' * len(columns)}|")


def _errors(releases: int) -> None:
    """A canary that is the same, or as much worse as every gate tolerates: how often it is rolled back, and proven."""
    _head("rolled back", "by its worst gate", "mean of E, least and most of a gate", "proven")
    for form, weights, swing, tolerated in FORMS:
        outcomes = []
        for number, gate in enumerate(GATES):
            if gate.paired:
                scenario = Scenario(gate, BASES[gate.name], gate.tolerance if tolerated else 0.0, weights, swing=swing)
            else:  # in the shadow, of a fifth of the images: nothing swings there
                scenario = Scenario(gate, gate.tolerance if tolerated else DISAGREES, per_s=4.0)
            outcomes.append(simulate(scenario, releases, number))
        back = np.stack([outcome.alarm.look != NEVER for outcome in outcomes])
        proven = np.stack([outcome.proof.look != NEVER for outcome in outcomes]).all(axis=0)
        means = [outcome.capital.mean() for outcome in outcomes]
        cells = (
            f"{100 * back.any(axis=0).mean():.2f} %",
            f"{100 * back.mean(axis=1).max():.2f} %",
            f"{min(means):.2f}, {max(means):.2f}",
            f"{100 * proven.mean():.2f} %",
        )
        print(f"| {form} | {' | '.join(cells)} |", flush=True)


def _margins(releases: int) -> None:
    """A gate at its margin: how often it is proven not to be, by the tests of each look and by sums over looks."""
    _head("steady", "swinging", "effect swings, too, at 10 %", "and at 5, 25, 50 %", "by sums, steady", "by sums, swinging")
    for number, gate in enumerate(GATES):
        if not gate.paired:
            alone = simulate(Scenario(gate, gate.margin, per_s=4.0), releases, number, proof_alone=True)
            print(f"| {gate.name} | {alone.proof.share} | | | | | |", flush=True)
            continue
        steady = Scenario(gate, BASES[gate.name], gate.margin, STEPS)
        swinging = replace(steady, swing=SWING)
        growing = replace(swinging, grows=True)
        scenarios = (steady, swinging, replace(growing, weights=TENTH), growing)
        outcomes = [simulate(one, releases, number, proof_alone=True) for one in scenarios]
        cells = [one.proof.share for one in outcomes] + [one.sums.share for one in outcomes[:2]]
        print(f"| {gate.name} | {' | '.join(cells)} |", flush=True)


def _power(releases: int) -> None:
    """Effects at 10 % of the requests: how often they are found within 30 minutes, when, and with how many requests."""
    _head("20/s", "median", "swinging", "from the middle on", "after", "2/s", "needs, half", "in 95 %", "forecast")
    for number, (name, base, worse) in enumerate(EFFECTS):
        gate = BY_NAME[name]
        steady = Scenario(gate, base, worse - base)
        swinging, late, few = replace(steady, swing=SWING), replace(steady, begins=LOOKS // 2), replace(steady, per_s=2.0)
        now, swung, later, slow = (simulate(one, releases, number).alarm for one in (steady, swinging, late, few))
        forecast = f"{requests_to_find(gate, base, worse - base, 0.1, ALPHA / len(GATES)):,}"
        delay = later.median_s - LOOKS // 2 * LOOK_S
        after = f"{delay:.0f} s" if math.isfinite(delay) else "in fewer than half"
        found = (now.share, f"{now.median_s:.0f} s", swung.share, later.share, after, slow.share)
        needs = (now.within(0.5), now.within(0.95), forecast)
        print(f"| {name} {100 * base:g} → {100 * worse:g} % | {' | '.join([*found, *needs])} |", flush=True)


def _proofs(releases: int) -> None:
    """A canary that is the same: the requests that it needs to be proven, beside the forecast, and by sums over looks."""
    _head("weight", "needs, half", "in 95 %", "forecast", "by sums, half")
    for (number, gate), weight in itertools.product(enumerate(GATES), (0.1, 0.5)):
        base, per_s = (BASES[gate.name], 60.0) if gate.paired else (DISAGREES, 4.0)
        outcome = simulate(Scenario(gate, base, weights=(weight,) * LOOKS, per_s=per_s), releases, number, proof_alone=True)
        forecast = requests_to_prove(
            gate, 0.0 if not gate.paired else base, weight, ALPHA, difference=0.0 if gate.paired else base
        )
        cells = (outcome.proof.within(0.5), outcome.proof.within(0.95), f"{forecast:,}", outcome.sums.within(0.5))
        print(f"| {gate.name} {100 * base:g} % | {100 * weight:g} % | {' | '.join(cells)} |", flush=True)


def _alike(releases: int) -> None:
    """Requests of several images: the same release by all of these and by one of each, at the margin, and an effect at 10 %."""
    _head("by all", "by one", "refusals", "at the margin", "refusals", "flagged 20 → 30 %", "needs, half", "in 95 %")
    for form, sizes, alike in SIZES:
        flagged, refusals = (
            Scenario(BY_NAME[name], BASES[name], weights=STEPS, sizes=sizes, alike=alike) for name in ("flagged", "refusals")
        )
        same = [simulate(one, releases, 0).alarm.share for one in (replace(flagged, drawn=False), flagged, refusals)]
        worse = [replace(one, effect=one.gate.margin) for one in (flagged, refusals)]
        at_margin = [simulate(one, releases, 1, proof_alone=True).proof.share for one in worse]
        found = simulate(replace(flagged, effect=0.1, weights=TENTH), releases, 2).alarm
        print(f"| {form} | {' | '.join([*same, *at_margin, found.share, found.within(0.5), found.within(0.95)])} |", flush=True)


def _stalls(releases: int) -> None:
    """The same release whose pods stall, each 1 % of the time: how often it is rolled back, and without a look's limit."""
    _head("4 and 1 pods, 25 %", "without a limit", "1 and 1, 10 %", "without")
    for seconds in (2, 5, 10):
        cells = [
            f"{100 * (stalling(seconds, *pods, releases, most) >= math.log(len(GATES) / ALPHA)).mean():.2f} %"
            for pods in ((4, 1, 0.25), (1, 1, 0.1))
            for most in (MOST_WON, math.inf)
        ]
        print(f"| {seconds} s in {100 * seconds} | {' | '.join(cells)} |", flush=True)


def stalling(seconds: int, stable_pods: int, canary_pods: int, weight: float, releases: int, most_won: float) -> Float64:
    """The logarithm of the largest capital for the alarm of each release, (releases,): gate `slow`, and slow in stalls alone."""
    rng, gate, top = np.random.default_rng(seconds), BY_NAME["slow"], []
    for begin in range(0, releases, PIECE):
        count = min(PIECE, releases - begin)
        test, largest = SafeTest.begin(gate, (count,), LIFTS, (1.0,), most_won), np.full(count, -np.inf)
        left = np.zeros((count, canary_pods + stable_pods), dtype=np.int64)  # seconds that each pod still stalls
        shares = np.array([weight / canary_pods] * canary_pods + [(1 - weight) / stable_pods] * stable_pods)
        for _ in range(LOOKS):
            stalled = np.zeros(left.shape)
            for _ in range(int(LOOK_S)):
                left = np.where(rng.random(left.shape) < 1 / (100 * seconds), seconds, np.maximum(left - 1, 0))
                stalled += left > 0
            asked = rng.poisson(20.0 * LOOK_S * shares, left.shape)
            slow = rng.binomial(asked, stalled / LOOK_S)
            ours = [part[:, :canary_pods].sum(axis=1) for part in (slow, asked)]
            theirs = [part[:, canary_pods:].sum(axis=1) for part in (slow, asked)]
            test = test.look(np.stack([*ours, *theirs], axis=-1))
            largest = np.maximum(largest, test.log_e)
        top.append(largest)
    return np.concatenate(top)


TABLES: dict[str, Callable[[int], None]] = {
    "errors": _errors,
    "margins": _margins,
    "power": _power,
    "proofs": _proofs,
    "alike": _alike,
    "stalls": _stalls,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.releases", description=__doc__)
    parser.add_argument("--releases", type=int, default=RELEASES, help="simulated releases of each row (default: %(default)s)")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), help="which tables (default: all)")
    args = parser.parse_args(argv)
    for name in args.tables:
        print(f"\n{TABLES[name].__doc__}\n")
        TABLES[name](args.releases)
    return 0


if __name__ == "__main__":
    sys.exit(main())
