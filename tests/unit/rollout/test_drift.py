"""Drift of the canary alone: the index by a naive sum, and what is said of two tracks."""

import math
import random

import numpy as np
import pytest

from rollout.drift import Reference, alone, by_figure, ratios, reference_of
from tests.unit.rollout.world import World
from watch.psi import psi

BINS = [str(number) for number in range(10)]


def reference(counts: list[int], quantile: float = 29.6, effect: float = 0.025) -> Reference:
    """A reference of one figure, by how many of its images were in each bin."""
    total = sum(counts)
    shares = {name: (count + 0.5) / (total + 5) for name, count in zip(BINS, counts, strict=True)}
    return Reference(total, effect, {"score": shares}, {"score": quantile})


def test_the_index_is_that_of_visor_drift() -> None:
    random.seed(5)
    for _ in range(20):
        known, live = ([random.randint(0, 50) for _ in BINS] for _ in range(2))
        found = ratios({"score": dict(zip(BINS, map(float, live), strict=True))}, reference(known, 1.0, 0.0))
        limit = 1 / sum(live) + 1 / sum(known)
        assert found["score"] == pytest.approx(psi(np.array(known), np.array(live)) / limit)


def test_the_limit_leaves_room_for_chance_and_for_the_least_effect() -> None:
    known = reference([24] * 10)
    live = dict.fromkeys(BINS, 50.0)
    assert ratios({"score": live}, known)["score"] == pytest.approx(0.0)
    live["9"] = 200.0
    q = [(n + 0.5) / (650 + 5) for n in live.values()]
    index = sum((share - 0.1) * math.log(share / 0.1) for share in q)
    assert ratios({"score": live}, known)["score"] == pytest.approx(index / (29.6 * (1 / 650 + 1 / 240) + 0.025))


def test_images_of_a_request_that_are_alike_count_as_one() -> None:
    known, live = reference([24] * 10), dict(zip(BINS, map(float, range(10, 30, 2)), strict=True))
    alike = {name: 16 * count for name, count in live.items()}
    assert ratios({"score": alike}, known, 190.0)["score"] == pytest.approx(ratios({"score": live}, known)["score"])
    assert ratios({"score": live}, known, 200.0) == ratios({"score": live}, known)  # no more requests than images


@pytest.mark.parametrize("alike", [1, 4, 16])
def test_a_good_canary_seldom_drifts_alone_however_alike_its_images_are(alike: int) -> None:
    """The limit leaves 1 % to chance, by the quantile of 9 degrees of freedom."""
    rng, shares, drifted = np.random.default_rng(5), np.full(10, 0.1), 0
    for _ in range(400):
        known = reference(rng.multinomial(1_000, shares).tolist(), quantile=21.666)
        own, others = (
            {"score": dict(zip(BINS, map(float, alike * rng.multinomial(n, shares)), strict=True))} for n in (500, 9_500)
        )
        drifted += bool(alone(ratios(own, known, 500.0), ratios(others, known, 9_500.0)))
    assert drifted <= 10  # 4 are expected at most; more than 10 of such have a probability of 0.3 %


def test_an_archive_without_a_reference_does_not_drift() -> None:
    assert ratios({"score": dict.fromkeys(BINS, 9.0)}, Reference()) == {}
    assert ratios({}, reference([24] * 10)) == {}


def test_gauges_of_all_pods_make_one_reference() -> None:
    series = [({"__name__": "visor_drift_reference_share", "figure": "score", "bin": "0", "pod": pod}, 0.1) for pod in ("a", "b")]
    series += [({"__name__": "visor_drift_limit_quantile", "figure": "score", "pod": "a"}, 29.6)]
    series += [({"__name__": "visor_drift_reference_images", "pod": "a"}, 240.0), ({"__name__": "visor_drift_effect"}, 0.025)]
    assert reference_of(series) == Reference(240.0, 0.025, {"score": {"0": 0.1}}, {"score": 29.6})
    assert by_figure([({"figure": "score", "bin": "1"}, 2.0)]) == {"score": {"1": 2.0}}


@pytest.mark.parametrize(
    ("canary", "stable", "drifted"),
    [(1.1, 0.4, True), (1.1, 0.9, False), (1.9, 0.96, False), (2.1, 0.96, True), (5.0, 1.01, False), (1.0, 0.0, False)],
)
def test_alone_is_well_above_where_the_other_is(canary: float, stable: float, drifted: bool) -> None:
    assert alone({"score": canary}, {"score": stable}) == ({"score": canary} if drifted else {})
    assert alone({"score": canary}, {}) == {}  # which nobody can tell


@pytest.mark.parametrize(
    ("canary", "stable", "phase"),
    [("shifted", "same", "rolled-back"), ("same", "same", "promoted"), ("shifted", "shifted", "promoted")],
)
def test_a_canary_that_drifts_alone_is_rolled_back(world: World, canary: str, stable: str, phase: str) -> None:
    """And one that drifts with the stable release is not: what comes has changed, and not the canary."""
    world.drifts = {"roofs-canary": canary == "shifted", "roofs": stable == "shifted"}
    ended = world.end()
    assert ended["state"]["phase"] == phase
    assert ("drift of the canary alone: score" in ended["state"]["reason"]) == (phase == "rolled-back")
    assert ended["judged"] >= 500
