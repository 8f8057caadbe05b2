"""Errors of calibration against their definitions, image by image, and against what chance gives honest scores."""

import numpy as np
import pytest
from scipy.special import softmax

from handlers.decision import probabilities
from tests.unit.training.decisions.test_scaling import sample_logits
from training.decisions.calibration import by_chance, ece, nll, reliability, reliability_of, side_losses


def naive_ece(probs: np.ndarray, truth: np.ndarray, bins: int) -> float:
    """Guo et al. 2017, eq. 2 and 3, with B_m the images of confidence in ((m - 1) / M, m / M]."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [n for n, row in enumerate(probs) if (m - 1) / bins < max(row) <= m / bins]
        if inside:
            accuracy = sum(probs[n].argmax() == truth[n] for n in inside) / len(inside)
            confidence = sum(float(max(probs[n])) for n in inside) / len(inside)
            total += len(inside) / len(truth) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_ece_is_its_definition(bins):
    logits, truth = sample_logits(300, 4, 2.0)
    probs = probabilities(logits, 1.0).astype(np.float64)
    assert ece(probs, truth, bins) == pytest.approx(naive_ece(probs, truth, bins), abs=1e-12)


def test_ece_by_hand():
    # bins of 0.25: (0.5, 0.75] holds 0.6 right and 0.7 wrong, (0.75, 1] holds 1.0 right
    probs = np.array([[0.6, 0.4], [0.3, 0.7], [1.0, 0.0]])
    bins = reliability(probs, np.array([0, 0, 0]), bins=4)
    assert bins.count.tolist() == [0, 0, 2, 1]
    np.testing.assert_allclose(bins.confidence, [np.nan, np.nan, 0.65, 1.0])
    np.testing.assert_allclose(bins.accuracy, [np.nan, np.nan, 0.5, 1.0])
    assert bins.ece == pytest.approx(2 / 3 * 0.15)


def test_an_edge_belongs_to_the_bin_below_it():
    assert reliability(np.array([[0.5, 0.5]]), np.array([0]), bins=4).count.tolist() == [0, 1, 0, 0]


def test_the_debiased_error_by_hand():
    # one bin: three images, scores 0.5, two came true: gaps 0.5, 0.5, -0.5, mean 1 / 6
    # noise: sum of squares about the mean (2 · 1 / 9 + 4 / 9 = 2 / 3) / 3² · 3 / 2 = 1 / 9; 1 / 36 - 1 / 9 < 0
    bins = reliability_of(np.full(3, 0.5), np.array([True, True, False]), bins=1)
    assert bins.noise.tolist() == [pytest.approx(1 / 9)]
    assert (bins.ece, bins.error) == (pytest.approx(1 / 6), 0.0)
    # all came true: no noise, the gap itself
    assert reliability_of(np.full(3, 0.5), np.ones(3, dtype=bool), bins=1).error == pytest.approx(0.5)


def test_the_squared_error_is_unbiased_where_the_ece_is_not():
    rng = np.random.default_rng(0)
    for off in (0.0, 0.15):  # honest scores, and scores that are too low by 0.15
        squares, eces = [], []
        for _ in range(3000):
            score = rng.uniform(0.2, 0.7, 100)
            bins = reliability_of(score, rng.random(100) < score + off, bins=5)
            square = (bins.share * ((bins.accuracy - bins.confidence) ** 2 - bins.noise))[bins.count > 1].sum()
            squares.append(square)
            eces.append(bins.ece)
        assert np.mean(squares) == pytest.approx(off**2, abs=4 * np.std(squares) / 3000**0.5)
    assert np.mean(eces) > 0.15  # too large by chance even here


def test_chance_explains_honest_scores_and_not_others():
    rng = np.random.default_rng(1)
    within = 0
    for draw in range(40):
        score = rng.beta(0.5, 2, 300)
        within += reliability_of(score, rng.random(300) < score).error <= by_chance(score, seed=draw)
    assert within >= 34  # 95 % of the draws
    score = rng.beta(0.5, 2, 1000)
    assert reliability_of(score, rng.random(1000) < 0.5 * score).error > by_chance(score)


def test_weights_count_an_image_as_often_as_they_say():
    rng = np.random.default_rng(2)
    score, event, weights = rng.random(50), rng.random(50) < 0.5, rng.integers(1, 4, 50)
    weighted = reliability_of(score, event, 7, weights.astype(float))
    repeated = reliability_of(np.repeat(score, weights), np.repeat(event, weights), 7)
    np.testing.assert_allclose(weighted.confidence, repeated.confidence)
    np.testing.assert_allclose(weighted.accuracy, repeated.accuracy)
    assert weighted.ece == pytest.approx(repeated.ece)
    logits, truth = sample_logits(50, 3, 1.0)
    assert nll(logits, truth, weights=weights) == pytest.approx(nll(np.repeat(logits, weights, 0), np.repeat(truth, weights)))


def test_the_loss_of_a_side_is_minus_the_log_of_its_probability():
    logits, truth = sample_logits(40, 4, 1.0)
    inside = np.tile([True, False, True, False], (40, 1))
    event = inside[np.arange(40), truth]
    probs = softmax(logits, axis=1)[:, [0, 2]].sum(axis=1)
    np.testing.assert_allclose(side_losses(logits, inside, event), -np.log(np.where(event, probs, 1 - probs)), atol=1e-12)
    huge = side_losses(np.array([[1e4, -1e4]]), np.array([[False, True]]), np.array([True]))
    assert huge.tolist() == [2e4]
