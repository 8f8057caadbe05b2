"""Simulated releases, fewer than docs/rollout.md has of each: its figures, with room for chance."""

import math
from dataclasses import replace

import numpy as np
import pytest

from loadtests.bench import releases as bench
from loadtests.bench.releases import (
    ALPHA,
    BASES,
    BY_NAME,
    EFFECTS,
    LOOKS,
    NEVER,
    SIZES,
    STEPS,
    SWING,
    Scenario,
    draw,
    simulate,
    stalling,
)
from rollout.gates import GATES
from rollout.planning import requests_to_find, requests_to_prove
from rollout.safe_test import MOST_WON

N = 300


def at_most(share: float) -> float:
    """What a share of N releases may be by chance: three standard errors more."""
    return share + 3 * math.sqrt(share * (1 - share) / N)


def test_counts_are_drawn_as_the_scenario_says():
    scenario = Scenario(BY_NAME["slow"], 0.2, 0.1, weights=STEPS, per_s=40.0, swing=0.5, begins=90)
    for look in (10, 100, 170):
        counts = draw(scenario, look, 20_000, np.random.default_rng(1))
        phase = 2 * math.pi * (look + 0.5) / LOOKS
        canary, stable = counts[:, 1].mean(), counts[:, 3].mean()
        assert canary + stable == pytest.approx(400 * (1 + 0.5 * math.cos(phase)), rel=0.01)
        assert canary / (canary + stable) == pytest.approx(STEPS[look], rel=0.02)
        level = 0.2 * (1 + 0.5 * math.sin(phase))
        assert counts[:, 2].sum() / counts[:, 3].sum() == pytest.approx(level, rel=0.02)
        assert counts[:, 0].sum() / counts[:, 1].sum() == pytest.approx(level + 0.1 * (look >= 90), rel=0.03)


def test_an_excess_that_swings_meets_the_canary_s_requests_at_57_percent_of_its_average():
    """By arithmetic: weights times traffic times level, over weights times traffic. docs/rollout.md."""
    phases = [2 * math.pi * (look + 0.5) / LOOKS for look in range(LOOKS)]
    requests = [weight * (1 + SWING * math.cos(phase)) for weight, phase in zip(STEPS, phases, strict=True)]
    excess = [more * (1 + SWING * math.sin(phase)) for more, phase in zip(requests, phases, strict=True)]
    assert sum(excess) / sum(requests) == pytest.approx(0.57, abs=0.005)


@pytest.mark.parametrize("name", ["errors", "slower", "flagged"])
def test_of_what_is_tolerated_few_are_rolled_back_while_rates_and_weights_change(name):
    """Each gate has a seventh of 5 %; E's mean is 1 at most."""
    gate = BY_NAME[name]
    outcome = simulate(Scenario(gate, BASES[name], gate.tolerance, STEPS, swing=SWING), N, 1)
    assert (outcome.alarm.look != NEVER).mean() <= at_most(ALPHA / len(GATES))
    assert outcome.capital.mean() <= 1 + 3 * outcome.capital.std() / math.sqrt(N)


@pytest.mark.parametrize("name", ["errors", "slower", "flagged"])
def test_at_the_margin_few_are_proven_while_rates_and_weights_change(name):
    gate = BY_NAME[name]
    outcome = simulate(Scenario(gate, BASES[name], gate.margin, STEPS, swing=SWING), N, 2, proof_alone=True)
    assert (outcome.proof.look != NEVER).mean() <= at_most(ALPHA)
    assert outcome.proof_capital.mean() <= 1 + 3 * outcome.proof_capital.std() / math.sqrt(N)


def test_sums_over_looks_would_promote_what_is_at_its_margin():
    gate = BY_NAME["flagged"]
    outcome = simulate(Scenario(gate, BASES["flagged"], gate.margin, STEPS, swing=SWING), 50, 2, proof_alone=True)
    assert (outcome.sums.look != NEVER).mean() > 0.9


@pytest.mark.parametrize(("name", "base", "worse"), EFFECTS)
def test_effects_are_found_at_20_requests_a_second_and_a_weight_of_ten_percent(name, base, worse):
    """With the requests that the forecast says, or fewer, but for the first looks, as none wins more than 12 times the stake."""
    gate = BY_NAME[name]
    alarm = simulate(Scenario(gate, base, worse - base), N, 3).alarm
    assert (alarm.look != NEVER).mean() >= 0.95
    needs = float(np.quantile(alarm.requests[alarm.look != NEVER], 0.95))
    forecast = requests_to_find(gate, base, worse - base, 0.1, ALPHA / len(GATES))
    assert forecast is not None
    assert 0.6 * forecast <= needs <= 1.4 * forecast + 4 * 20


