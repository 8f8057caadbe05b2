"""The pointing game against a dilated mask pixel by pixel."""

import numpy as np
import pytest

from drawing.heat import enlarge
from training.evaluation.saliency import PointingGame, chance_inside, energy_inside, points_inside


def heat_at(row: int, column: int, size: int = 4) -> np.ndarray:
    heatmap = np.zeros((size, size), dtype=np.float32)
    heatmap[row, column] = 1.0
    return heatmap


def naive_dilation(mask: np.ndarray, radius: float) -> np.ndarray:
    grown = np.zeros_like(mask)
    for y, x in np.ndindex(mask.shape):
        for i, j in np.ndindex(mask.shape):
            if mask[i, j] and (y - i) ** 2 + (x - j) ** 2 <= radius**2:
                grown[y, x] = True
    return grown


def test_a_peak_on_the_mask_is_a_hit_and_one_far_from_it_a_miss():
    mask = np.zeros((16, 16), dtype=bool)
    mask[0:4, 0:4] = True
    assert points_inside(heat_at(0, 0), mask, 0.0)
    assert not points_inside(heat_at(3, 3), mask, 0.0)


@pytest.mark.parametrize("tolerance", [0.0, 0.1, 0.2, 0.35])
def test_a_hit_is_a_peak_inside_the_dilated_mask(tolerance):
    rng = np.random.default_rng(1)
    mask = np.zeros((20, 24), dtype=bool)
    mask[6:12, 8:16] = True
    grown = naive_dilation(mask, tolerance * 20)
    hits = 0
    for _ in range(60):
        heatmap = rng.random((5, 6)).astype(np.float32)
        y, x = np.unravel_index(enlarge(heatmap, 20, 24).argmax(), (20, 24))
        assert points_inside(heatmap, mask, tolerance) == grown[y, x]
        hits += grown[y, x]
    assert 0 < hits < 60


def test_no_heat_and_no_mask_are_misses():
    mask = np.ones((8, 8), dtype=bool)
    assert not points_inside(np.zeros((2, 2), dtype=np.float32), mask, 1.0)
    assert not points_inside(heat_at(0, 0), ~mask, 1.0)


def test_the_games_score():
    assert PointingGame(17, 20, 0.07).summary() == {"score": 0.85, "hits": 17, "images": 20, "tolerance": 0.07}
    assert PointingGame(0, 0, 0.07).summary()["score"] is None


def test_the_energy_inside_is_the_share_of_the_sum():
    heatmap = np.array([[1.0, 0.5], [0.0, 0.5]], dtype=np.float32)
    mask = np.array([[True, False], [True, False]])
    assert energy_inside(heatmap, mask) == pytest.approx(0.5)
    assert energy_inside(np.zeros((2, 2), np.float32), mask) == 0.0


@pytest.mark.parametrize("tolerance", [0.0, 0.2])
def test_chance_is_the_share_of_the_dilated_mask(tolerance):
    mask = np.zeros((16, 16), dtype=bool)
    mask[3:9, 4:14] = True
    assert chance_inside(mask, tolerance, probes=16) == naive_dilation(mask, tolerance * 16).mean()
