"""Runs beside each other on the same test images: figures with intervals, paired tests, and the rule that picks a champion.

The rule: of the runs that are shown to keep the bounds on missed positives and on latency, the one with the least expected
cost of a test image; of equals the first by name. It takes the champion's place where it is shown to cost less, the chances of
all challengers counted together. Where the champion is shown to break a bound, it is enough that it is not shown to cost more.
Between the two limits of a bound the champion stays, so that neither of two runs drives out the other by chance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from handlers import decision
from handlers.arrays import Bools, Float64, Floats, Ints
from handlers.spec import Spec
from training.decisions import calibration, chance, mix
from training.decisions.chance import Groups
from training.decisions.thresholds import side_costs
from training.errors import CompareError

MEASURES = ("accuracy", "macro_f1", "fnr", "ece", "expected_cost")
RESAMPLES, SEED, LEVEL = 2000, 0, 0.95
FAMILY = (1 - LEVEL) / 2
"""The chance, one-sided, with which any of several challengers is found cheaper than a champion that is as good."""


@dataclass(frozen=True)
class Archive:
    """The archive of a run. `latency_ms` is the median of one image, by backend; `backend` is the one that serves.

    `latency_limits_ms`: the interval of 95 % of each median.
    """

    digest: str
    version: str
    bytes: int
    backend: str
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    latency_limits_ms: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A run with its answers to the test split.

    `paths`: N, sorted; `truth`: (N,), classes; `probabilities`: (N, K), calibrated; `parameters`: of its config, flat;
    `groups`: N, where the images come in groups; `folder`: of the run, where that is at hand.
    """

    name: str
    run_id: str
    spec: Spec
    paths: tuple[str, ...]
    truth: Ints
    probabilities: Floats
    parameters: Mapping[str, str]
    archive: Archive | None = None
    groups: tuple[str, ...] | None = None
    folder: Path | None = None

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

    @cached_property
    def weights(self) -> Float64:
        """What each image counts in a mean, (N,): by the mix of labels that the spec states to come, else all alike."""
        return mix.weights(self.truth, self.spec.decision.prevalence)

    @cached_property
    def missed(self) -> tuple[Bools, Groups | None]:
        """Which of the positive images are missed, (P,), and their groups."""
        positive = np.isin(self.truth, self.spec.positive_index)
        return ~self.flagged[positive], chance.only(self.groups, positive)

    def measure(self, rows: Ints | slice = slice(None)) -> dict[str, float]:
        """Compute MEASURES over some of the images, NaN where one is not defined. rows: indices, which may repeat.

        Cost and ECE are for the mix of labels that is stated to come, where one is.
        """
        truth, predicted, weights = self.truth[rows], self.predicted[rows], self.weights[rows]
        right = truth == predicted
        positive = np.isin(truth, self.spec.positive_index)
        return {
            "accuracy": float(right.mean()),
            "macro_f1": macro_f1(truth, predicted, len(self.spec.labels)),
            "fnr": float((~self.flagged[rows][positive]).mean()) if positive.any() else math.nan,
            "ece": calibration.reliability_of(self.probabilities[rows].max(axis=1), right, weights=weights).ece,
            "expected_cost": float(np.average(self.costs[rows], weights=weights)),
        }


