"""Runs beside each other on the same test images: figures with intervals, paired tests, and the rule that picks a champion.

The rule: of the runs whose rate of missed positives and whose latency keep their bounds, the one with the least expected cost
of a test image; of equals the first by name. It takes the champion's place where the champion does not keep the bounds
itself, or where the 95 % interval of the paired difference in cost lies wholly below 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.stats import binomtest

from handlers import decision
from handlers.arrays import Bools, Float64, Floats, Ints
from handlers.spec import Spec
from training.decisions import calibration
from training.decisions.thresholds import side_costs
from training.errors import CompareError

MEASURES = ("accuracy", "macro_f1", "fnr", "ece", "expected_cost")
RESAMPLES, SEED, LEVEL = 2000, 0, 0.95


@dataclass(frozen=True)
class Archive:
    """The archive of a run. `latency_ms` is the median of one image, by backend; `backend` is the one that serves."""

    digest: str
    version: str
    bytes: int
    backend: str
    latency_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A run with its answers to the test split.

    `paths`: N, sorted; `truth`: (N,), classes; `probabilities`: (N, K), calibrated; `parameters`: of its config, flat.
    """

    name: str
    run_id: str
    spec: Spec
    paths: tuple[str, ...]
    truth: Ints
    probabilities: Floats
    parameters: Mapping[str, str]
    archive: Archive | None = None

    @cached_property
    def predicted(self) -> Ints:
        """The predicted classes, (N,)."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def flagged(self) -> Bools:
        """Which images are at or above the threshold, reviewed ones too: (N,)."""
        return np.asarray(decision.scores(self.probabilities, self.spec) >= self.spec.decision.threshold)

    @cached_property
    def costs(self) -> Float64:
        """The cost of each image's outcome, (N,); `review_cost` for a reviewed one, where that is known."""
        rule, scores = self.spec.decision, decision.scores(self.probabilities, self.spec)
        above, below = side_costs(self.probabilities, self.truth, self.spec.positive_index, np.array(rule.cost), rule.review_cost)
        alone = np.where(self.flagged, above, below)
        reviewed = np.array(decision.decide(scores, self.spec)) == "review"
        return np.where(reviewed & (rule.review_cost is not None), rule.review_cost or 0.0, alone)

    def measure(self, rows: Ints | slice = slice(None)) -> dict[str, float]:
        """Compute MEASURES over some of the images, NaN where one is not defined. rows: indices, which may repeat."""
        truth, predicted = self.truth[rows], self.predicted[rows]
        positive = np.isin(truth, self.spec.positive_index)
        return {
            "accuracy": float((truth == predicted).mean()),
            "macro_f1": macro_f1(truth, predicted, len(self.spec.labels)),
            "fnr": float((~self.flagged[rows][positive]).mean()) if positive.any() else math.nan,
            "ece": calibration.ece(self.probabilities[rows], truth),
            "expected_cost": float(self.costs[rows].mean()),
        }


@dataclass(frozen=True)
class Interval:
    """A figure and its interval at LEVEL."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Versus:
    """A run beside the champion, image by image.

    `only_it`, `only_champion`: images that the one labels right and the other wrong; `mcnemar_p` of them. `cost`: the run's
    expected cost less the champion's; `not_cheaper`: in which share of the resamples the run is not cheaper.
    """

    only_it: int
    only_champion: int
    mcnemar_p: float
    cost: Interval
    not_cheaper: float


@dataclass(frozen=True)
class Rule:
    """The bounds of the rule, None for no bound: `max_fnr` on the test split, `max_latency_ms` of the backend that serves."""

    max_fnr: float | None = None
    max_latency_ms: float | None = None

    def describe(self) -> str:
        """Describe the rule in words."""
        bounds = [f"a share of missed positives of at most {self.max_fnr:g}"] if self.max_fnr is not None else []
        bounds += [f"a latency of at most {self.max_latency_ms:g} ms"] if self.max_latency_ms is not None else []
        among = f"Of the runs with {' and '.join(bounds)}" if bounds else "Of all runs"
        return f"{among}, the one with the least expected cost of a test image; of equals the first by name."

    def objections(self, candidate: Candidate) -> list[str]:
        """Say in words which bounds a run does not keep."""
        found, fnr = [], candidate.measure()["fnr"]
        if self.max_fnr is not None and not fnr <= self.max_fnr:  # NaN, too
            found.append(f"misses {fnr:.4f} of the positives, above {self.max_fnr:g}")
        if self.max_latency_ms is not None:
            archive = candidate.archive
            latency = archive.latency_ms.get(archive.backend) if archive else None
            if latency is None:
                found.append("has no archive whose latency could be measured; make one with `visor archive`")
            elif latency > self.max_latency_ms:
                found.append(f"takes {latency:.1f} ms, above {self.max_latency_ms:g}")
        return found

    def choose(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """Choose the best run of those that keep the bounds; None where none does."""
        able = [candidate for candidate in candidates if not self.objections(candidate)]
        return min(able, key=lambda one: (one.measure()["expected_cost"], one.name), default=None)

    def judge(self, challenger: Candidate, champion: Candidate | None, versus: Versus | None) -> tuple[bool, str]:
        """Decide whether the challenger takes the champion's place, and say why or why not."""
        if objections := self.objections(challenger):
            return False, f"{challenger.name} {' and '.join(objections)}"
        if champion is None or versus is None:
            return True, "there is no champion, and every bound is kept"
        if objections := self.objections(champion):
            return True, f"the champion {' and '.join(objections)}"
        cost = versus.cost
        shown = f"its cost less the champion's is {cost.value:.4f}, 95 % interval {cost.low:.4f} to {cost.high:.4f}"
        return cost.high < 0, shown if cost.high < 0 else f"{shown}, which is not wholly below 0"


