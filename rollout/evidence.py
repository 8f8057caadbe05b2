"""All gates' evidence about a canary: which of them raise the alarm, and which are known to be within their margins.

Two errors, each with a probability of alpha at most, over all gates, however often one looks and whenever one stops:

- a canary that is within the tolerance of every gate is rolled back: each gate has alpha over the number of gates (Bonferroni);
- one that is at or above the margin of any gate is promoted: as all gates must be proven, each may have the whole alpha (an
  intersection-union test, Berger 1982).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from handlers.arrays import Float64, Int64
from rollout.gates import GATES, Count, Gate
from rollout.planning import requests_to_prove
from rollout.safe_test import SafeTest, most_won

ALPHA = 0.05
LEAST_SHARE = 0.001
PROVABLE = 0.75
"""A difference of more than about so much of its margin is not proven by any number, as bets are on none and on half of it."""
MOST_LOG = 700.0
"""A float has no more."""
STATE = ("seen", "waiting", "waited", "capital", "proof", "weighed")
"""What of a test changes, and is written beside its gate."""


@dataclass(frozen=True)
class Finding:
    """What one gate knows.

    `canary`, `stable`: all that was counted; `difference`: of their shares, estimated from looks at the same time, or the
    canary's share where the gate is not paired, None before any; `upper`: it is at most this, at all times with 1 - alpha; 1 for
    not known; `grown`: what a bet on a canary that is not tolerated has made of 1; `limit`: the alarm is raised from here on;
    `proven`: that the difference is less than the margin; `needed`: about how many more of the canary's requests prove it if all
    goes on as it did, None where it would never.
    """

    gate: Gate
    canary: Count
    stable: Count
    difference: float | None
    upper: float
    grown: float
    limit: float
    proven: bool
    needed: int | None

    @property
    def alarm(self) -> bool:
        """Whether the canary has to be rolled back."""
        return self.grown >= self.limit

    @property
    def words(self) -> str:
        """The finding as a sentence."""
        gate, more = self.gate, " points more" if self.gate.paired else " %"
        told = f"{gate.name}: {_share(self.canary)} of the canary's {self.canary.total:,} {gate.unit}"
        if gate.paired:
            told += f", {_share(self.stable)} of the stable release's {self.stable.total:,}"
        if self.alarm:
            against = f"at most {100 * gate.tolerance:g}{more}"
            return f"{told}; a bet against {against} has made {self.grown:,.0f} of 1, where {self.limit:,.0f} is an alarm"
        told += f"; at most {100 * self.upper:.3g}{more}" if self.upper < 1 else "; too few to bound it"
        margin = f"{100 * gate.margin:g}{more}"
        if self.proven:
            return f"{told}, less than the margin of {margin}"
        if self.needed is not None:
            needs = f"needs about {self.needed:,} more"
        else:
            needs = "will not be proven by more of the same" if self._hopeless else "how many more that takes cannot be said yet"
        return f"{told}, not yet known to be less than the margin of {margin}: {needs}"

    @property
    def _hopeless(self) -> bool:
        """Whether the difference is above what bets on half the margin can prove by more than two standard errors."""
        if self.difference is None:
            return False
        tracks = (self.canary, self.stable) if self.gate.paired else (self.canary,)
        rate = sum(track.events for track in tracks) / max(sum(track.total for track in tracks), 1)
        error = math.sqrt(rate * (1 - rate) * sum(1 / max(track.total, 1) for track in tracks))
        return self.difference - 2 * error > PROVABLE * self.gate.margin


@dataclass(frozen=True)
class Evidence:
    """The state of all gates; each look makes a new one. `alpha`: the probability of each of the two errors."""

    tests: Mapping[str, SafeTest]
    alpha: float = ALPHA

    @classmethod
    def begin(cls, gates: Sequence[Gate] = GATES, alpha: float = ALPHA) -> Self:
        """Begin with nothing seen. Leave out a gate that nothing will be counted for: it would never be proven."""
        if not 0 < alpha < 1:
            raise ValueError(f"an alpha of {alpha} is not within 0 and 1")
        return cls({gate.name: _begun(gate, len(gates), alpha) for gate in gates}, alpha)

    def look(self, counts: Mapping[str, tuple[Count, Count]]) -> Self:
        """Take in what was counted of canary and stable release since the last look, by gate; other gates' are passed over.

        The counts of one look must be of one weight: at a change of it, look before and after. Of a gate that is not paired, the
        stable release's are passed over.
        """
        return replace(self, tests={name: _looked(test, counts.get(name)) for name, test in self.tests.items()})

    def alarms(self) -> list[Finding]:
        """The gates by which the canary has to be rolled back, the strongest first."""
        return sorted((one for one in self.findings() if one.alarm), key=lambda one: -one.grown)

    @property
    def compared(self) -> bool:
        """Whether canary and stable release were ever compared: by requests of both that were counted near to each other."""
        return any(bool(test.weighed[1] > 0) for test in self.tests.values() if test.gate.paired)

    def proven(self) -> bool:
        """Whether every gate's difference is known to be less than its margin, as promotion asks."""
        return all(bool(test.proven(self.alpha)) for test in self.tests.values())

    def findings(self, share: float | None = None) -> list[Finding]:
        """What each gate knows. `share`: the canary's part of the requests to come, for `needed`; None for that of all so far."""
        return [self._finding(test, share) for test in self.tests.values()]

    def _finding(self, test: SafeTest, share: float | None) -> Finding:
        canary, stable = _counts(test)
        proven, difference = bool(test.proven(self.alpha)), float(test.difference)
        return Finding(
            gate=test.gate,
            canary=canary,
            stable=stable,
            difference=None if math.isnan(difference) else difference,
            upper=float(test.upper(self.alpha)),
            grown=math.exp(min(float(test.log_e), MOST_LOG)),
            limit=len(self.tests) / self.alpha,
            proven=proven,
            needed=0 if proven else _needed(test, difference, share, self.alpha),
        )

    def to_json(self) -> dict[str, Any]:
        """All of it, in what JSON has; floats are written in full, so that nothing is lost."""

        def state(test: SafeTest) -> dict[str, Any]:
            return {"gate": asdict(test.gate)} | {key: getattr(test, key).tolist() for key in STATE}

        return {"alpha": self.alpha, "tests": [state(test) for test in self.tests.values()]}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """Go on where `to_json` was. Raises KeyError, TypeError and ValueError on what it did not write."""

        alpha = float(state["alpha"])

        def read(one: Mapping[str, Any]) -> SafeTest:
            gate = {name: value for name, value in one["gate"].items() if name != "together"}  # always 1, of an older version
            new, arrays = _begun(Gate(**gate), len(state["tests"]), alpha), dict[str, Any]()
            for key in STATE:
                arrays[key] = np.array(one[key])
                if arrays[key].shape != getattr(new, key).shape:
                    raise ValueError(
                        f"{key} of gate {new.gate.name} has the shape {arrays[key].shape} of another version's state"
                    )
                arrays[key] = _numbers(f"{key} of gate {new.gate.name}", arrays[key], getattr(new, key).dtype)
            return replace(new, **arrays)

        tests = [read(one) for one in state["tests"]]
        return cls({test.gate.name: test for test in tests}, alpha)


