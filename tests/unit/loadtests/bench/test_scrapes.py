"""Scrapes far apart and sparse traffic: the figures of docs/rollout.md, from fewer simulated releases, with room for chance."""

import math
from dataclasses import replace

import numpy as np
import pytest

from loadtests.bench import scrapes as bench
from loadtests.bench.scrapes import LIMIT, PERIOD_S, Traffic, looks, needed, rolled_back
from rollout.gates import GATES

GATE = {gate.name: gate for gate in GATES}
N = 100


def test_counts_are_of_the_scrapes_since_the_last_look():
    """Scrapes every 60 s and looks every 20: one look of three has what 60 s brought, at each pod at another one."""
    traffic = Traffic(GATE["errors"], gap_s=0.5, weight=0.25, canary=0.5, scrape_s=60, look_s=20, pods=2)
    found = np.stack(list(looks(traffic, 2_000, 9, 1)))
    assert found.shape == (9, 2_000, 4)
    each = 60 / 0.5 / 2 * np.array([0.25 * 0.5, 0.25, 0.0, 0.75])  # of one pod
    assert found.mean(axis=(0, 1)) == pytest.approx(2 * each / 3, rel=0.02)
    assert found.reshape(3, 3, 2_000, 4).sum(axis=1).mean(axis=(0, 1)) == pytest.approx(2 * each, rel=0.02)
    # of a look both pods have it in 1/9, one in 4/9, none in 4/9: of the canary's the last is nearly all zeros
    assert (found[:, :, 1] == 0).mean() == pytest.approx(4 / 9, abs=0.01)


def test_rates_swing_with_the_time_of_the_requests():
    """Over one period the level is 1 on the average; in looks of a 60th of it, it lies between 0.1 and 1.9."""
    traffic = Traffic(GATE["errors"], gap_s=0.01, weight=0.5, stable=0.2, canary=0.2, swing=0.9, scrape_s=30, look_s=30)
    found = np.stack(list(looks(traffic, 50, round(PERIOD_S / 30), 1)))
    shares = found[..., 0] / found[..., 1]
    assert shares.mean() == pytest.approx(0.2, rel=0.01)
    assert shares.max() == pytest.approx(0.2 * 1.9, rel=0.1)
    assert shares.min() == pytest.approx(0.2 * 0.1, rel=0.5)


@pytest.mark.parametrize(("scrape_s", "look_s"), bench.TIMES_S)
@pytest.mark.parametrize("gap_s", [30, 120])
def test_a_clear_effect_is_found_with_as_few_requests_where_traffic_is_sparse(scrape_s, look_s, gap_s):
    """Half of the canary's requests fail, and none of the stable release's.

    Dense: one request a second of each track, scraped and looked at every 15 s, needs 58 in half of the releases, 71 in 95 %.
    """
    dense = Traffic(GATE["errors"], 0.5, canary=0.5)
    most = np.quantile(needed(dense, N, 1), 0.95, method="higher")
    found = needed(replace(dense, gap_s=gap_s / 2, scrape_s=scrape_s, look_s=look_s), N, 1)
    assert np.quantile(found, 0.95, method="higher") <= most <= 80
    assert np.median(found) <= 35


@pytest.mark.parametrize("name", ["errors", "flagged"])
@pytest.mark.parametrize("weight", [0.05, 0.5])
def test_the_same_release_is_taken_back_no_more_often_where_traffic_is_sparse(name, weight):
    """Rates swing by 90 % while requests wait for those of the other track."""
    base = dict(bench.SAME)[name]
    share, mean = rolled_back(Traffic(GATE[name], 30.0, weight, base, base, 0.9, scrape_s=60), 200, 3)
    assert share <= math.exp(-LIMIT) + 3 * math.sqrt(math.exp(-LIMIT) / 200)
    assert mean <= 1.1


def test_both_tables_are_printed(capsys, monkeypatch):
    monkeypatch.setattr(bench, "GAPS_S", (30,))
    monkeypatch.setattr(bench, "TIMES_S", ((60, 15),))
    monkeypatch.setattr(bench, "HOURS", 0.1)
    assert bench.main(["--releases", "5"]) == 0
    assert capsys.readouterr().out.count("\n| ") == 2 * 2 + 1 + len(bench.SAME) * len(bench.WEIGHTS)