@dataclass(frozen=True)
class Row:
    """A run in a comparison. `versus`: None for the champion itself, or where there is none."""

    candidate: Candidate
    figures: dict[str, Interval]
    versus: Versus | None
    objections: list[str]


@dataclass(frozen=True)
class Comparison:
    """Several runs beside each other. `champion` names the registry's, where it is among the rows; `chosen` names the rule's."""

    rule: Rule
    rows: list[Row]
    champion: str | None
    chosen: str | None
    seed: int
    resamples: int

    @property
    def differing(self) -> list[str]:
        """The parameters in which the runs differ."""
        return differing([row.candidate for row in self.rows])


def macro_f1(truth: Ints, predicted: Ints, classes: int) -> float:
    """Compute the mean F1 of the classes that have images, 0 for a class that is never predicted. truth, predicted: (N,)."""
    hits = np.bincount(truth[truth == predicted], minlength=classes)
    support, guesses = np.bincount(truth, minlength=classes), np.bincount(predicted, minlength=classes)
    there = support > 0
    return float((2 * hits[there] / (support + guesses)[there]).mean())


def mcnemar(one: Bools, other: Bools) -> tuple[int, int, float]:
    """Compute McNemar's exact two-sided test of two classifiers on the same images: (only `one` right, only `other` right, p).

    Under equal error rates the discordant images are Bin(n, 1/2) either way (Dietterich 1998, section 3.1; the binomial in
    the place of its chi-squared approximation). one, other: (N,), whether right.
    """
    first, second = int((one & ~other).sum()), int((other & ~one).sum())
    n = first + second
    return first, second, float(binomtest(first, n, 0.5).pvalue) if n else 1.0


def resamples(images: int, count: int = RESAMPLES, seed: int = SEED) -> list[Ints]:
    """Draw the rows of `count` bootstrap samples, the same for every run: Efron & Tibshirani 1993, section 8.3 for pairs."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, images, images) for _ in range(count)]


def intervals(candidate: Candidate, drawn: Sequence[Ints]) -> dict[str, Interval]:
    """Compute MEASURES with percentile intervals; resamples in which a measure is not defined are left out of it."""
    values, samples = candidate.measure(), [candidate.measure(rows) for rows in drawn]
    return {name: _interval(values[name], np.array([sample[name] for sample in samples])) for name in MEASURES}


def versus(candidate: Candidate, champion: Candidate, drawn: Sequence[Ints]) -> Versus:
    """Compare a candidate with the champion, image by image.

    Raises CompareError where they answered different images or questions.
    """
    check_comparable([champion, candidate])
    right = [one.predicted == one.truth for one in (candidate, champion)]
    difference = candidate.costs - champion.costs
    means = np.array([difference[rows].mean() for rows in drawn])
    return Versus(*mcnemar(*right), _interval(float(difference.mean()), means), float((means >= 0).mean()))


def check_comparable(candidates: Sequence[Candidate]) -> None:
    """Raise CompareError unless all answered the same test images, with the same labels at the same costs."""
    first = candidates[0]
    for other in candidates[1:]:
        if other.spec.labels != first.spec.labels:
            raise CompareError(f"{other.name} knows other labels than {first.name}: {other.spec.labels}, {first.spec.labels}")
        if other.paths != first.paths or not np.array_equal(other.truth, first.truth):
            raise CompareError(
                f"{other.name} was tested on other images than {first.name}: {len(other.paths)}, {len(first.paths)}, "
                f"{len(set(other.paths) & set(first.paths))} of them in both; compare runs of one data set and split"
            )
        rules = [(one.spec.decision.positive, one.spec.decision.cost, one.spec.decision.review_cost) for one in (other, first)]
        if rules[0] != rules[1]:
            raise CompareError(f"{other.name} counts other costs than {first.name}; evaluate both with the same `decision`")


def differing(candidates: Sequence[Candidate]) -> list[str]:
    """The parameters in which the runs differ."""
    names = sorted({name for candidate in candidates for name in candidate.parameters})
    return [name for name in names if len({candidate.parameters.get(name) for candidate in candidates}) > 1]


def _interval(value: float, samples: Floats) -> Interval:
    known = samples[~np.isnan(samples)]
    if not len(known) or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))
