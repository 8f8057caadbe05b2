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

import numpy as np
from scipy.special import betaln, xlog1py, xlogy

from handlers.arrays import Bools, Float64, Int64
from rollout.gates import GATES, Gate
from rollout.planning import requests_to_find, requests_to_prove
from rollout.safe_test import SafeTest

ALPHA = 0.05
LOOKS, LOOK_S = 180, 10.0
RELEASES, PIECE = 10_000, 500
STEPS = tuple(0.01 * percent for percent in (5, 25, 50) for _ in range(LOOKS // 3))
TENTH = (0.1,) * LOOKS
SWING = 0.9
BASES = {"errors": 0.001, "refusals": 0.002, "slow": 0.01, "slower": 0.04, "flagged": 0.2, "reviewed": 0.1, "disagreement": 0.0}
BY_NAME = {gate.name: gate for gate in GATES}
EFFECTS = (("errors", 0.001, 0.02), ("slow", 0.05, 0.5), ("slow", 0.05, 0.1), ("flagged", 0.2, 0.3), ("flagged", 0.2, 0.25))
"""The gate, the stable release's rate and the canary's."""
NEVER = -1


@dataclass(frozen=True)
class Scenario:
    """One gate of a release. `weights`: the canary's share at each look; `per_s`: requests, or images, of both tracks.

    `base`: the stable release's rate; `effect`: so much more of the canary. `swing`: rates go up and down by so much, once in
    30 minutes, and so does traffic, a quarter later; `grows`: the effect swings with the rate instead of being added to it.
    `begins`: the look at which the canary gets so. `bunch`: requests that share one fate.
    """

    gate: Gate
    base: float
    effect: float = 0.0
    weights: tuple[float, ...] = TENTH
    per_s: float = 20.0
    swing: float = 0.0
    grows: bool = False
    begins: int = 0
    bunch: int = 1


@dataclass(frozen=True)
class Outcome:
    """Of each release, (N,): the look at which the alarm was raised and the proof complete, NEVER where it was not; the canary's
    requests until then, or until the end; and the capitals at the end."""

    alarm: Int64
    alarm_requests: Int64
    proof: Int64
    proof_requests: Int64
    capital: Float64
    proof_capital: Float64
    pooled: Int64
    pooled_requests: Int64


def simulate(scenario: Scenario, releases: int, seed: int, gates: int = len(GATES)) -> Outcome:
    """Draw the counts of so many releases and let the tests look at them; `gates` share ALPHA."""
    rng = np.random.default_rng(seed)
    pieces = [_piece(scenario, min(PIECE, releases - begin), rng, gates) for begin in range(0, releases, PIECE)]
    return Outcome(*(np.concatenate([getattr(piece, key) for piece in pieces]) for key in Outcome.__dataclass_fields__))


def _piece(scenario: Scenario, releases: int, rng: np.random.Generator, gates: int) -> Outcome:
    test = SafeTest.begin(scenario.gate, (releases,))
    firsts = [(np.full(releases, NEVER), np.zeros(releases, dtype=np.int64)) for _ in range(3)]
    for look in range(LOOKS):
        test = test.look(draw(scenario, look, releases, rng))
        reached = (
            test.log_e >= math.log(gates / ALPHA),
            test.proven(ALPHA),
            _pooled(test.seen, scenario.gate.margin) if scenario.gate.paired else np.zeros(releases, dtype=bool),
        )
        for (first, requests), now in zip(firsts, reached, strict=True):
            requests[first == NEVER] = test.seen[first == NEVER, 1]
            first[now & (first == NEVER)] = look
    (alarm, alarm_requests), (proof, proof_requests), (pooled, pooled_requests) = firsts
    at_margin = np.exp(np.minimum(test.log_proof[:, 3], 700))
    capital = np.exp(np.minimum(test.log_e, 700))
    return Outcome(alarm, alarm_requests, proof, proof_requests, capital, at_margin, pooled, pooled_requests)


def draw(scenario: Scenario, look: int, releases: int, rng: np.random.Generator) -> Int64:
    """Draw one look's counts of so many releases: (releases, 4)."""
    phase = 2 * math.pi * (look + 0.5) / LOOKS
    level = 1 + scenario.swing * math.sin(phase)
    bunches = rng.poisson(scenario.per_s * LOOK_S * (1 + scenario.swing * math.cos(phase)) / scenario.bunch, releases)
    canary = rng.binomial(bunches, scenario.weights[look]) if scenario.gate.paired else bunches
    stable = bunches - canary
    rate = scenario.base * level
    effect = scenario.effect if look >= scenario.begins else 0.0
    worse = rate + effect * (level if scenario.grows else 1)
    drawn = rng.binomial(canary, worse), canary, rng.binomial(stable, rate), stable
    return np.stack(drawn, axis=-1) * scenario.bunch


def _pooled(seen: Int64, margin: float) -> Bools:
    """What the sums of all looks say of the margin: a confidence sequence for each rate at ALPHA / 2 (Robbins 1970)."""
    upper = _robbins(seen[:, 0], seen[:, 1])
    lower = 1 - _robbins(seen[:, 3] - seen[:, 2], seen[:, 3])
    return np.asarray(upper - lower < margin)


def _robbins(events: Int64, total: Int64) -> Float64:
    """The upper end for a rate: where the beta-binomial mixture's likelihood ratio reaches 2 / ALPHA, by halving."""
    low, high = events / np.maximum(total, 1), np.ones(len(events))
    mixed = betaln(events + 1, total - events + 1)
    for _ in range(30):
        middle = (low + high) / 2
        out = mixed - xlogy(events, middle) - xlog1py(total - events, -middle) >= math.log(2 / ALPHA)
        low, high = np.where(out, low, middle), np.where(out, middle, high)
    return np.asarray(high)


def _head(*columns: str) -> None:
    print(f"| | {' | '.join(columns)} |\n| --- {'| --- ' * len(columns)}|")


def _share(true: Bools) -> str:
    return f"{100 * true.mean():.2f} %"


def _errors(releases: int) -> None:
    """A canary that is the same, or as much worse as every gate tolerates: how often it is rolled back, and promoted."""
    _head("rolled back", "by its worst gate", "mean of E over all gates", "promoted")
    forms = (
        ("10 %, steady", TENTH, 0.0),
        ("10 %, swinging", TENTH, SWING),
        ("5, 25, 50 %, steady", STEPS, 0.0),
        ("5, 25, 50 %, swinging", STEPS, SWING),
    )
    for (form, weights, swing), tolerated in itertools.product(forms, (False, True)):
        outcomes = []
        for number, gate in enumerate(GATES):
            scenario = Scenario(gate, BASES[gate.name], gate.tolerance if tolerated else 0.0, weights, swing=swing)
            if not gate.paired:  # in the shadow, of a fifth of the images, and always at its promise: nothing swings there
                scenario = Scenario(gate, gate.margin, per_s=4.0)
            outcomes.append(simulate(scenario, releases, number))
        back = np.stack([outcome.alarm != NEVER for outcome in outcomes])
        capital = np.concatenate([outcome.capital for outcome in outcomes])
        promoted = np.stack([outcome.proof != NEVER for outcome in outcomes[:-1]]).all(axis=0)
        mean = f"{capital.mean():.3f} ± {capital.std() / math.sqrt(len(capital)):.3f}"
        told = "tolerated" if tolerated else "the same"
        cells = (_share(back.any(axis=0)), f"{100 * back.mean(axis=1).max():.2f} %", mean, _share(promoted))
        print(f"| {told}, {form} | {' | '.join(cells)} |", flush=True)


def _margins(releases: int) -> None:
    """A gate at its margin: how often it is proven not to be, by the tests of each look and by sums over looks."""
    _head("steady", "swinging", "effect swings, too, at 10 %", "and at 5, 25, 50 %", "by sums, steady", "by sums, swinging")
    for number, gate in enumerate(GATES):
        if not gate.paired:
            alone = simulate(Scenario(gate, gate.margin, per_s=4.0), releases, number)
            print(f"| {gate.name} | {_share(alone.proof != NEVER)} | | | | | |", flush=True)
            continue
        steady = Scenario(gate, BASES[gate.name], gate.margin, STEPS)
        swinging = replace(steady, swing=SWING)
        growing = replace(swinging, grows=True)
        outcomes = [simulate(one, releases, number) for one in (steady, swinging, replace(growing, weights=TENTH), growing)]
        cells = [_share(one.proof != NEVER) for one in outcomes] + [_share(one.pooled != NEVER) for one in outcomes[:2]]
        print(f"| {gate.name} | {' | '.join(cells)} |", flush=True)


def _power(releases: int) -> None:
    """Effects at 10 % of the requests: how often they are found within 30 minutes, when, and with how many requests."""
    _head("20/s", "median", "swinging", "from the middle on", "after", "2/s", "needs, half", "in 95 %", "forecast")
    for number, (name, base, worse) in enumerate(EFFECTS):
        gate = BY_NAME[name]
        steady = Scenario(gate, base, worse - base)
        swinging, late, few = replace(steady, swing=SWING), replace(steady, begins=LOOKS // 2), replace(steady, per_s=2.0)
        now, swung, later, slow = (simulate(one, releases, number) for one in (steady, swinging, late, few))
        requests = np.where(now.alarm != NEVER, now.alarm_requests, np.inf)
        cells = (
            _share(now.alarm != NEVER),
            f"{_after(now):.0f} s",
            _share(swung.alarm != NEVER),
            _share(later.alarm != NEVER),
            f"{_after(later) - LOOKS // 2 * LOOK_S:.0f} s",
            _share(slow.alarm != NEVER),
            *(f"{np.quantile(requests, at, method='higher'):,.0f}" for at in (0.5, 0.95)),
            f"{requests_to_find(gate, base, worse - base, 0.1, ALPHA / len(GATES)):,}",
        )
        print(f"| {name} {100 * base:g} → {100 * worse:g} % | {' | '.join(cells)} |", flush=True)


def _after(outcome: Outcome) -> float:
    """The median time of the alarm, in seconds."""
    return float(np.median(np.where(outcome.alarm != NEVER, (outcome.alarm + 1) * LOOK_S, np.inf)))


def _proofs(releases: int) -> None:
    """A canary that is the same: the requests that it needs to be proven, beside the forecast, and by sums over looks."""
    _head("weight", "needs, half", "in 95 %", "forecast", "by sums, half")
    for (number, gate), weight in itertools.product(enumerate(GATES[:-1]), (0.1, 0.5)):
        base = BASES[gate.name]
        outcome = simulate(Scenario(gate, base, weights=(weight,) * LOOKS, per_s=60.0), releases, number)
        proof = np.where(outcome.proof != NEVER, outcome.proof_requests, np.inf)
        pooled = np.where(outcome.pooled != NEVER, outcome.pooled_requests, np.inf)
        half, most, sums = (np.quantile(one, at, method="higher") for one, at in ((proof, 0.5), (proof, 0.95), (pooled, 0.5)))
        told = f"{requests_to_prove(gate, base, weight, ALPHA):,}"
        print(
            f"| {gate.name} {100 * base:g} % | {100 * weight:g} % | {half:,.0f} | {most:,.0f} | {told} | {sums:,.0f} |",
            flush=True,
        )


def _bunches(releases: int) -> None:
    """The same release, asked about 16 images a request that are all flagged or none, of which 20 % are: what `together` is for."""
    _head("rolled back")
    for together in (1.0, 16.0):
        gate = replace(BY_NAME["flagged"], together=together)
        outcome = simulate(Scenario(gate, 0.2, weights=STEPS, per_s=64.0, bunch=16), releases, 0)
        print(f"| `together` {together:g} | {_share(outcome.alarm != NEVER)} |", flush=True)


TABLES: dict[str, Callable[[int], None]] = {
    "errors": _errors,
    "margins": _margins,
    "power": _power,
    "proofs": _proofs,
    "bunches": _bunches,
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