def test_an_effect_that_begins_late_is_found_too():
    alarm = simulate(Scenario(BY_NAME["slow"], 0.05, 0.05, begins=LOOKS // 2), 100, 4).alarm
    assert (alarm.look != NEVER).mean() >= 0.85


@pytest.mark.parametrize(("name", "weight"), [("errors", 0.1), ("slower", 0.5), ("flagged", 0.1)])
def test_the_same_release_is_proven_with_the_requests_of_the_forecast(name, weight):
    gate = BY_NAME[name]
    scenario = Scenario(gate, BASES[name], weights=(weight,) * LOOKS, per_s=60.0)
    proof = simulate(scenario, N, 5, proof_alone=True).proof
    forecast = requests_to_prove(gate, BASES[name], weight, ALPHA)
    assert forecast is not None
    assert 0.5 * forecast <= np.quantile(proof.requests[proof.look != NEVER], 0.95) <= 1.5 * forecast


@pytest.mark.parametrize(("sizes", "alike"), [form[1:] for form in SIZES])
def test_images_are_drawn_as_alike_as_the_scenario_says(sizes, alike):
    """A look's images by arithmetic: their mean number, and the variance of events for requests of a Poisson number."""
    scenario = Scenario(BY_NAME["flagged"], 0.2, weights=(0.5,) * LOOKS, sizes=sizes, alike=alike, drawn=False)
    counts = draw(scenario, 0, 40_000, np.random.default_rng(1))
    images = 100 * sum(share * size for share, size in sizes)
    assert counts[:, 1].mean() == pytest.approx(images, rel=0.02)
    # of Poisson(n) requests with s events each: n E(s²); of m images, E(s²) = m p (1 - p) (1 + (m - 1) alike) + (m p)²
    squares = [share * (m * 0.16 * (1 + (m - 1) * alike) + (0.2 * m) ** 2) for share, m in sizes]
    assert counts[:, 0].var() == pytest.approx(100 * sum(squares), rel=0.05)
    one = draw(replace(scenario, drawn=True), 0, 40_000, np.random.default_rng(1))
    assert one[:, 1].mean() == pytest.approx(100, rel=0.02)
    assert one[:, 0].var() == pytest.approx(100 * 0.2, rel=0.05)


@pytest.mark.parametrize(("sizes", "alike"), [form[1:] for form in SIZES])
def test_images_of_one_request_are_no_evidence_each(sizes, alike):
    scenario = Scenario(BY_NAME["flagged"], 0.2, weights=STEPS, sizes=sizes, alike=alike)
    assert (simulate(replace(scenario, drawn=False), 100, 6).alarm.look != NEVER).mean() > 0.15
    assert (simulate(scenario, N, 6).alarm.look != NEVER).mean() <= at_most(ALPHA / len(GATES))
    at_margin = simulate(replace(scenario, effect=0.05), N, 6, proof_alone=True).proof
    assert (at_margin.look != NEVER).mean() <= at_most(ALPHA)


def test_images_that_a_shadow_chose_of_one_request_are_no_evidence_each():
    gate = BY_NAME["disagreement"]
    scenario = Scenario(gate, gate.tolerance, per_s=4.0, sizes=((1.0, 16),))
    assert (simulate(replace(scenario, drawn=False), 100, 6).alarm.look != NEVER).mean() > 0.5
    assert (simulate(scenario, N, 6).alarm.look != NEVER).mean() <= at_most(ALPHA / len(GATES))


def test_pods_that_stall_by_themselves_take_back_few_releases():
    """A pod that stands still for 5 s makes all of its answers slow at once: one piece of evidence, and not a hundred."""
    limit = math.log(len(GATES) / ALPHA)
    assert (stalling(5, 4, 1, 0.25, N, MOST_WON) >= limit).mean() <= at_most(ALPHA)
    assert (stalling(5, 4, 1, 0.25, 50, math.inf) >= limit).mean() > 0.5


def test_tables_are_printed(capsys):
    assert bench.main(["--releases", "2", "--tables", "alike"]) == 0
    table = capsys.readouterr().out.strip().splitlines()
    assert table[0] == bench.TABLES["alike"].__doc__
    assert [line.count("|") for line in table[2:]] == [10] * 5