def _begun(gate: Gate, gates: int, alpha: float) -> SafeTest:
    return SafeTest.begin(gate, most_won=most_won(gates / alpha))


def _numbers(name: str, found: Int64 | Float64, wanted: np.dtype[Any]) -> Int64 | Float64:
    """What was read as the type that was written. Raises ValueError on all but finite numbers, and on counts below 0."""
    whole = wanted.kind == "i"
    if found.dtype.kind not in ("i" if whole else "if") or not np.isfinite(found).all() or (whole and (found < 0).any()):
        raise ValueError(f"{name} is {str(found.tolist())[:100]}")
    return found.astype(wanted)


def _looked(test: SafeTest, counts: tuple[Count, Count] | None) -> SafeTest:
    if counts is None:
        return test
    canary, stable = counts
    return test.look(np.array([canary.events, canary.total, stable.events, stable.total]))


def _counts(test: SafeTest) -> tuple[Count, Count]:
    canary_events, canary_total, stable_events, stable_total = test.seen.tolist()
    return Count(canary_events, canary_total), Count(stable_events, stable_total)


def _needed(test: SafeTest, difference: float, share: float | None, alpha: float) -> int | None:
    """About how many more, if the canary goes on as it did; half of those that are needed come later than that."""
    canary, stable = _counts(test)
    if math.isnan(difference):
        difference = 0.0
    if share is None:
        share = canary.total / max(canary.total + stable.total, 1)
    base = stable.events / max(stable.total, 1) if test.gate.paired else 0.0
    won = float(test.log_at_margin)
    return requests_to_prove(test.gate, base, min(max(share, LEAST_SHARE), 1 - LEAST_SHARE), alpha, 0.5, difference, won)


def _share(count: Count) -> str:
    return f"{100 * count.events / count.total:.3g} %" if count.total else "none"
