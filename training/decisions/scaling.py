"""Scaling, which makes confidences honest: one temperature, slopes and bias of two labels, or a weight and bias for each of more.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017; Kull, Silva Filho, Flach: Beyond Sigmoids: How
to Obtain Well-Calibrated Probabilities from Binary Classifiers with Beta Calibration, Electronic Journal of Statistics 11, 2017;
Platt: Probabilistic Outputs for Support Vector Machines, 1999.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, log_softmax

from handlers.arrays import Float64, Floats, Ints
from handlers.decision import scaled
from handlers.spec import BetaScaling, VectorScaling

Status = Literal["converged", "smoothed", "at_bound"]
# Outside, a softmax is one-hot or uniform for any logits that a network gives.
LOWEST, HIGHEST = 0.05, 20.0
EXACT = 1e-14  # of log T: nearly the last bit of a float64
ROUNDS = 500  # of Brent's method, which needs about ten; bisection alone would need 60
# Newton's method ends where a step gains less than FLAT nats of all images, after about ten steps; SHORTEST ends a line search.
STEPS, FLAT, SHORTEST = 100, 1e-10, 1e-9
KEEP = 4.0
"""Strength of the ridge of a weight and bias for each label: the Gaussian's variance is 1 / KEEP."""
FEW = 50
"""Number of a label's calibration images below which slopes, weights and biases visibly keep to where they start from."""


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature and how it came about.

    `converged`: the likelihood's maximum. `smoothed`: the likelihood grew down to LOWEST, as it does without end where every
    image is classified right, so Platt's targets took the place of the labels. `at_bound`: no maximum inside the bounds.
    """

    value: float
    status: Status

    @property
    def fields(self) -> dict[str, Any]:
        """The spec's fields that scale as this does."""
        return {"temperature": self.value, "scaling": None}

    def apply(self, logits: Floats) -> Float64:
        """Return logits / T, (N, K)."""
        return np.asarray(logits, dtype=np.float64) / self.value

    def moved(self, shift: Float64) -> "Vector":
        """Return the scaling that also adds `shift` to what comes out, (K,)."""
        return Vector(np.full(len(shift), 1 / self.value), shift, self.status)

    def summary(self) -> dict[str, Any]:
        """Return what metrics.json holds."""
        return {"temperature": self.value, "temperature_status": self.status}


@dataclass(frozen=True)
class Vector:
    """Fitted weights and biases, (K,) each. `status` is as for a temperature."""

    weight: Float64
    bias: Float64
    status: Status

    @property
    def fields(self) -> dict[str, Any]:
        """The spec's fields that scale as this does."""
        return {"temperature": 1.0, "scaling": self._fitted}

    @property
    def _fitted(self) -> VectorScaling:
        return VectorScaling(weight=tuple(self.weight.tolist()), bias=tuple(self.bias.tolist()))

    def apply(self, logits: Floats) -> Float64:
        """Return logits · weight + bias, (N, K)."""
        return scaled(logits, self._fitted)

    def moved(self, shift: Float64) -> "Vector":
        """Return the scaling that also adds `shift` to what comes out, (K,)."""
        return Vector(self.weight, self.bias + shift, self.status)

    def summary(self) -> dict[str, Any]:
        """Return what metrics.json holds."""
        return {"weight": self.weight.tolist(), "bias": self.bias.tolist(), "vector_status": self.status}


@dataclass(frozen=True)
class Beta:
    """Fitted slopes and biases of two labels, (2,) each, of `handlers.spec.BetaScaling`. `status` is as for a temperature."""

    slope: Float64
    bias: Float64
    status: Status

    @property
    def fields(self) -> dict[str, Any]:
        """The spec's fields that scale as this does."""
        return {"temperature": 1.0, "scaling": self._fitted}

    @property
    def _fitted(self) -> BetaScaling:
        (slope, other), (bias, its) = self.slope.tolist(), self.bias.tolist()
        return BetaScaling(slope=(slope, other), bias=(bias, its))

    def apply(self, logits: Floats) -> Float64:
        """Return slope · -log(the other label's probability) + bias, (N, 2)."""
        return scaled(logits, self._fitted)

    def moved(self, shift: Float64) -> "Beta":
        """Return the scaling that also adds `shift` to what comes out, (2,)."""
        return Beta(self.slope, self.bias + shift, self.status)

    def summary(self) -> dict[str, Any]:
        """Return what metrics.json holds."""
        return {"slope": self.slope.tolist(), "bias": self.bias.tolist(), "slope_status": self.status}


