"""One gate's evidence: that a canary has too many events, and that it has not; both valid at all times at once.

Two families of bets (`rollout.bets`) go through the same counts:

- **Against "at most the tolerance more"**, for the alarm: on several excesses at once, and a part of the capital that does not
  bet. After each look that they bet on SHARED of it is dealt out anew (the fixed share of Herbster, Warmuth 1998), so that a
  canary that gets bad later, or at a larger weight, is found as soon as one that was bad from its first request.
- **Against "at least this much more"**, for promotion: at each of several differences, on none and on half of it. The least one
  whose bets have won is the upper end of a confidence sequence of the difference. These are not dealt out anew: a canary that
  gets bad loses what it had won.

Each capital begins at 1, is expected to stay there or to fall where its statement is true, and so ever reaches 1 / alpha with a
probability of alpha at most (Ville 1939). Each look is tested by itself, stable release and canary of the same time, so that
neither rates that swing in both nor a weight that changes between looks can win a bet; sums over looks could (Simpson 1951).

All counts and states may have leading axes, one release each, as in `loadtests.bench.releases`.
"""

from dataclasses import dataclass, replace

import numpy as np

from handlers.arrays import Bools, Float64, Int64
from rollout.bets import against_gap, against_share, payoff
from rollout.gates import Gate

LIFTS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0)
"""Excesses that are bet on: so much higher in log-odds than what is tolerated."""
SHARED = 0.01
BOUNDS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
"""Differences that are tested for promotion, in margins; the margin itself must be one."""
HALVES = np.array([0.0, 0.5])
"""The differences that promotion's bets are on, in those that they are against."""
LOW = 0.125
"""Without a stable release to be like, promotion's first bet is on this part of the share instead of on a difference of none."""
PATIENCE = 6
"""Counts of one track wait for the other's for at most so many looks that brought counts: scrapes of two pods do not come at the
same time, nor do requests. A look that brought none costs nothing, so that neither looks between scrapes nor sparse traffic use
the patience up; and where one track alone has requests, only its last ones wait, however many it has."""
MOST = 0.999
MOST_WON = 12.0
"""What one look multiplies a bet by, at most: less than was won is as fair. Requests of a few seconds in which one pod stalls, or
in which both tracks fail but were not scraped at the same instant, are not independent; no single look decides, nor do two, as
`most_won` says."""

LEAST_LEFT = 0.99
"""The part of an alarm's limit that two looks reach at most, as what is dealt out anew moves a little of the capital."""


@dataclass(frozen=True)
class SafeTest:
    """A gate's state after some looks. Counts are (..., 4): canary's events and total, stable's events and total.

    `seen`: all that was counted; `waiting`: the part of it that was not bet on yet; `waited`: for how many looks that brought
    counts, (...). `capital`: (..., 8) logarithms, that of no bet first; `proof`: (..., 9, 2) logarithms, by BOUNDS and HALVES.
    `weighed`: (..., 2) sums of w (canary's share - stable's) and of w over what was compared, w = n_c n_s / (n_c + n_s) (Mantel,
    Haenszel 1959).
    """

    gate: Gate
    seen: Int64
    waiting: Int64
    waited: Int64
    capital: Float64
    proof: Float64
    weighed: Float64
    lifts: tuple[float, ...] = LIFTS
    bounds: tuple[float, ...] = BOUNDS
    most_won: float = MOST_WON

    @classmethod
    def begin(
        cls,
        gate: Gate,
        shape: tuple[int, ...] = (),
        lifts: tuple[float, ...] = LIFTS,
        bounds: tuple[float, ...] = BOUNDS,
        most_won: float = MOST_WON,
    ) -> "SafeTest":
        """Begin with nothing seen; `shape`: of the leading axes. A simulation asks for the bets that it is about alone."""
        none = np.zeros((*shape, 4), dtype=np.int64)
        return cls(
            gate,
            seen=none,
            waiting=none,
            waited=np.zeros(shape, dtype=np.int64),
            capital=np.full((*shape, 1 + len(lifts)), -np.log(1 + len(lifts))),
            proof=np.full((*shape, len(bounds), len(HALVES)), -np.log(len(HALVES))),
            weighed=np.zeros((*shape, 2)),
            lifts=lifts,
            bounds=bounds,
            most_won=most_won,
        )

    def look(self, counts: Int64) -> "SafeTest":
        """Take in what was counted since the last look, (..., 4). The totals may depend on anything that was seen before."""
        block = self.waiting + counts
        before = self.seen - self.waiting
        full = (block[..., 1] > 0) & ((block[..., 3] > 0) | (not self.gate.paired))
        bets = full & ((before[..., 3] > 0) | (not self.gate.paired))  # the first block tells what to bet on
        waited = self.waited + ((counts[..., 1] > 0) | (counts[..., 3] > 0))
        gone = full | (waited >= PATIENCE)
        stable = guess(self.gate, before[..., 2], before[..., 3])
        won = np.where(bets[..., None], self._limited(self._against_little(stable, block)), 0.0)
        return replace(
            self,
            seen=self.seen + counts,
            waiting=np.where(gone[..., None], 0, block),
            waited=np.where(gone, 0, waited),
            capital=np.where(bets[..., None], _shared(self.capital + won), self.capital),
            proof=self.proof + np.where(bets[..., None, None], self._limited(self._against_much(stable, block)), 0.0),
            weighed=self.weighed + np.where(full[..., None], _weighed(block), 0.0),
        )

    @property
    def log_e(self) -> Float64:
        """The logarithm of the capital against "at most the tolerance more", (...)."""
        return np.asarray(np.logaddexp.reduce(self.capital, axis=-1))

    @property
    def log_proof(self) -> Float64:
        """The logarithms of the capital against each of BOUNDS, (..., 9)."""
        return np.asarray(np.logaddexp.reduce(self.proof, axis=-1))

    @property
    def log_at_margin(self) -> Float64:
        """The logarithm of the capital against "the margin more, or above", (...)."""
        return np.asarray(self.log_proof[..., self.bounds.index(1.0)])

    def proven(self, alpha: float) -> Bools:
        """Whether the difference is known to be less than the margin, (...)."""
        return np.asarray(self.log_at_margin >= -np.log(alpha))

    def upper(self, alpha: float) -> Float64:
        """Compute the upper end of the confidence sequence at 1 - alpha, one of BOUNDS; 1 where nothing is known yet; (...)."""
        bounds = np.append(differences(self.gate, self.bounds), 1.0)
        known = np.append(self.log_proof >= -np.log(alpha), np.ones((*self.waited.shape, 1), dtype=bool), axis=-1)
        return np.asarray(bounds[known.argmax(axis=-1)])

    @property
    def difference(self) -> Float64:
        """Estimate the canary's share less the stable's, or the canary's share where it is not paired; NaN without any; (...)."""
        with np.errstate(invalid="ignore"):
            if not self.gate.paired:
                return np.asarray(self.seen[..., 0] / self.seen[..., 1])
            return np.asarray(self.weighed[..., 0] / self.weighed[..., 1])

    def _limited(self, won: Float64) -> Float64:
        return np.asarray(np.minimum(won, np.log(self.most_won)))

    def _against_little(self, stable: Float64, block: Int64) -> Float64:
        """What a block pays the bets for the alarm: (...), (..., 4) → (..., 8), the first of which is none."""
        gate = self.gate
        canary_events, canary_total, stable_events, stable_total = np.moveaxis(block[..., None, :], -1, 0)
        canary = excesses(gate, stable, self.lifts)
        if gate.paired:
            factors = against_gap(canary, stable[..., None], gate.tolerance, canary_total, stable_total)
        else:
            factors = against_share(canary, gate.margin)
        won = payoff(factors, canary_events, canary_total, stable_events, stable_total)
        return np.concatenate([np.zeros((*won.shape[:-1], 1)), won], axis=-1)

    def _against_much(self, stable: Float64, block: Int64) -> Float64:
        """What a block pays the bets for promotion: (...), (..., 4) → (..., 9, 2)."""
        gate = self.gate
        canary_events, canary_total, stable_events, stable_total = np.moveaxis(block[..., None, None, :], -1, 0)
        canary, bounds = lesser(gate, stable, self.bounds), differences(gate, self.bounds)[:, None]
        if gate.paired:
            factors = against_gap(stable[..., None, None], canary, -bounds, stable_total, canary_total)
            return payoff(factors, stable_events, stable_total, canary_events, canary_total)
        factors = against_share(canary, bounds)
        return payoff(factors, canary_events, canary_total, stable_events, stable_total)


