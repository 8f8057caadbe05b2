"""Intervals and tests against scipy, naive enumerations and simulations."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from tests.volume import SIMULATIONS
from training.decisions import chance


def clustered(rng: np.random.Generator, groups: int, size: int, rate: float, correlation: float = 0.8):
    """Hits of images in groups: with the chance sqrt(correlation) an image is as its group, so that two are correlated so."""
    own, of = rng.random((groups, size)) < rate, (rng.random(groups) < rate)[:, None]
    hits = np.where(rng.random((groups, size)) < math.sqrt(correlation), of, own)
    return hits.reshape(-1), np.repeat(np.arange(groups), size).tolist()


@pytest.mark.parametrize(("count", "n"), [(0, 7), (3, 7), (7, 7), (12, 400), (400, 400)])
def test_wilson_is_scipys(count, n):
    assert chance.wilson(count, n) == pytest.approx(tuple(binomtest(count, n).proportion_ci(0.95, "wilson")), abs=1e-12)
    assert chance.wilson(0, 0) is None


def test_images_that_go_together_count_as_their_groups():
    hits = np.array([True, True, False, False, False, False])
    assert chance.rate_interval(hits) == chance.wilson(2, 6)
    assert chance.rate_interval(hits, "aabbcc") == pytest.approx(chance.wilson(1, 3))  # each group is all alike
    assert chance.rate_interval(hits, "abcdef") == pytest.approx(chance.wilson(2, 6))
    assert chance.rate_interval(np.zeros(6, dtype=bool), "aabbcc") == chance.wilson(0, 3)
    assert chance.rate_interval(np.zeros(0, dtype=bool), []) is None


def test_the_interval_of_a_weighted_rate_covers():
    """A rate of 0.1 among common labels and of 0.3 among rare ones; half the images are of each, and weights put that right."""
    rng, weights, held = np.random.default_rng(3), np.repeat([1.96, 0.04], 200), {"weighted": 0, "as images": 0}
    for _ in range(SIMULATIONS):
        hits = rng.random(400) < np.repeat([0.1, 0.3], 200)
        (low, high), rate = chance.rate_interval(hits, weights=weights), float(np.average(hits, weights=weights))
        as_images = chance.wilson(rate * 400, 400)
        held["weighted"] += low <= 0.98 * 0.1 + 0.02 * 0.3 <= high
        held["as images"] += as_images[0] <= 0.98 * 0.1 + 0.02 * 0.3 <= as_images[1]
    assert held["weighted"] / SIMULATIONS >= 0.93
    assert held["as images"] / SIMULATIONS < 0.9
    assert chance.rate_interval(np.zeros(400, dtype=bool), weights=weights) == pytest.approx(
        chance.wilson(0, 400**2 / (200 * (1.96**2 + 0.04**2)))
    )
    assert chance.rate_interval(hits, weights=np.ones(400)) == pytest.approx(chance.wilson(int(hits.sum()), 400), abs=1e-3)


def test_the_interval_of_groups_covers():
    """Of 60 groups of 4 with correlation 0.8 about 95 % of the intervals hold the rate; counted by images far fewer do."""
    rng, covered, naive = np.random.default_rng(0), 0, 0
    for _ in range(SIMULATIONS):
        hits, groups = clustered(rng, 60, 4, 0.2)
        (low, high), (own_low, own_high) = chance.rate_interval(hits, groups), chance.rate_interval(hits)
        covered, naive = covered + (low <= 0.2 <= high), naive + (own_low <= 0.2 <= own_high)
    assert covered / SIMULATIONS > 0.92
    assert naive / SIMULATIONS < 0.82


@pytest.mark.parametrize(("count", "n"), [(0, 120), (1, 120), (2, 120), (7, 120), (120, 120)])
def test_limits_are_those_that_a_binomial_count_reaches_in_one_of_twenty(count, n):
    hits = np.arange(n) < count
    low, high = chance.rate_limits(hits)
    if count < n:
        assert binom.cdf(count, n, high) == pytest.approx(0.05, abs=1e-9)
    if count:
        assert binom.sf(count - 1, n, low) == pytest.approx(0.05, abs=1e-9)
    assert (low == 0.0) == (count == 0)
    assert chance.rate_limits(hits[:0]) == (0.0, 1.0)


def test_limits_of_groups_are_valid():
    rng, below, above = np.random.default_rng(1), 0, 0
    for _ in range(min(SIMULATIONS, 1000)):
        low, high = chance.rate_limits(*clustered(rng, 40, 5, 0.3))
        assert low <= high
        below, above = below + (high < 0.3), above + (low > 0.3)
    assert max(below, above) / min(SIMULATIONS, 1000) <= 0.05


@pytest.mark.parametrize(("total", "n", "level"), [(0, 60, 0.05), (1.5, 100, 0.05), (3, 100, 0.1), (50, 60, 0.2)])
def test_hoeffding_and_bentkus_as_they_are_written(total, n, level):
    mean = min(total / n, level)
    entropy = (mean * math.log(mean / level) if mean else 0) + (1 - mean) * math.log((1 - mean) / (1 - level))
    expected = min(math.exp(-n * entropy), math.e * sum(binom.pmf(k, n, level) for k in range(math.ceil(total) + 1)), 1)
    assert float(chance.hoeffding_bentkus(total, n, level)) == pytest.approx(expected, rel=1e-9)


def test_a_rate_is_tested_by_the_binomial():
    hits = np.arange(40) < 5
    assert chance.exceeds(hits, 0.05) == pytest.approx(sum(binom.pmf(k, 40, 0.05) for k in range(5, 41)))
    assert chance.exceeds(hits[:0], 0.05) == 1.0
    groups = np.repeat(np.arange(8), 5).tolist()
    assert chance.exceeds(hits, 0.05, groups) == pytest.approx(float(chance.hoeffding_bentkus(7.0, 8, 0.95)))


def test_holm_by_hand():
    assert chance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert chance.holm([0.6, 0.5]) == [1.0, 1.0]
    assert chance.holm([]) == []


def naive_flips(sums):
    observed, signs = sum(sums), list(itertools.product((-1, 1), repeat=len(sums)))
    totals = [sum(s * x for s, x in zip(sign, sums, strict=True)) for sign in signs]
    return tuple(sum(f(total, observed) for total in totals) / len(signs) for f in (_at_most, _at_least))


def _at_most(total, observed):
    return total <= observed + 1e-9


def _at_least(total, observed):
    return total >= observed - 1e-9


def test_sign_flips_against_all_of_them():
    rng = np.random.default_rng(2)
    values = rng.integers(-3, 4, 20) * 0.1
    groups = rng.integers(0, 8, 20).tolist()
    sums = [sum(v for v, g in zip(values, groups, strict=True) if g == group) for group in sorted(set(groups))]
    expected = naive_flips([x for x in sums if abs(x) > 1e-9])
    assert chance.sign_flips(values, groups) == pytest.approx(expected)
    drawn = chance.sign_flips(values, groups, flips=100)  # fewer than there are: drawn
    assert drawn == pytest.approx(expected, abs=0.15)
    assert chance.sign_flips(np.zeros(5)) == (1.0, 1.0)
    many = rng.normal(-0.1, 1, 400)
    z = many.sum() / math.sqrt((many**2).sum())
    assert chance.sign_flips(many)[0] == pytest.approx(0.5 * math.erfc(-z / math.sqrt(2)), abs=0.02)


@pytest.mark.parametrize(("better", "worse"), [(5, 1), (3, 3), (9, 0), (30, 14)])
def test_flips_of_one_size_are_mcnemars_test(better, worse):
    differences = np.array([-1.0] * better + [1.0] * worse + [0.0] * 50)
    p = binomtest(better, better + worse, 0.5, alternative="greater").pvalue
    assert chance.sign_flips(differences)[0] == pytest.approx(p, abs=1e-12 if better + worse <= 13 else 0.01)