Scaling = Temperature | Vector | Beta


def fit(logits: Floats, truth: Ints, method: Literal["auto", "temperature", "vector"], shift: Float64) -> Scaling:
    """Fit what the config asks for, `auto` settled as `training.decisions.mix.settled` does.

    A temperature is fitted alone. Else `shift`, (K,), puts back the odds that training took away (`training.decisions.mix`), and
    what is left is fitted: slopes and bias of two labels, weights and biases of more.
    logits: (N, K), finite; truth: (N,), classes.
    """
    if method == "temperature":
        return fit_temperature(logits, truth)
    if len(shift) == 2:
        return fit_beta(logits, truth, shift)
    fitted = fit_vector(np.asarray(logits, dtype=np.float64) + shift, truth)
    bias = fitted.weight * shift + fitted.bias
    return Vector(fitted.weight, bias - bias.mean(), fitted.status)


def fit_temperature(logits: Floats, truth: Ints) -> Temperature:
    """Minimise the negative log-likelihood of softmax(logits / T) over T (Guo et al. 2017, section 4.2).

    In 1 / T the loss is convex, with derivative mean(E_softmax(z / T)[z] - z_truth), so Brent's method
    finds the derivative's one sign change, the minimum, whatever the logits. logits: (N, K); truth: (N,), classes.
    """
    z = np.asarray(logits, dtype=np.float64)
    margins = z - z[np.arange(len(z)), truth][:, None]  # (N, K), 0 for the true class
    if not margins.any():  # a head that says nothing: every T is as good
        return Temperature(1.0, "converged")
    hard = np.eye(z.shape[1])[truth]
    if margins.max() > 0 and _slope(margins, hard, LOWEST) >= 0:
        return _minimise(margins, hard, "converged")
    return _minimise(margins, _platt_targets(truth, z.shape[1]), "smoothed")


def fit_beta(logits: Floats, truth: Ints, shift: Float64) -> Beta:
    """Fit slopes and bias of two labels by beta calibration (Kull, Silva Filho, Flach 2017, section 4).

    With p the softmax, the log-odds of label 1 become slope[1] (-log p0) - slope[0] (-log p1) + bias: slope[1] is how fast they
    grow where the network is sure of label 1, slope[0] where it is sure of label 0, and between they go over smoothly. Equal
    slopes are Platt's method. Maximises the likelihood times a Gaussian of variance 1 around both slopes 1 and the bias that
    `shift` asks for, no change but the odds. So few images change little, and the loss, the sum of a convex function of the
    three and a strictly convex one, has one minimum, whatever the logits. At each pair of slopes Brent's method finds the best
    bias, at each first slope the best second one, and then the first slope, at which the loss turns. The slopes are kept from
    1 / HIGHEST to 1 / LOWEST: they are positive, so that no two images change their order of z1 - z0, and at the lower end the
    network hardly counts. Where some bias tells all images apart, Platt's targets take the place of the labels.
    logits: (N, 2); truth: (N,), 0 or 1; shift: (2,), added to the logits by a network trained for other odds.
    """
    z = np.asarray(logits, dtype=np.float64)
    margin, ones, middle = z[:, 1] - z[:, 0], truth == 1, float(shift[1] - shift[0])
    apart = not (0 < ones.sum() < len(ones)) or margin[ones].min() > margin[~ones].max()
    target = _platt_targets(truth, 2)[:, 1] if apart else ones.astype(np.float64)
    sides = np.stack([-np.logaddexp(0.0, -margin), np.logaddexp(0.0, margin)], axis=1)  # (N, 2), log p1 and -log p0
    far = len(z) + 1.0  # the sum over images is smaller than that

    def bias_of(odds: Float64) -> float:
        def rise(bias: float) -> float:
            return float((expit(odds + bias) - target).sum() + bias - middle)

        return float(brentq(rise, middle - far, middle + far, xtol=EXACT, maxiter=ROUNDS))

    def rise(slope: Sequence[float], side: int) -> float:
        odds = sides @ slope
        return float((expit(odds + bias_of(odds)) - target) @ sides[:, side] + slope[side] - 1)

    def second_of(first: float) -> float:
        return _turn(lambda second: rise((first, second), 1))

    first = _turn(lambda first: rise((first, second_of(first)), 0))
    slope = np.array([first, second_of(first)])
    at_bound = bool((slope <= 1 / HIGHEST).any() or (slope >= 1 / LOWEST).any())
    bias = bias_of(sides @ slope)
    return Beta(slope, np.array([-bias / 2, bias / 2]), "at_bound" if at_bound else "smoothed" if apart else "converged")


