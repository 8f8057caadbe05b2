"""A gate's evidence: against a second implementation, over all counts there can be, and what it must not be misled by."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from rollout.gates import GATES, Gate
from rollout.safe_test import PATIENCE, SafeTest
from tests.unit.rollout.naive import Naive

GATE = {gate.name: gate for gate in GATES}
WIDE = Gate("wide", margin=0.3, tolerance=0.1)
ALPHA = 0.05


def looked(gate, looks):
    """The test after looks of (canary's events, total, stable's events, total)."""
    test = SafeTest.begin(gate)
    for counts in looks:
        test = test.look(np.array(counts))
    return test


def drawn(rng, looks, canary_rate, stable_rate, canary_mean, stable_mean):
    for _ in range(looks):
        canary, stable = rng.poisson(canary_mean), rng.poisson(stable_mean)
        yield int(rng.binomial(canary, canary_rate)), int(canary), int(rng.binomial(stable, stable_rate)), int(stable)


SITUATIONS = [
    ("errors", 0.02, 0.001, 3, 30),
    ("errors", 0.0, 0.0, 20, 20),
    ("slow", 0.3, 0.05, 1, 9),
    ("slower", 0.04, 0.04, 0.5, 1),  # looks of one track, and of none
    ("flagged", 0.2, 0.2, 20, 20),
    ("flagged", 1.0, 0.97, 5, 20),  # nearly all are
    ("reviewed", 0.0, 0.5, 20, 20),
    ("disagreement", 0.08, 0.0, 6, 0),
    ("disagreement", 0.01, 0.0, 6, 0),
]


@pytest.mark.parametrize(("name", "canary_rate", "stable_rate", "canary_mean", "stable_mean"), SITUATIONS)
def test_it_says_what_a_second_implementation_says(name, canary_rate, stable_rate, canary_mean, stable_mean):
    naive, test = Naive(GATE[name]), SafeTest.begin(GATE[name])
    for counts in drawn(np.random.default_rng(3), 40, canary_rate, stable_rate, canary_mean, stable_mean):
        naive.look(*counts)
        test = test.look(np.array(counts))
        assert np.exp(test.capital) == pytest.approx(naive.capital, rel=1e-6)
        assert np.exp(test.proof) == pytest.approx(np.array(naive.proof), rel=1e-6)
    assert test.log_e == pytest.approx(math.log(sum(naive.capital)), abs=1e-6)


def test_releases_side_by_side_are_as_each_alone():
    looks = [list(drawn(np.random.default_rng(seed), 20, 0.1, 0.1, 2, 8)) for seed in range(5)]
    test = SafeTest.begin(WIDE, (5,))
    for counts in zip(*looks, strict=True):
        test = test.look(np.array(counts))
    for number, alone in enumerate(looks):
        assert test.capital[number] == pytest.approx(looked(WIDE, alone).capital)
        assert test.proof[number] == pytest.approx(looked(WIDE, alone).proof)


def all_paths(gate, blocks, rates):
    """Capitals after a first look, at which nothing is bet, and more, over all their counts: (paths,) chances, E and proofs."""
    choices = [np.arange(total + 1) for block in blocks for total in block]
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*choices, indexing="ij")], axis=-1)
    test = SafeTest.begin(gate, (len(grid),)).look(np.tile([1, 4, 1, 4], (len(grid), 1)))
    chance = np.ones(len(grid))
    for number, ((canary, stable), (canary_rate, stable_rate)) in enumerate(zip(blocks, rates, strict=True)):
        ours, theirs = grid[:, 2 * number], grid[:, 2 * number + 1]
        test = test.look(np.stack([ours, np.full_like(ours, canary), theirs, np.full_like(theirs, stable)], axis=-1))
        chance *= binom.pmf(ours, canary, canary_rate) * binom.pmf(theirs, stable, stable_rate)
    return chance, np.exp(test.log_e), np.exp(test.log_at_margin)


LEVELS = [(0.0, 0.6), (0.05, 0.05), (0.5, 0.1), (0.6, 0.0)]
"""Of the stable release, at the two looks: they swing."""


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("blocks", [((2, 3), (3, 2)), ((1, 6), (6, 1))])
def test_the_capital_s_mean_is_one_at_most_where_the_canary_is_tolerated(levels, blocks):
    """Exactly, over all counts of two looks: this alone makes it valid at all times (Ville 1939)."""
    for more in (WIDE.tolerance, 0.0, -0.1):
        chance, e, _ = all_paths(WIDE, blocks, [(max(level + more, 0), level) for level in levels])
        assert chance.sum() == pytest.approx(1)
        assert (chance * e).sum() <= 1 + 1e-9


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("blocks", [((2, 3), (3, 2)), ((1, 6), (6, 1))])
def test_the_proof_s_mean_is_one_at_most_where_the_canary_is_at_its_margin_or_above(levels, blocks):
    for more in (WIDE.margin, 0.4):
        chance, _, proof = all_paths(WIDE, blocks, [(level + more, level) for level in levels])
        assert (chance * proof).sum() <= 1 + 1e-9


def test_both_are_expected_to_win_where_they_are_right():
    chance, e, _ = all_paths(WIDE, ((4, 4), (4, 4)), [(0.9, 0.1)] * 2)
    assert (chance * e).sum() > 1.5
    chance, _, proof = all_paths(WIDE, ((4, 4), (4, 4)), [(0.2, 0.2)] * 2)
    assert (chance * proof).sum() > 1.2


@pytest.mark.parametrize("name", ["errors", "slow", "flagged"])
def test_a_canary_that_is_better_or_the_same_makes_nothing_for_the_alarm(name):
    same = looked(GATE[name], [(10, 100, 90, 900)] * 100)
    better = looked(GATE[name], [(2, 100, 90, 900)] * 100)
    assert same.log_e < 0
    assert better.log_e < 0
    assert not same.proven(ALPHA) or better.proven(ALPHA)


def test_without_any_event_a_canary_is_proven_by_enough_requests_and_never_blamed():
    few, many = (looked(GATE["errors"], [(0, 100, 0, 100)] * looks) for looks in (4, 30))
    assert not few.proven(ALPHA)
    assert many.proven(ALPHA)
    assert many.log_e < 0
    assert many.difference == 0


def test_errors_of_the_canary_alone_are_found_where_the_stable_release_had_none():
    test = looked(GATE["errors"], [(0, 20, 0, 180)] + [(2, 20, 0, 180)] * 4)
    assert test.log_e >= math.log(len(GATES) / ALPHA)


def test_a_canary_that_gets_bad_late_is_found_nearly_as_soon():
    def looks_until_found(before):
        test = looked(GATE["errors"], [(0, 50, 0, 450)] * before)
        for look in range(100):
            if test.log_e >= math.log(len(GATES) / ALPHA):
                return look
            test = test.look(np.array([2, 50, 0, 450]))
        return None

    assert looks_until_found(5) <= 5
    assert looks_until_found(500) <= 2 * looks_until_found(5)


def test_what_was_proven_is_lost_by_a_canary_that_gets_bad():
    test = looked(GATE["flagged"], [(20, 100, 20, 100)] * 30)
    assert test.proven(ALPHA)
    for _ in range(30):
        test = test.look(np.array([35, 100, 20, 100]))
    assert not test.proven(ALPHA)


def simpson(more):
    """The stable rate falls from 40 to 10 % while the canary's weight goes from 5 to 50 %: counts as they are expected."""
    for weight, rate in ((0.05, 0.4), (0.25, 0.25), (0.5, 0.1)):
        canary, stable = round(2000 * weight), round(2000 * (1 - weight))
        yield from [(round(canary * (rate + more)), canary, round(stable * rate), stable)] * 20


