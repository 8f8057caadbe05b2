"""Temperature against a grid search, slopes and vector against another solver, and every fit against hostile logits."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from handlers.decision import probabilities, scaled
from tests.volume import SOAK
from training.decisions.calibration import ece, nll
from training.decisions.scaling import HIGHEST, LOWEST, WIDTH, WIDTH_MOVED, Beta, fit, fit_beta, fit_temperature, fit_vector

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


def prior(off: float | np.ndarray, width: float) -> float:
    """The negative logarithm of the prior's density, up to a constant."""
    return float(np.sqrt(1 + np.square(off) / width**2).sum())


def pull(off: float) -> float:
    """Its derivative where the width is 0.5."""
    return 4 * off / math.sqrt(1 + 4 * off**2)


def off_by(pulled: float) -> float:
    """Where the derivative is 4 * pulled."""
    return pulled / math.sqrt(1 - 4 * pulled**2)


@pytest.mark.parametrize("overconfidence", [0.4, 1.0, 3.0])
def test_temperature_undoes_a_known_overconfidence(overconfidence):
    temperature = fit_temperature(*sample_logits(20_000, 5, overconfidence))
    assert temperature.status == "converged"
    assert temperature.value == pytest.approx(overconfidence, rel=0.03)


def test_temperature_is_the_minimum_on_a_fine_grid():
    logits, truth = sample_logits(200, 3, 2.0, seed=4)

    def loss(t: float) -> float:
        return naive_nll(logits, truth, t) + prior(1 / t - 1, WIDTH) / 200

    best = fit_temperature(logits, truth).value
    grid = np.arange(0.5, 4.0, 0.01)
    assert abs(best - min(grid, key=loss)) < 0.01
    assert loss(best) <= min(loss(best * f) for f in (0.999, 1.001))


def test_three_images_by_hand():
    # logits (3, 0), right twice and wrong once; with c = 1 / T the loss is 2 log(1 + e^-3c) + log(1 + e^3c) and the prior's
    logits, truth = np.array([[3.0, 0.0]] * 3), np.array([0, 0, 1])
    fitted = fit_temperature(logits, truth)
    c = 1 / fitted.value
    assert -6 / (1 + math.exp(3 * c)) + 3 / (1 + math.exp(-3 * c)) + pull(c - 1) == pytest.approx(0, abs=1e-9)
    assert 1 < fitted.value < 3 / math.log(2)  # between the network's own and what makes the confidence the accuracy, 2 / 3
    assert fitted.status == "converged"


@pytest.mark.parametrize("margin", [4.0, 0.01])
def test_all_right_stays_near_the_networks_own_confidence(margin):
    # twenty images of that margin: 20 m / (1 + e^(m c)) is the prior's pull
    truth = np.array([0, 1] * 10)
    fitted = fit_temperature(margin * np.eye(2)[truth], truth)
    c = 1 / fitted.value
    assert 20 * margin / (1 + math.exp(margin * c)) == pytest.approx(pull(c - 1), rel=1e-9)
    assert fitted.status == "apart"
    assert 1 < c < 1.2


def test_a_network_that_is_always_wrong_ends_at_the_upper_bound():
    truth = np.array([0, 1] * 10)
    temperature = fit_temperature(5.0 * np.eye(2)[1 - truth], truth)
    assert (temperature.value, temperature.status) == (HIGHEST, "at_bound")


def test_a_head_of_zeros_keeps_its_temperature():
    assert fit_temperature(np.zeros((4, 3)), np.array([0, 1, 2, 0])).value == pytest.approx(1.0, abs=1e-12)


def test_huge_logits_do_not_overflow():
    logits, truth = sample_logits(500, 3, 1.0)
    scaled = fit_temperature(logits.astype(np.float32) * 10, truth)
    assert scaled.value == pytest.approx(10 * fit_temperature(logits, truth).value, rel=0.02)  # the prior is around 1
    assert math.isfinite(nll(np.array([[1e4, -1e4]]), np.array([1])))


def test_scaling_lowers_ece_and_nll_of_an_overconfident_network():
    logits, truth = sample_logits(2000, 5, 3.0)
    t = fit_temperature(logits, truth).value
    assert ece(probabilities(logits, t), truth) < 0.3 * ece(probabilities(logits, 1.0), truth)
    assert nll(logits, truth, t) < nll(logits, truth)
    assert nll(logits, truth, t) == pytest.approx(naive_nll(logits, truth, t))


def mirrored(margin: np.ndarray) -> np.ndarray:
    return np.stack([-margin / 2, margin / 2], axis=1)