def _turn(rise: Callable[[float], float]) -> float:
    """Find the slope, from 1 / HIGHEST to 1 / LOWEST, at which a rising function changes its sign, or the end that is nearest."""
    least, most = 1 / HIGHEST, 1 / LOWEST
    if rise(least) >= 0:
        return least
    if rise(most) <= 0:
        return most
    log = brentq(lambda log: rise(math.exp(log)), math.log(least), math.log(most), xtol=EXACT, maxiter=ROUNDS)
    return math.exp(log)


def fit_vector(logits: Floats, truth: Ints) -> Vector:
    """Fit a weight and a bias for each label, softmax(logits · weight + bias) (Guo et al. 2017, section 4.2).

    With c = 1 / T of the fitted temperature and weight = c (1 + u), maximises the likelihood times a Gaussian of variance
    1 / KEEP around u = 0 and bias = 0: few images keep to the temperature. The loss is strictly convex, so that Newton's method
    with a line search ends at its one minimum, also where logits mirror each other, are collinear or tell all images apart.
    Where the temperature takes Platt's targets, or a label has no image, so do the weights. logits: (N, K); truth: (N,), classes.
    """
    z = np.asarray(logits, dtype=np.float64)
    k = z.shape[1]
    common = fit_temperature(z, truth)
    smoothed = common.status == "smoothed" or len(np.unique(truth)) < k
    targets = _platt_targets(truth, k) if smoothed else np.eye(k)[truth]
    x = z / common.value

    def loss(at: Float64) -> float:
        return float(KEEP * at @ at / 2 - (targets * log_softmax(x * (1 + at[:k]) + at[k:], axis=1)).sum())

    def slope_and_curve(at: Float64) -> tuple[Float64, Float64]:
        p = np.exp(log_softmax(x * (1 + at[:k]) + at[k:], axis=1))
        outer = np.concatenate([p * x, p], axis=1)  # (N, 2K)
        squares, products, sums = (np.diag((p * x**power).sum(axis=0)) for power in (2, 1, 0))
        excess = p - targets
        slope = np.concatenate([(excess * x).sum(axis=0), excess.sum(axis=0)]) + KEEP * at
        return slope, np.block([[squares, products], [products, sums]]) - outer.T @ outer + KEEP * np.eye(2 * k)

    at = np.zeros(2 * k)
    for _ in range(STEPS):
        slope, curve = slope_and_curve(at)
        step = -np.linalg.solve(curve, slope)
        gain = float(-slope @ step)
        if not gain > FLAT:
            break
        length, here = 1.0, loss(at)
        while length > SHORTEST and not loss(at + length * step) <= here - length * gain / 4:
            length /= 2
        if length <= SHORTEST:  # rounding leaves nothing to gain
            break
        at = at + length * step
    status: Status = "smoothed" if smoothed else common.status
    return Vector((1 + at[:k]) / common.value, at[k:] - at[k:].mean(), status)


def _minimise(margins: Float64, targets: Float64, status: Status) -> Temperature:
    low, high = LOWEST, HIGHEST
    if _slope(margins, targets, low) < 0:
        return Temperature(low, "at_bound")
    if _slope(margins, targets, high) > 0:
        return Temperature(high, "at_bound")
    root = brentq(lambda log: _slope(margins, targets, math.exp(log)), math.log(low), math.log(high), xtol=EXACT, maxiter=ROUNDS)
    return Temperature(math.exp(root), status)


def _slope(margins: Float64, targets: Float64, temperature: float) -> float:
    """The loss's derivative by 1 / T, positive where a higher T is better.

    Margins in place of logits change nothing but the rounding: the digits of a sure answer are kept.
    """
    scaled = margins / temperature
    exp = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probs = exp / exp.sum(axis=1, keepdims=True)
    return float(((probs - targets) * margins).sum(axis=1).mean())


def _platt_targets(truth: Ints, classes: int) -> Float64:
    """(n + 1) / (n + K) for the true class of n images, 1 / (n + K) for the others: Platt 1999, section 2.2, for K classes."""
    n = np.bincount(truth, minlength=classes)[truth][:, None]
    return (np.eye(classes)[truth] * n + 1) / (n + classes)