def test_a_rate_that_falls_while_the_weight_rises_hides_nothing():
    """Sums over looks say that the canary has 4 points less (Simpson 1951); it has 5 more at each."""
    test = looked(GATE["flagged"], simpson(0.05))
    canary_events, canary_total, stable_events, stable_total = test.seen
    assert canary_events / canary_total - stable_events / stable_total < -0.04
    assert not test.proven(ALPHA)
    assert test.difference == pytest.approx(0.05, abs=0.002)
    assert test.log_e >= math.log(len(GATES) / ALPHA)
    same = looked(GATE["flagged"], simpson(0.0))
    assert same.log_e < 0
    assert same.proven(ALPHA)


def test_looks_in_which_pods_were_not_scraped_at_once_count_once_they_were():
    apart = [(2, 20, 0, 0), (0, 0, 9, 180)] * 20
    joined = [(2, 20, 9, 180)] * 20
    assert looked(GATE["slow"], apart).proof == pytest.approx(looked(GATE["slow"], joined).proof)
    assert looked(GATE["slow"], apart).difference == pytest.approx(0.05)


@pytest.mark.parametrize("name", ["errors", "flagged", "disagreement"])
@pytest.mark.parametrize("between", [1, 5, 40])
def test_a_look_that_brings_nothing_changes_nothing(name, between):
    """As between two scrapes, and where requests are few: neither patience nor what the bets have won goes by looking."""
    looks = [one for one in drawn(np.random.default_rng(4), 30, 0.3, 0.1, 0.7, 0.7) if one[1] + one[3]]
    assert any((canary == 0) != (stable == 0) for _, canary, _, stable in looks)
    now, later = looked(GATE[name], looks), looked(GATE[name], [one for found in looks for one in [(0,) * 4] * between + [found]])
    for part in ("seen", "waiting", "waited", "capital", "proof", "weighed"):
        assert getattr(later, part).tolist() == getattr(now, part).tolist()