@pytest.mark.parametrize(
    ("n", "slope", "bias", "shift"),
    [(30, (1, 1), 0, 0), (300, (0.3, 1.5), -2, -1), (3000, (2, 0.5), 3, 2), (3000, (0.2, 1), -4, -3)],
)
def test_slopes_and_bias_are_another_solvers_minimum(n, slope, bias, shift):
    rng = np.random.default_rng(n)
    margin = rng.normal(0, 3, n)
    p = expit(margin)

    def odds(first: float, second: float, bias: float) -> np.ndarray:  # Kull et al. 2017, eq. 3, with a = second, b = first
        return first * np.log(p) - second * np.log(1 - p) + bias

    truth = (rng.random(n) < expit(odds(*slope, bias))).astype(int)
    fitted = fit_beta(mirrored(margin), truth, np.array([-shift / 2, shift / 2]))

    def loss(at: np.ndarray) -> float:  # the likelihood's, and the prior's around slopes 1 and the shift
        sides = np.where(truth == 1, 1, -1) * odds(*at)
        return np.logaddexp(0, -sides).sum() + prior(at - [1, 1, shift], WIDTH_MOVED if shift else WIDTH)

    options = {"xatol": 1e-10, "fatol": 1e-12, "maxiter": 20_000, "maxfev": 20_000}
    found = minimize(loss, [1.0, 1.0, shift], method="Nelder-Mead", options=options).x
    assert fitted.status == "converged"
    np.testing.assert_allclose([*fitted.slope, fitted.bias[1] - fitted.bias[0]], found, atol=1e-5)


def test_slopes_by_hand():
    # margin 0 for all, so that -log p is log 2 on both sides; 3 of 4 are in class 1. With 4 r the sum of what is said less
    # what is true, the prior pulls the bias by -4 r and the slopes by 4 r log 2 and -4 r log 2
    fitted = fit_beta(np.zeros((4, 2)), np.array([1, 1, 1, 0]), np.zeros(2))
    odds = fitted.apply(np.zeros((1, 2))) @ [-1, 1]
    r = 1 / (1 + math.exp(-odds[0])) - 3 / 4
    bias, steeper = -off_by(r), off_by(r * math.log(2))
    assert odds[0] == pytest.approx(bias - 2 * math.log(2) * steeper, abs=1e-9)
    assert fitted.slope.tolist() == [pytest.approx(1 + steeper, abs=1e-9), pytest.approx(1 - steeper, abs=1e-9)]
    assert fitted.bias.tolist() == [pytest.approx(-bias / 2, abs=1e-9), pytest.approx(bias / 2, abs=1e-9)]


def test_each_slope_is_of_its_own_side():
    # far out, -log p of the sure side is the margin and of the other side 0: log-odds -0.2 · 6 - 1 and 2 · 2 - 1
    scaling = Beta(np.array([0.2, 2.0]), np.array([0.5, -0.5]), "converged")
    odds = scaling.apply(mirrored(np.array([-60.0, -6.0, 2.0, 60.0]))) @ [-1, 1]
    assert odds[[0, 3]] == pytest.approx([-0.2 * 60 - 1, 2 * 60 - 1])
    p = [1 / (1 + math.exp(-m)) for m in (-6.0, 2.0)]
    assert odds[[1, 2]] == pytest.approx([0.2 * math.log(q) - 2 * math.log(1 - q) - 1 for q in p])


def test_labels_change_places_and_so_do_the_slopes():
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, (200, 2))
    truth = (rng.random(200) < expit(logits[:, 1] - 0.3 * logits[:, 0] - 1)).astype(int)
    shift = np.array([1.0, -1.0])
    here, there = fit_beta(logits, truth, shift), fit_beta(logits[:, ::-1], 1 - truth, -shift)
    np.testing.assert_allclose(there.slope[::-1], here.slope, rtol=1e-7)
    np.testing.assert_allclose(there.bias[::-1], here.bias, atol=1e-7)


def test_two_slopes_tell_a_bend_that_one_cannot():
    """Log-odds that grow by 0.2 where the network is sure of the common label and by 1 where it is sure of the rare one."""
    rng = np.random.default_rng(0)
    margin = rng.normal(-4, 4, 40_000)
    true = expit(0.2 * np.log(expit(margin)) - np.log(expit(-margin)) - 1)
    truth = (rng.random(len(margin)) < true).astype(int)
    said = probabilities(fit_beta(mirrored(margin), truth, np.zeros(2)).apply(mirrored(margin)), 1.0)[:, 1]
    sure = said > 0.5
    assert said[sure].mean() == pytest.approx(true[sure].mean(), abs=0.01)

    def loss(at: np.ndarray) -> float:  # Platt's method
        return np.logaddexp(0, -np.where(truth == 1, 1, -1) * (at[0] * margin + at[1])).sum()

    slope, bias = minimize(loss, [1.0, 0.0], method="Nelder-Mead").x
    line = expit(slope * margin + bias)
    assert line[line > 0.5].mean() < true[line > 0.5].mean() - 0.05


