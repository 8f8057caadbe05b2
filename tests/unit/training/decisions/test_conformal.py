"""Bounds against naive searches and loops, and by simulation; the counts by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest

from handlers.decision import prediction_sets
from training.config import DecisionConfig
from training.decisions import conformal
from training.decisions.conformal import bound_fnr, fit_sets, fnr_threshold, needed, parts, resplit, spare
from training.errors import DataError


def naive_threshold(scores: np.ndarray, level: float) -> float:
    """Theorem 1 as it is written: of all thresholds that change anything, the largest whose corrected risk is allowed."""
    n, best = len(scores), None
    for threshold in sorted([0.0, *scores, *np.nextafter(scores, 2)]):
        risk = Fraction(sum(bool(score < threshold) for score in scores), n)
        if Fraction(n, n + 1) * risk + Fraction(1, n + 1) <= Fraction(str(level)):
            best = threshold
    assert best is not None
    return best


@pytest.mark.parametrize("level", [0.05, 0.1, 0.29, 0.5])
@pytest.mark.parametrize(("n", "coarse"), [(19, False), (40, False), (99, False), (60, True)])
def test_the_threshold_is_the_largest_that_theorem_1_allows(n, coarse, level):
    scores = np.random.default_rng(n).random(n)
    scores = np.round(scores, 1) if coarse else scores
    assert fnr_threshold(scores, level) == naive_threshold(scores, level)


@pytest.mark.parametrize(("level", "n"), [(0.05, 19), (0.1, 9), (0.01, 99), (0.3, 3), (0.5, 1), (0.07, 14)])
def test_how_many_images_a_level_needs(level, n):
    assert needed(level) == n
    assert spare(n, level) == 1
    assert spare(n - 1, level) == 0
    assert fnr_threshold(np.linspace(0.2, 0.9, n), level) == pytest.approx(0.2)
    with pytest.raises(DataError, match=rf"max_fnr {level:g} needs at least {n} positive.*there are {n - 1}"):
        fnr_threshold(np.linspace(0.2, 0.9, n - 1), level)


def test_levels_are_the_decimals_that_were_written():
    assert math.floor(0.29 * 100) == 28  # what floats would say
    assert spare(99, 0.29) == 29


def test_the_bound_looks_at_positive_images_alone():
    rng = np.random.default_rng(3)
    probs, truth = rng.dirichlet(np.ones(3), 200), rng.integers(0, 3, 200)
    bound = bound_fnr(probs, truth, [0, 2], 0.1)
    scores = np.array([row[0] + row[2] for row, y in zip(probs, truth, strict=True) if y != 1])
    assert bound.positives == len(scores)
    assert bound.threshold == pytest.approx(naive_threshold(scores, 0.1), abs=1e-12)


@pytest.mark.parametrize(("n", "level"), [(30, 0.1), (59, 0.05)])
def test_the_expected_rate_is_within_two_steps_of_the_level(n, level):
    # fresh draws: the chance that a uniform score is missed is the threshold itself
    rng = np.random.default_rng(0)
    missed = [fnr_threshold(rng.random(n), level) for _ in range(4000)]
    slack = 4 * np.std(missed) / np.sqrt(len(missed))
    assert level - 2 / (n + 1) - slack <= np.mean(missed) <= level + slack
    assert np.mean(missed) == pytest.approx(spare(n, level) / (n + 1), abs=slack)


def test_resplits_try_the_threshold_on_what_did_not_find_it():
    scores = np.random.default_rng(1).random(400)
    tried = resplit(scores, 150, 0.05, splits=1000, seed=2)
    assert tried.fnr.shape == tried.thresholds.shape == (1000,)
    assert tried.fnr.mean() == pytest.approx(spare(150, 0.05) / 151, abs=4 * tried.fnr.std() / np.sqrt(1000))
    drawn = np.random.default_rng(2).permutation(scores)
    assert tried.thresholds[0] == fnr_threshold(drawn[:150], 0.05)
    assert tried.fnr[0] == sum(s < tried.thresholds[0] for s in drawn[150:]) / 250


def naive_score(row: np.ndarray, label: int, method: str) -> float:
    if method == "lac":
        return 1 - row[label]
    return sum(p for k, p in enumerate(row) if p > row[label] or (p == row[label] and k < label))


@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_against_a_naive_loop(method, coverage):
    rng = np.random.default_rng(5)
    probs = rng.integers(0, 5, (120, 6)) + np.eye(6)[rng.integers(0, 6, 120)]  # with equal ones
    probs /= probs.sum(axis=1, keepdims=True)
    truth = rng.integers(0, 6, 120)
    rule = fit_sets(probs, truth, coverage, method)
    own = sorted(naive_score(row, y, method) for row, y in zip(probs, truth, strict=True))
    assert rule.limit == pytest.approx(own[math.ceil(121 * Fraction(str(coverage))) - 1], abs=1e-9)
    loose = rule.model_copy(update={"limit": rule.limit + 1e-9})  # sums in another order
    expected = [[naive_score(row, k, method) <= loose.limit for k in range(6)] for row in probs]
    assert prediction_sets(probs, loose).tolist() == expected


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_coverage_by_simulation(method):
    rng, covered = np.random.default_rng(6), []
    for _ in range(400):
        probs = rng.dirichlet(np.full(5, 0.7), 150)
        truth = (probs.cumsum(axis=1) > rng.random((150, 1)) ** 1.3).argmax(axis=1)  # not what the probabilities say
        rule = fit_sets(probs[:99], truth[:99], 0.9, method)
        covered.append(prediction_sets(probs[99:], rule)[np.arange(51), truth[99:]].mean())
    slack = 4 * np.std(covered) / np.sqrt(len(covered))
    assert np.mean(covered) >= 0.9 - slack
    if method == "lac":  # with u = 1 many adaptive scores are 0 alike, and equal scores cover more
        assert np.mean(covered) <= 0.9 + 1 / 100 + slack


def test_sets_of_too_few_images_say_how_many_are_needed():
    with pytest.raises(DataError, match=r"set_coverage 0\.9 needs at least 9 calibration images.*there are 8"):
        fit_sets(np.full((8, 2), 0.5), np.zeros(8, dtype=int), 0.9, "lac")


def test_parts_are_apart_where_scaling_moves_the_order_and_never_tear_a_group():
    groups = ["a", "a", "b", "c", "c", "d"]
    for config, classes, apart in (
        (DecisionConfig(), 3, False),
        (DecisionConfig(positive=("x",), max_fnr=0.1), 2, False),
        (DecisionConfig(positive=("x",), max_fnr=0.1), 3, True),
        (DecisionConfig(set_coverage=0.9), 3, True),
        (DecisionConfig(set_coverage=0.9, calibration="vector"), 2, True),
        (DecisionConfig(set_coverage=0.9, calibration="temperature"), 2, False),
        (DecisionConfig(positive=("x",), max_fnr=0.1, calibration="vector"), 2, False),  # a positive slope keeps the order
    ):
        scaled, bound = conformal.parts(groups, classes, config)
        if apart:
            assert scaled.tolist() == [0, 1, 3, 4]
            assert bound.tolist() == [2, 5]
        else:
            assert scaled.tolist() == bound.tolist() == list(range(6))
    assert parts(groups, 3, DecisionConfig())[0].tolist() == list(range(6))
