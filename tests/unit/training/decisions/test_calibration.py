"""Temperature against a grid search and known truth; ECE against its definition, image by image."""

import math

import numpy as np
import pytest
import torch

from handlers.decision import probabilities
from training.decisions.calibration import HIGHEST, LOWEST, ece, fit_temperature, fit_vector, nll, reliability


def sample_logits(n: int, k: int, overconfidence: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax at T = overconfidence is the distribution that the labels are drawn from."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, (n, k))
    truth = (honest + rng.gumbel(size=(n, k))).argmax(axis=1)  # Gumbel-max: a draw from softmax(honest)
    return honest * overconfidence, truth


def naive_nll(logits: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    total = 0.0
    for row, y in zip(logits, truth, strict=True):
        scaled = [z / temperature for z in row]
        total += math.log(sum(math.exp(z) for z in scaled)) - scaled[y]
    return total / len(truth)


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


@pytest.mark.parametrize("overconfidence", [0.4, 1.0, 3.0])
def test_temperature_undoes_a_known_overconfidence(overconfidence):
    temperature = fit_temperature(*sample_logits(20_000, 5, overconfidence))
    assert temperature.status == "converged"
    assert temperature.value == pytest.approx(overconfidence, rel=0.03)


def test_temperature_is_the_minimum_on_a_fine_grid():
    logits, truth = sample_logits(200, 3, 2.0, seed=4)
    best = fit_temperature(logits, truth).value
    grid = np.arange(0.5, 4.0, 0.01)
    assert abs(best - min(grid, key=lambda t: naive_nll(logits, truth, t))) < 0.01
    assert naive_nll(logits, truth, best) <= min(naive_nll(logits, truth, best * f) for f in (0.999, 1.001))


def test_two_images_by_hand():
    # logits (3, 0), right twice and wrong once: at the optimum the confidence is the accuracy, 1 / (1 + e^(-3 / T)) = 2 / 3
    logits, truth = np.array([[3.0, 0.0]] * 3), np.array([0, 0, 1])
    assert fit_temperature(logits, truth).value == pytest.approx(3 / math.log(2), rel=1e-9)


def test_all_right_takes_platts_targets_and_not_certainty():
    # every image of two classes has margin 4, n = 10 each: 1 / (1 + e^(-4 / T)) = (n + 1) / (n + 2) = 11 / 12
    truth = np.array([0, 1] * 10)
    temperature = fit_temperature(4.0 * np.eye(2)[truth], truth)
    assert temperature.status == "smoothed"
    assert temperature.value == pytest.approx(4 / math.log(11), rel=1e-9)


def test_tiny_margins_all_right_end_at_the_lower_bound():
    truth = np.array([0, 1] * 10)
    temperature = fit_temperature(0.01 * np.eye(2)[truth], truth)
    assert (temperature.value, temperature.status) == (LOWEST, "at_bound")


def test_a_network_that_is_always_wrong_ends_at_the_upper_bound():
    truth = np.array([0, 1] * 10)
    temperature = fit_temperature(5.0 * np.eye(2)[1 - truth], truth)
    assert (temperature.value, temperature.status) == (HIGHEST, "at_bound")


def test_a_head_of_zeros_keeps_its_temperature():
    assert fit_temperature(np.zeros((4, 3)), np.array([0, 1, 2, 0])).value == 1.0


def test_huge_logits_do_not_overflow():
    logits, truth = sample_logits(500, 3, 1.0)
    scaled = fit_temperature(logits.astype(np.float32) * 10, truth)
    assert scaled.value == pytest.approx(10 * fit_temperature(logits, truth).value, rel=1e-4)
    assert math.isfinite(nll(np.array([[1e4, -1e4]]), np.array([1])))


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


def test_scaling_lowers_ece_and_nll_of_an_overconfident_network():
    logits, truth = sample_logits(2000, 5, 3.0)
    t = fit_temperature(logits, truth).value
    assert ece(probabilities(logits, t), truth) < 0.3 * ece(probabilities(logits, 1.0), truth)
    assert nll(logits, truth, t) < nll(logits, truth)
    assert nll(logits, truth, t) == pytest.approx(naive_nll(logits, truth, t))


@pytest.mark.parametrize(("n", "k", "seed"), [(300, 2, 0), (400, 5, 1), (2000, 10, 2)])
def test_vector_scaling_is_torchs_minimum(n, k, seed):
    logits, truth = sample_logits(n, k, 1.7, seed)
    logits = logits * np.linspace(0.5, 1.5, k) + np.linspace(-1, 1, k)  # what a temperature alone cannot undo
    fitted = fit_vector(logits, truth)
    weight, bias = torch.ones(k, dtype=torch.float64, requires_grad=True), torch.zeros(k, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = torch.nn.functional.cross_entropy(torch.from_numpy(logits) * weight + bias, torch.from_numpy(truth))
        value.backward()
        return value

    solver.step(loss)
    assert fitted.status == "converged"
    np.testing.assert_allclose(fitted.weight, weight.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(fitted.bias, (bias - bias.mean()).detach().numpy(), atol=1e-6)
    assert nll(fitted.apply(logits), truth) < nll(logits, truth, fit_temperature(logits, truth).value)


def test_vector_scaling_of_what_is_all_right_is_smoothed_and_keeps_it_right():
    logits, truth = np.array([[3.0, 0, -1], [0, 4, 1], [1, 0, 3], [2, 1, 0]]), np.array([0, 1, 2, 0])
    fitted = fit_vector(logits, truth)
    assert fitted.status == "smoothed"
    assert np.isfinite(fitted.weight).all()
    assert (fitted.apply(logits).argmax(axis=1) == truth).all()


def test_vector_scaling_of_a_head_that_says_nothing_says_the_shares():
    probs = probabilities(fit_vector(np.zeros((10, 2)), np.array([0] * 7 + [1] * 3)).apply(np.zeros((1, 2))), 1.0)
    np.testing.assert_allclose(probs, [[0.7, 0.3]], atol=1e-6)