def test_few_images_change_little_and_many_say_the_share():
    def said(n: int) -> float:
        truth = np.array([0, 1] * (n // 10) + [0] * (n - 2 * (n // 10)))
        return float(probabilities(fit_beta(np.zeros((n, 2)), truth, np.zeros(2)).apply(np.zeros((1, 2))), 1.0)[0, 1])

    assert 0.25 < said(10) < 0.3  # of no logit but one image in ten
    assert said(10_000) == pytest.approx(0.1, abs=0.002)


def test_all_told_apart_stays_near_the_networks_own_odds():
    truth = np.array([0, 1] * 10)
    fitted = fit_beta(4.0 * np.eye(2)[truth], truth, np.zeros(2))
    assert fitted.status == "apart"
    # both slopes a by symmetry; -log p of both sides differ by the margin 4: 10 (σ(4 a) - 1) 4 + pull(a - 1) = 0
    slope = fitted.slope[0]
    assert 40 * (expit(4 * slope) - 1) + pull(slope - 1) == pytest.approx(0, abs=1e-9)
    assert fitted.slope[1] == pytest.approx(slope, abs=1e-9)
    assert fitted.bias.tolist() == [pytest.approx(0, abs=1e-9)] * 2
    assert 1 < slope < 1.2


def test_a_slope_is_never_negative():
    truth = np.array([0, 1] * 20)
    fitted = fit_beta(5.0 * np.eye(2)[1 - truth], truth, np.zeros(2))
    assert (fitted.slope.tolist(), fitted.status) == ([1 / HIGHEST] * 2, "at_bound")
    assert 1 / LOWEST == HIGHEST


@pytest.mark.parametrize(("n", "k", "seed"), [(60, 3, 0), (400, 5, 1), (2000, 10, 2)])
def test_vector_scaling_is_another_solvers_minimum(n, k, seed):
    logits, truth = sample_logits(n, k, 1.7, seed)
    logits = logits * np.linspace(0.5, 1.5, k) + np.linspace(-1, 1, k)  # what a temperature alone cannot undo
    fitted, common = fit_vector(logits, truth), fit_temperature(logits, truth).value

    def loss(at: np.ndarray) -> float:
        before = prior(at[:k] * common - 1, WIDTH) + prior(at[k:], WIDTH)
        return before - log_softmax(logits * at[:k] + at[k:], axis=1)[np.arange(n), truth].sum()

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


def test_vector_scaling_of_what_is_all_right_keeps_it_right():
    logits, truth = np.array([[3.0, 0, -1], [0, 4, 1], [1, 0, 3], [2, 1, 0]]), np.array([0, 1, 2, 0])
    fitted = fit_vector(logits, truth)
    assert fitted.status == "apart"
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
    assert np.isfinite(scaling.slope if k == 2 else scaling.weight).all()
    assert np.isfinite(scaling.bias).all()
    scaled = scaling.apply(logits)
    assert np.isfinite(scaled).all()
    if k == 2:  # the order of the scores stays
        assert ((scaling.slope >= 1 / HIGHEST) & (scaling.slope <= 1 / LOWEST)).all()
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


@pytest.mark.parametrize("k", [2, 3])
def test_a_prior_that_moves_adds_to_the_log_odds_that_come_out(k):
    logits, truth = sample_logits(300, k, 2.0)
    shift = np.linspace(-0.5, 0.5, k)
    fitted = fit(logits, truth, "vector", np.zeros(k))
    moved = fitted.moved(shift)
    np.testing.assert_allclose(moved.apply(logits), fitted.apply(logits) + shift, atol=1e-12)
    assert moved.fields["temperature"] == 1.0
    np.testing.assert_array_equal(scaled(logits, moved.fields["scaling"]), moved.apply(logits))
    odds = [np.log(probabilities(one.apply(logits), 1.0).astype(np.float64)) @ np.eye(k)[:, [0, -1]] for one in (fitted, moved)]
    np.testing.assert_allclose(np.diff(odds[1] - odds[0], axis=1), 1.0, atol=1e-3)