def test_a_request_is_compared_with_the_next_one_of_the_other_track_however_late_that_comes():
    """Of one each 5 minutes, looked at every 15 s: 20 looks. The first pair tells what to bet on."""
    nothing = [(0, 0, 0, 0)] * 19
    apart = looked(GATE["errors"], [*nothing, (1, 1, 0, 0), *nothing, (0, 0, 0, 1)] * 20)
    together = looked(GATE["errors"], [(1, 1, 0, 1)] * 20)
    assert apart.log_e == together.log_e >= math.log(len(GATES) / ALPHA)
    assert apart.weighed.tolist() == [20 / 2, 20 / 2]  # 1 * 1 / (1 + 1) of each pair


def test_counts_that_waited_too_long_are_compared_with_nothing():
    """Of the shadow's time the stable release's rate is learnt, and no more; of one track alone nothing is ever won or lost."""
    shadow = looked(GATE["slow"], [(0, 0, 90, 180)] * 50)
    assert shadow.waited < PATIENCE
    assert shadow.waiting[3] <= PATIENCE * 180
    assert shadow.seen.tolist() == [0, 0, 50 * 90, 50 * 180]
    all_of_it = looked(GATE["slow"], [(1, 20, 9, 180)] * 3 + [(200, 200, 0, 0)] * 50)
    assert all_of_it.proof == pytest.approx(looked(GATE["slow"], [(1, 20, 9, 180)] * 3).proof)
    assert all_of_it.log_e < 0
    assert np.isnan(shadow.difference)


@pytest.mark.parametrize("name", ["flagged", "disagreement"])
def test_the_upper_end_closes_in_and_says_no_more_than_is_known(name):
    paired = GATE[name].paired
    ends, test = [], SafeTest.begin(GATE[name])
    assert test.upper(ALPHA) == 1
    for _ in range(200):
        test = test.look(np.array([1, 50, 1, 50] if paired else [1, 50, 0, 0]))
        ends.append(float(test.upper(ALPHA)))
        assert test.proven(ALPHA) == (ends[-1] <= GATE[name].margin)
    assert ends == sorted(ends, reverse=True)
    assert ends[-1] == (0.25 * 0.05 if paired else 0.75 * 0.05)  # of no difference, and of a share of 2 %


def test_a_canary_without_a_difference_is_proven_sooner_the_larger_the_margin():
    def looks_needed(margin):
        test, looks = SafeTest.begin(replace(GATE["flagged"], margin=margin)), 0
        while not test.proven(ALPHA):
            test, looks = test.look(np.array([20, 100, 20, 100])), looks + 1
        return looks

    needed = [looks_needed(margin) for margin in (0.02, 0.05, 0.1)]
    assert needed == sorted(needed, reverse=True)
    assert needed[0] > 4 * needed[-1]