def most_won(limit: float) -> float:
    """What one look may multiply a bet by, so that two of them do not reach the limit of an alarm.

    Of a capital of 1 a part 1 / (1 + n) does not bet: two looks make at most (1 + n c²) / (1 + n) of it, with n bets.
    """
    bets = len(LIFTS)
    return float(min(MOST_WON, np.sqrt(max(((1 + bets) * LEAST_LEFT * limit - 1) / bets, 1.0))))


def guess(gate: Gate, events: Int64, total: Int64) -> Float64:
    """The stable release's rate as it looks before a block; half an event at the margin's rate stands for what is not known."""
    return np.asarray((events + 0.5) / (total + 0.5 / gate.margin))


def excesses(gate: Gate, stable: Float64, lifts: tuple[float, ...]) -> Float64:
    """The canary's rates that are bet on for the alarm: (...) → (..., lifts)."""
    edge = np.minimum(stable + gate.tolerance, MOST) if gate.paired else np.full(np.shape(stable), gate.margin)
    return np.asarray(1 / (1 + np.exp(-(np.log(edge) - np.log1p(-edge))[..., None] - np.array(lifts))))


def lesser(gate: Gate, stable: Float64, bounds: tuple[float, ...]) -> Float64:
    """The canary's rates that are bet on for promotion: (...) → (..., bounds, 2)."""
    against = differences(gate, bounds)[:, None]
    if gate.paired:
        return np.asarray(np.minimum(stable[..., None, None] + against * HALVES, MOST))
    return np.asarray(np.broadcast_to(against * np.maximum(HALVES, LOW), (*np.shape(stable), len(bounds), len(HALVES))))


def differences(gate: Gate, bounds: tuple[float, ...]) -> Float64:
    """The differences, or shares, that are tested for promotion: (bounds,)."""
    return np.asarray(np.minimum(gate.margin * np.array(bounds), MOST))


def _shared(capital: Float64) -> Float64:
    total = np.logaddexp.reduce(capital, axis=-1, keepdims=True)
    return np.asarray(np.logaddexp(np.log1p(-SHARED) + capital, np.log(SHARED / capital.shape[-1]) + total))


def _weighed(block: Int64) -> Float64:
    """(..., 4) → (..., 2); zeros where either track has nothing."""
    canary_events, canary_total, stable_events, stable_total = np.moveaxis(block, -1, 0)
    total = np.maximum(canary_total + stable_total, 1)
    sums = canary_events * stable_total - stable_events * canary_total, canary_total * stable_total
    return np.stack([np.asarray(one / total) for one in sums], axis=-1)
