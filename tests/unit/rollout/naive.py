"""The tests of docs/rollout.md once more, request by request and in plain numbers: no logarithms, no arrays, another solver."""

import math
from dataclasses import dataclass, field

from scipy.optimize import brentq

from rollout.gates import Gate

LIFTS = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4]
BOUNDS = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8]


def nearest(first: float, second: float, gap: float, first_total: int, second_total: int) -> tuple[float, float]:
    """The pair with first = second + gap that is nearest by divergence: where moving both by as much gains nothing."""

    def pull(rate: float, true: float) -> float:
        return true / rate - (1 - true) / (1 - rate)  # of a request's expected log-likelihood

    def gain(rate: float) -> float:
        return first_total * pull(rate + gap, first) + second_total * pull(rate, second)

    low, high = max(second, -gap, 0) + 1e-15, min(first - gap, 1) - 1e-15
    rate = brentq(gain, low, high, xtol=1e-15, rtol=1e-14) if gain(low) > 0 > gain(high) else (low if gain(low) <= 0 else high)
    return rate + gap, rate


def product(events: int, total: int, bet: float, true: float) -> float:
    """What so many requests multiply a stake by, one after the other."""
    stake = 1.0
    for request in range(total):
        stake *= bet / true if request < events else (1 - bet) / (1 - true)
    return stake


@dataclass
class Naive:
    """One gate's capitals."""

    gate: Gate
    past: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    waiting: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    waited: int = 0
    capital: list[float] = field(default_factory=lambda: [1 / 8] * 8)
    proof: list[list[float]] = field(default_factory=lambda: [[1 / 2] * 2 for _ in BOUNDS])

    def look(self, *counts: int) -> None:
        self.waiting = [ours + new for ours, new in zip(self.waiting, counts, strict=True)]
        self.waited += 1 if counts[1] + counts[3] > 0 else 0
        _, canary_total, _, stable_total = self.waiting
        complete = canary_total > 0 and (stable_total > 0 or not self.gate.paired)
        if complete and (self.past[3] > 0 or not self.gate.paired):
            self.bet()
            total = sum(self.capital)
            self.capital = [0.99 * one + 0.01 * total / 8 for one in self.capital]
        if complete or self.waited == 6:
            self.past = [ours + new for ours, new in zip(self.past, self.waiting, strict=True)]
            self.waiting, self.waited = [0, 0, 0, 0], 0

    def bet(self) -> None:
        gate = self.gate
        canary_events, canary_total, stable_events, stable_total = self.waiting
        stable = (self.past[2] + 0.5) / (self.past[3] + 0.5 / gate.margin)
        for number, lift in enumerate(LIFTS, 1):
            edge = min(stable + gate.tolerance, 0.999) if gate.paired else gate.margin
            odds = edge / (1 - edge) * math.exp(lift)
            canary = odds / (1 + odds)
            if not gate.paired:
                won = product(canary_events, canary_total, canary, gate.margin)
            elif canary - gate.tolerance <= stable:
                won = 1.0
            else:
                ours, theirs = nearest(canary, stable, gate.tolerance, canary_total, stable_total)
                won = product(canary_events, canary_total, canary, ours) * product(stable_events, stable_total, stable, theirs)
            self.capital[number] *= min(won, 12)
        for row, times in zip(self.proof, BOUNDS, strict=True):
            bound = min(times * gate.margin, 0.999)
            for number, half in enumerate((0, 0.5)):
                if gate.paired:
                    canary = min(stable + bound * half, 0.999)
                    theirs, ours = nearest(stable, canary, -bound, stable_total, canary_total)
                    won = product(canary_events, canary_total, canary, ours) * product(
                        stable_events, stable_total, stable, theirs
                    )
                else:
                    won = product(canary_events, canary_total, bound * max(half, 0.125), bound)
                row[number] *= min(won, 12)