@dataclass(frozen=True)
class Interval:
    """A figure and its interval at LEVEL, NaN to NaN where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Versus:
    """A run beside the champion, image by image.

    `only_it`, `only_champion`: images that the one labels right and the other wrong; `labels_p` tests them, two-sided. `cost`:
    the run's expected cost less the champion's; `cheaper_p`, `costlier_p`: one-sided tests of it. The p-values of a `family` of
    challengers are adjusted for their number.
    """

    only_it: int
    only_champion: int
    labels_p: float
    cost: Interval
    cheaper_p: float
    costlier_p: float

    def describe(self) -> str:
        """Describe the difference in cost in words."""
        cost = self.cost
        return (
            f"its cost less the champion's is {cost.value:.4f} (95 % interval {cost.low:.4f} to {cost.high:.4f}), p of being no "
            f"cheaper {self.cheaper_p:.4f}"
        )


@dataclass(frozen=True)
class Rule:
    """The bounds of the rule, None for no bound: `max_fnr` among positives, `max_latency_ms` of the backend that serves.

    Both are judged by limits of confidence, not as measured: a newcomer must be shown to keep them, a champion to break them.
    """

    max_fnr: float | None = None
    max_latency_ms: float | None = None

    def describe(self) -> str:
        """Describe the rule in words."""
        bounds = [f"at most {self.max_fnr:g} of the positives"] if self.max_fnr is not None else []
        bounds = [f"miss {bound}" for bound in bounds]
        bounds += [f"take at most {self.max_latency_ms:g} ms"] if self.max_latency_ms is not None else []
        among = f"Of the runs that are shown, at a confidence of 95 %, to {' and to '.join(bounds)}" if bounds else "Of all runs"
        return f"{among}, the one with the least expected cost of a test image; of equals the first by name."

    def objections(self, candidate: Candidate) -> list[str]:
        """Say in words which bounds a run is not shown to keep: those that its upper limit of confidence lies above."""
        found = []
        if self.max_fnr is not None:
            missed, groups = candidate.missed
            high = chance.rate_limits(missed, groups)[1]
            if not len(missed):
                found.append(f"has no positive images of which at most {self.max_fnr:g} could be missed")
            elif high > self.max_fnr:
                found.append(
                    f"misses {missed.mean():.4f} of the {len(missed)} positives and perhaps {high:.4f}, above {self.max_fnr:g}"
                )
        if self.max_latency_ms is not None:
            limits = _latency(candidate)
            if limits is None:
                found.append("has no archive whose latency could be measured; make one with `visor archive`")
            elif limits[1] > self.max_latency_ms:
                found.append(f"takes {limits[0]:.1f} to {limits[1]:.1f} ms, above {self.max_latency_ms:g}")
        return found

    def breaches(self, champion: Candidate) -> list[str]:
        """Say in words which bounds a run is shown to break: those that its lower limit of confidence lies above."""
        found = []
        if self.max_fnr is not None and (low := chance.rate_limits(*champion.missed)[0]) > self.max_fnr:
            found.append(f"misses {champion.missed[0].mean():.4f} of the positives, at least {low:.4f}, above {self.max_fnr:g}")
        limits = _latency(champion)
        if self.max_latency_ms is not None and limits is not None and limits[0] > self.max_latency_ms:
            found.append(f"takes {limits[0]:.1f} to {limits[1]:.1f} ms, above {self.max_latency_ms:g}")
        return found

    def choose(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """Choose the best run of those that keep the bounds; None where none does."""
        able = [candidate for candidate in candidates if not self.objections(candidate)]
        return min(able, key=lambda one: (one.measure()["expected_cost"], one.name), default=None)

    def judge(
        self, challenger: Candidate, champion: Candidate | None, versus: Versus | None, level: float = FAMILY
    ) -> tuple[bool, str]:
        """Decide whether the challenger takes the champion's place, and say why or why not.

        `level`: the chance of a false win that this challenger may use up.
        """
        if objections := self.objections(challenger):
            return False, f"{challenger.name} {' and '.join(objections)}"
        if champion is None or versus is None:
            bounds = [
                name for name, value in (("max_fnr", self.max_fnr), ("max_latency_ms", self.max_latency_ms)) if value is not None
            ]
            kept = f"within {' and '.join(bounds)}" if bounds else "asked to keep no bound"
            return True, f"there is no champion, and {challenger.name} is {kept}"
        if breaches := self.breaches(champion):
            because = f"the champion {' and '.join(breaches)}"
            if versus.costlier_p <= FAMILY:
                return False, f"{because}, but {challenger.name} costs more: {versus.describe()}"
            return True, f"{because}; {versus.describe()}"
        if versus.cost.value < 0 and versus.cheaper_p <= level:
            return True, versus.describe()
        return False, f"{versus.describe()}, not at most {level:.2g}"


def spent(challengers: int) -> float:
    """Return the level of the n-th challenger of one champion, so that those of all challengers add up to 1 - LEVEL at most.

    It is (1 - LEVEL) / (n (n + 1)): FAMILY for the first, and the sum over all n is 1 - LEVEL. Each retraining that is tried
    against a champion is a challenger, whether it was compared at the same time or not.
    """
    return (1 - LEVEL) / (challengers * (challengers + 1))


def _latency(candidate: Candidate) -> tuple[float, float] | None:
    archive = candidate.archive
    return archive.latency_limits_ms.get(archive.backend) if archive else None


@dataclass(frozen=True)
class Row:
    """A run in a comparison. `versus`: None for the champion itself, or where there is none."""

    candidate: Candidate
    figures: dict[str, Interval]
    versus: Versus | None
    objections: list[str]


@dataclass(frozen=True)
class Sealed:
    """The chosen run's figures on the sealed split, with `backend`. `before`: runs of the comparison that it was opened for."""

    figures: dict[str, Interval]
    images: int
    backend: str
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audits:
    """What runs answer on audits: pictures that were drawn at random of what a server was asked, and that none learns from.

    `figures`: by run; `reference`: the run that the others are beside, the champion where it was asked; `versus`: by run, of the
    others; `not_asked`: runs that are known from MLflow alone.
    """

    images: int
    reference: str
    figures: Mapping[str, Mapping[str, Interval]]
    versus: Mapping[str, Versus]
    not_asked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Several runs beside each other. `champion` names the registry's, where it is among the rows; `chosen` names the rule's.

    `sealed`: what the chosen run answers on images that nothing has seen, where these were asked for; `audits`: what all runs
    answer on audits, where these were.
    """

    rule: Rule
    rows: list[Row]
    champion: str | None
    chosen: str | None
    seed: int
    resamples: int
    sealed: Sealed | None = None
    audits: Audits | None = None

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


def resamples(images: int, count: int = RESAMPLES, seed: int = SEED, groups: Groups | None = None) -> list[Ints]:
    """Draw the rows of `count` bootstrap samples, the same for every run: Efron & Tibshirani 1993, section 8.3 for pairs.

    Where images come in groups, whole groups are drawn (the cluster bootstrap: Davison & Hinkley 1997, section 3.8).
    """
    generator = np.random.default_rng(seed)
    if groups is None:
        return [generator.integers(0, images, images) for _ in range(count)]
    numbers = chance.number(groups)
    members = np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])
    drawn = (generator.integers(0, len(members), len(members)) for _ in range(count))
    return [np.concatenate([members[group] for group in sample]) for sample in drawn]


def intervals(candidate: Candidate, drawn: Sequence[Ints]) -> dict[str, Interval]:
    """Compute MEASURES with intervals.

    Those of the rates, accuracy and FNR, are `chance.rate_interval`, since a bootstrap of no error has none. Those of macro F1
    and expected cost are percentiles; resamples in which a measure is not defined are left out of it. The ECE has none: a
    resample of a perfectly calibrated model has a larger one, so that percentiles would never hold the true 0.
    """
    values, samples = candidate.measure(), [candidate.measure(rows) for rows in drawn]
    found = {name: _interval(values[name], np.array([sample[name] for sample in samples])) for name in MEASURES}
    rates = {"accuracy": (candidate.predicted == candidate.truth, candidate.groups), "fnr": candidate.missed}
    for name, (hits, groups) in rates.items():
        found[name] = Interval(values[name], *(chance.rate_interval(hits, groups) or (math.nan, math.nan)))
    return found | {"ece": Interval(values["ece"], math.nan, math.nan)}


def versus(candidate: Candidate, champion: Candidate, drawn: Sequence[Ints], level: float = FAMILY, seed: int = SEED) -> Versus:
    """Compare a candidate with the champion, image by image, or group by group where images come in groups.

    Costs are tested by flipping signs, of which so many are drawn that a p-value of a tenth of `level` can be seen. Labels are
    tested by McNemar's exact test, those of groups by flipping signs, too. Raises CompareError where they answered different
    images or questions.
    """
    check_comparable([champion, candidate])
    groups = candidate.groups or champion.groups
    right = [one.predicted == one.truth for one in (candidate, champion)]
    difference, weights = candidate.costs - champion.costs, champion.weights
    means = np.array([np.average(difference[rows], weights=weights[rows]) for rows in drawn])
    only_it, only_champion, labels_p = mcnemar(*right)
    if groups is not None:
        labels_p = min(1.0, 2 * min(chance.sign_flips(right[0].astype(float) - right[1], groups, seed=seed)))
    flips = max(chance.FLIPS, math.ceil(10 / level) - 1)
    tested = chance.sign_flips(weights * difference, groups, flips, seed)
    return Versus(only_it, only_champion, labels_p, _interval(float(np.average(difference, weights=weights)), means), *tested)


def family(challengers: Sequence[Versus]) -> list[Versus]:
    """Adjust the p-values of several challengers of one champion for their number (Holm 1979)."""
    labels = chance.holm([one.labels_p for one in challengers])
    cheaper = chance.holm([one.cheaper_p for one in challengers])
    costlier = chance.holm([one.costlier_p for one in challengers])
    return [
        replace(one, labels_p=p, cheaper_p=below, costlier_p=above)
        for one, p, below, above in zip(challengers, labels, cheaper, costlier, strict=True)
    ]


def check_comparable(candidates: Sequence[Candidate]) -> None:
    """Raise CompareError unless all answered the same test images, with the same labels at the same costs."""
    first = candidates[0]
    for other in candidates[1:]:
        one, another = (
            f"{candidate.name} (run {candidate.run_id})" if other.name == first.name else candidate.name
            for candidate in (first, other)
        )
        if other.spec.labels != first.spec.labels:
            raise CompareError(
                f"{another} and {one} have other labels, {', '.join(other.spec.labels)} and "
                f"{', '.join(first.spec.labels)}, so that their figures say nothing of each other; compare runs of one data set"
            )
        if other.paths != first.paths or not np.array_equal(other.truth, first.truth):
            raise CompareError(
                f"{another} was tested on other images than {one}: {len(other.paths)}, {len(first.paths)}, "
                f"{len(set(other.paths) & set(first.paths))} of them in both; compare runs of one data set and split"
            )
        decisions = [candidate.spec.decision for candidate in (other, first)]
        rules = [(rule.positive, rule.cost, rule.review_cost, rule.prevalence) for rule in decisions]
        if rules[0] != rules[1]:
            raise CompareError(
                f"{another} counts other costs, or another mix of labels to come, than {one}; evaluate both with the "
                "same `decision`"
            )


def groups_of(candidates: Sequence[Candidate]) -> tuple[str, ...] | None:
    """Return the test images' groups, which runs of older versions have not saved; None where no run has."""
    return next((one.groups for one in candidates if one.groups is not None), None)


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
