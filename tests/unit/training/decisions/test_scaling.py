"""Temperature against a grid search, slope and vector against another solver, and every fit against hostile logits."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from handlers.decision import probabilities
from tests.volume import SOAK
from training.decisions.calibration import ece, nll
from training.decisions.scaling import HIGHEST, KEEP, LOWEST, fit, fit_slope, fit_temperature, fit_vector

CASES = 1000 if SOAK else 60
KINDS = ("full", "mirrored", "nearly", "noisy", "sum 0", "collinear", "separable", "wrong", "constant", "zero")


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


def test_scaling_lowers_ece_and_nll_of_an_overconfident_network():
    logits, truth = sample_logits(2000, 5, 3.0)
    t = fit_temperature(logits, truth).value
    assert ece(probabilities(logits, t), truth) < 0.3 * ece(probabilities(logits, 1.0), truth)
    assert nll(logits, truth, t) < nll(logits, truth)
    assert nll(logits, truth, t) == pytest.approx(naive_nll(logits, truth, t))


@pytest.mark.parametrize(("n", "slope", "bias"), [(30, 1.0, 0.0), (300, 0.5, -2.0), (3000, 2.0, 3.0)])
def test_slope_and_bias_are_another_solvers_minimum(n, slope, bias):
    rng = np.random.default_rng(n)
    margin = rng.normal(0, 2, n)
    truth = (rng.random(n) < expit(slope * margin + bias)).astype(int)
    fitted = fit_slope(np.stack([-margin / 2, margin / 2], axis=1), truth)

    def loss(at: np.ndarray) -> float:  # Platt's likelihood, and a Gaussian of variance 1 around slope 1 and bias 0
        sides = np.where(truth == 1, 1, -1) * (at[0] * margin + at[1])
        return np.logaddexp(0, -sides).sum() + ((at[0] - 1) ** 2 + at[1] ** 2) / 2

    found = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 5000}).x
    assert fitted.status == "converged"
    assert fitted.weight.tolist() == [pytest.approx(found[0], abs=1e-5)] * 2
    assert fitted.bias[1] - fitted.bias[0] == pytest.approx(found[1], abs=1e-5)


def test_slope_by_hand():
    # margin 0 for all, 3 of 4 in class 1: the slope stays 1, and the bias b has 4 / (1 + e^-b) - 3 + b = 0
    fitted = fit_slope(np.zeros((4, 2)), np.array([1, 1, 1, 0]))
    bias = fitted.bias[1] - fitted.bias[0]
    assert fitted.weight.tolist() == [pytest.approx(1, abs=1e-12)] * 2
    assert 4 / (1 + math.exp(-bias)) - 3 + bias == pytest.approx(0, abs=1e-12)


def test_few_images_change_little_and_many_say_the_share():
    def said(n: int) -> float:
        fitted = fit_slope(np.zeros((n, 2)), np.array([0, 1] * (n // 10) + [0] * (n - 2 * (n // 10))))
        return float(expit(fitted.bias[1] - fitted.bias[0]))

    assert 0.2 < said(10) < 0.25  # of no logit but one image in ten
    assert said(10_000) == pytest.approx(0.1, abs=0.002)


def test_all_told_apart_takes_platts_targets():
    truth = np.array([0, 1] * 10)
    fitted = fit_slope(4.0 * np.eye(2)[truth], truth)
    assert fitted.status == "smoothed"
    # targets 11 / 12: 20 (σ(4 a) - 11 / 12) 4 + a - 1 = 0
    slope = fitted.weight[0]
    assert 80 * (expit(4 * slope) - 11 / 12) + slope - 1 == pytest.approx(0, abs=1e-9)
    assert fitted.bias.tolist() == [pytest.approx(0, abs=1e-12)] * 2


def test_a_slope_is_never_negative():
    truth = np.array([0, 1] * 20)
    fitted = fit_slope(5.0 * np.eye(2)[1 - truth], truth)
    assert (fitted.weight.tolist(), fitted.status) == ([1 / HIGHEST] * 2, "at_bound")
    assert 1 / LOWEST == HIGHEST


@pytest.mark.parametrize(("n", "k", "seed"), [(60, 3, 0), (400, 5, 1), (2000, 10, 2)])
def test_vector_scaling_is_another_solvers_minimum(n, k, seed):
    logits, truth = sample_logits(n, k, 1.7, seed)
    logits = logits * np.linspace(0.5, 1.5, k) + np.linspace(-1, 1, k)  # what a temperature alone cannot undo
    fitted, common = fit_vector(logits, truth), fit_temperature(logits, truth).value

    def loss(at: np.ndarray) -> float:
        ridge = KEEP * (((at[:k] * common - 1) ** 2).sum() + (at[k:] ** 2).sum()) / 2
        return ridge - log_softmax(logits * at[:k] + at[k:], axis=1)[np.arange(n), truth].sum()

    at = np.concatenate([np.full(k, 1 / common), np.zeros(k)])
    found = minimize(loss, at, method="L-BFGS-B", options={"maxiter": 5000, "maxfun": 10**6, "ftol": 1e-15, "gtol": 1e-9}).x
    assert fitted.status == "converged"
    np.testing.assert_allclose(fitted.weight, found[:k], atol=1e-4)
    np.testing.assert_allclose(fitted.bias, found[k:] - found[k:].mean(), atol=1e-4)


def test_vector_scaling_of_many_images_undoes_weights_and_biases():
    k = 4
    honest, truth = sample_logits(40_000, k, 1.0)
    weight, bias = np.array([0.5, 1.0, 1.5, 2.0]), np.array([-1.0, 0.0, 0.5, 0.5])
    fitted = fit_vector((honest - bias) / weight, truth)
    np.testing.assert_allclose(fitted.weight, weight, rtol=0.04)
    np.testing.assert_allclose(fitted.bias, bias, atol=0.07)


def test_vector_scaling_of_what_is_all_right_is_smoothed_and_keeps_it_right():
    logits, truth = np.array([[3.0, 0, -1], [0, 4, 1], [1, 0, 3], [2, 1, 0]]), np.array([0, 1, 2, 0])
    fitted = fit_vector(logits, truth)
    assert fitted.status == "smoothed"
    assert (fitted.apply(logits).argmax(axis=1) == truth).all()


def hostile(kind: str, n: int, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    z, truth = rng.normal(0, 2, (n, k)), rng.integers(0, k, n)
    match kind:
        case "mirrored" | "nearly" | "noisy":
            z[:, 1] = -z[:, 0] + {"mirrored": 0, "nearly": 1e-6, "noisy": 0.3}[kind] * rng.normal(size=n)
        case "sum 0":
            z -= z.mean(axis=1, keepdims=True)
        case "collinear":
            z = np.outer(rng.normal(size=n), rng.normal(size=k))
        case "separable" | "wrong":
            z += {"separable": 20, "wrong": -20}[kind] * np.eye(k)[truth]
        case "constant":
            z[:] = z[0]
        case "zero":
            z[:] = 0
    return z, truth


@settings(max_examples=CASES, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    k=st.sampled_from([2, 3, 5, 20, 50]),
    n=st.integers(1, 200),
    scale=st.floats(-6, 6),
    one_class=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_every_fit_ends_and_is_finite(kind, k, n, scale, one_class, seed):
    rng = np.random.default_rng(seed)
    logits, truth = hostile(kind, n, k, rng)
    logits, truth = (logits * 10**scale).astype(np.float32), truth * (not one_class)
    scaling = fit(logits, truth, "vector", rng.normal(0, 2, k))
    assert np.isfinite(scaling.weight).all()
    assert np.isfinite(scaling.bias).all()
    scaled = scaling.apply(logits)
    assert np.isfinite(scaled).all()
    if k == 2:  # the order of the scores stays
        assert scaling.weight[0] == scaling.weight[1] >= 1 / HIGHEST
        margin, after = (z[:, 1].astype(np.float64) - z[:, 0] for z in (logits, scaled))
        order = np.argsort(margin, kind="stable")
        assert (np.diff(after[order]) >= -1e-9 * np.abs(after).max(initial=1)).all()
    else:  # the minimum is no worse than where the search starts from, the common temperature
        shifted = logits.astype(np.float64)
        again = fit_vector(shifted, truth)
        if again.status == "converged":
            assert nll(again.apply(shifted), truth) <= nll(shifted, truth, fit_temperature(shifted, truth).value) + 1e-9


@pytest.mark.parametrize("k", [2, 4])
def test_the_odds_are_put_back_before_anything_is_fitted(k):
    shares = np.linspace(1, 4, k) / np.linspace(1, 4, k).sum()
    rng = np.random.default_rng(3)
    truth = rng.choice(k, 20, p=shares)
    shift = np.log(shares) - np.log(shares).mean()
    # a head that says nothing, trained for even odds: what comes out is near the shares, of twenty images
    probs = probabilities(fit(np.zeros((20, k)), truth, "vector", shift).apply(np.zeros((1, k))), 1.0)
    counts = np.bincount(truth, minlength=k) / 20
    assert np.abs(probs[0] - shares).sum() <= np.abs(counts - shares).sum() + 1e-6


def test_a_temperature_leaves_the_odds_alone_and_moves_as_it_is_told():
    logits, truth = sample_logits(300, 2, 2.0)
    plain = fit(logits, truth, "temperature", np.array([-3.0, 3.0]))
    assert plain == fit_temperature(logits, truth)
    shift = np.array([-0.5, 0.5])
    np.testing.assert_allclose(plain.moved(shift).apply(logits), plain.apply(logits) + shift, atol=1e-12)
    assert plain.fields == {"temperature": plain.value, "scaling": None}
    moved = fit(logits, truth, "vector", np.zeros(2)).moved(shift)
    assert moved.fields["temperature"] == 1.0
    assert moved.fields["scaling"].weight == tuple(moved.weight)
