"""Scaling, which makes confidences honest: one temperature, slopes and bias of two labels, or a weight and bias for each of more.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017; Kull, Silva Filho, Flach: Beyond Sigmoids: How
to Obtain Well-Calibrated Probabilities from Binary Classifiers with Beta Calibration, Electronic Journal of Statistics 11, 2017.

Each is the likelihood's maximum times a prior around what changes nothing but the odds: a hyperbolic distribution
(Barndorff-Nielsen 1977), exp(-sqrt(1 + (x / WIDTH)^2)) of each number's distance x. Nearby it is a Gaussian of deviation WIDTH,
which few images change little. Far off it pulls by 1 / WIDTH nats a unit, and no more, which many images overcome however wrong
the network is. It is log-concave, so that the fit ends whatever the logits. Where the likelihood grows without end, as where all
images are told apart, the prior alone says how sure answers may be: the network's own odds, a little surer. Platt's smoothed
targets (1999), which end it, too, say (n + 1) / (n + 2) of n images instead: of ten that any good network tells apart they would
take 99.9 % for 92 %.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, log_softmax, softmax

from handlers.arrays import Float64, Floats, Ints
from handlers.decision import scaled
from handlers.spec import BetaScaling, VectorScaling
from training.decisions import mix

Status = Literal["converged", "apart", "at_bound"]
# Outside, a softmax is one-hot or uniform for any logits that a network gives.
LOWEST, HIGHEST = 0.05, 20.0
ENDS = (1 / HIGHEST, 1 / LOWEST)
EXACT = 1e-14  # of log T: nearly the last bit of a float64
ROUNDS = 500  # of Brent's method, which needs about ten; bisection alone would need 60
# Newton's method ends where a step gains less than FLAT nats of all images, after about ten steps; SHORTEST ends a line search.
STEPS, FLAT, SHORTEST = 100, 1e-10, 1e-9
WIDTH = 0.5
"""Of the prior: a network that is twice as sure as it should be, 1 / T = 0.5, is that far off."""
WIDTH_MOVED = 1.0
"""The same for slopes and bias of a network that was trained for other odds, whose own are off more often: docs/decisions.md."""
FEW = 50
"""Number of a label's calibration images below which slopes, weights and biases visibly keep to where they start from."""


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature and how it came about.

    `converged`: the maximum of likelihood times prior. `apart`: the likelihood by itself grows down to LOWEST, as it does without
    end where every image is classified right, so that the prior says where to stop. `at_bound`: no maximum inside the bounds.
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
    """Maximise the likelihood of softmax(logits / T) over T (Guo et al. 2017, section 4.2), times the prior around 1 / T = 1.

    In 1 / T the negative logarithm is convex, with derivative sum(E_softmax(z / T)[z] - z_truth) + the prior's, so Brent's method
    finds the derivative's one sign change, the minimum, whatever the logits. logits: (N, K); truth: (N,), classes.
    """
    z = np.asarray(logits, dtype=np.float64)
    margins = z - z[np.arange(len(z)), truth][:, None]  # (N, K), 0 for the true class: sure answers keep their digits

    def rise(inverse: float) -> float:
        return float((softmax(margins * inverse, axis=1) * margins).sum())

    inverse = _turn(lambda inverse: rise(inverse) + float(_pull(inverse - 1, WIDTH)))
    if inverse in ENDS:
        return Temperature(1 / inverse, "at_bound")
    return Temperature(1 / inverse, "apart" if rise(1 / LOWEST) < 0 else "converged")


def fit_beta(logits: Floats, truth: Ints, shift: Float64) -> Beta:
    """Fit slopes and bias of two labels by beta calibration (Kull, Silva Filho, Flach 2017, section 4).

    With p the softmax, the log-odds of label 1 become slope[1] (-log p0) - slope[0] (-log p1) + bias: slope[1] is how fast they
    grow where the network is sure of label 1, slope[0] where it is sure of label 0, and between they go over smoothly. Equal
    slopes are Platt's method. Maximises the likelihood times the prior around both slopes 1 and the bias that `shift` asks for,
    no change but the odds; its width is WIDTH, or WIDTH_MOVED where `shift` moves the odds. The negative logarithm, the sum of a
    convex function of the three and a strictly convex one, has one minimum, whatever the logits. At each pair of slopes Brent's
    method finds the best bias, at each first slope the best second one, and then the first slope, at which the loss turns. The
    slopes are kept from 1 / HIGHEST to 1 / LOWEST: they are positive, so that no two images change their order of z1 - z0, and at
    the lower end the network hardly counts. `apart`: some bias tells all images apart.
    logits: (N, 2); truth: (N,), 0 or 1; shift: (2,), added to the logits by a network trained for other odds.
    """
    z = np.asarray(logits, dtype=np.float64)
    margin, ones, middle = z[:, 1] - z[:, 0], truth == 1, float(shift[1] - shift[0])
    apart = not (0 < ones.sum() < len(ones)) or margin[ones].min() > margin[~ones].max()
    sides = np.stack([-np.logaddexp(0.0, -margin), np.logaddexp(0.0, margin)], axis=1)  # (N, 2), log p1 and -log p0
    width = WIDTH_MOVED if mix.is_moved(shift) else WIDTH

    def bias_of(odds: Float64) -> float:
        def rise(bias: float) -> float:
            return float((expit(odds + bias) - ones).sum() + _pull(bias - middle, width))

        far = float(np.abs(odds + middle).max()) + math.log(4 * len(odds)) + 1  # there, all images together pull by 0.1 at most
        return float(brentq(rise, middle - far, middle + far, xtol=EXACT, maxiter=ROUNDS))

    def rise(slope: Sequence[float], side: int) -> float:
        odds = sides @ slope
        return float((expit(odds + bias_of(odds)) - ones) @ sides[:, side] + _pull(slope[side] - 1, width))

    def second_of(first: float) -> float:
        return _turn(lambda second: rise((first, second), 1))

    first = _turn(lambda first: rise((first, second_of(first)), 0))
    slope = np.array([first, second_of(first)])
    bias = bias_of(sides @ slope)
    at_bound = bool(np.isin(slope, ENDS).any())
    return Beta(slope, np.array([-bias / 2, bias / 2]), "at_bound" if at_bound else "apart" if apart else "converged")


def _far(off: Float64, width: float) -> Float64:
    """The prior's negative logarithm, less its smallest value."""
    return np.asarray(np.sqrt(1 + (off / width) ** 2) - 1)


def _pull(off: Float64 | float, width: float) -> Float64:
    """Its derivative."""
    return np.asarray(off / width**2 / np.sqrt(1 + (off / width) ** 2))


def _stiffness(off: Float64, width: float) -> Float64:
    """Its second derivative."""
    return np.asarray((1 + (off / width) ** 2) ** -1.5 / width**2)


def _turn(rise: Callable[[float], float]) -> float:
    """Find the number, from 1 / HIGHEST to 1 / LOWEST, at which a rising function changes its sign, or the nearer end."""
    least, most = ENDS
    if rise(least) >= 0:
        return least
    if rise(most) <= 0:
        return most
    log = brentq(lambda log: rise(math.exp(log)), math.log(least), math.log(most), xtol=EXACT, maxiter=ROUNDS)
    return math.exp(log)


def fit_vector(logits: Floats, truth: Ints) -> Vector:
    """Fit a weight and a bias for each label, softmax(logits · weight + bias) (Guo et al. 2017, section 4.2).

    With c = 1 / T of the fitted temperature and weight = c (1 + u), maximises the likelihood times the prior around u = 0 and
    bias = 0: few images keep to the temperature. The negative logarithm is strictly convex, so that Newton's method with a line
    search ends at its one minimum, also where logits mirror each other, are collinear or tell all images apart.
    logits: (N, K); truth: (N,), classes.
    """
    z = np.asarray(logits, dtype=np.float64)
    k = z.shape[1]
    common = fit_temperature(z, truth)
    targets = np.eye(k)[truth]
    x = z / common.value

    def loss(at: Float64) -> float:
        return float(_far(at, WIDTH).sum() - (targets * log_softmax(x * (1 + at[:k]) + at[k:], axis=1)).sum())

    def slope_and_curve(at: Float64) -> tuple[Float64, Float64]:
        p = np.exp(log_softmax(x * (1 + at[:k]) + at[k:], axis=1))
        outer = np.concatenate([p * x, p], axis=1)  # (N, 2K)
        squares, products, sums = (np.diag((p * x**power).sum(axis=0)) for power in (2, 1, 0))
        excess = p - targets
        slope = np.concatenate([(excess * x).sum(axis=0), excess.sum(axis=0)]) + _pull(at, WIDTH)
        return slope, np.block([[squares, products], [products, sums]]) - outer.T @ outer + np.diag(_stiffness(at, WIDTH))

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
    status: Status = "apart" if len(np.unique(truth)) < k else common.status
    return Vector((1 + at[:k]) / common.value, at[k:] - at[k:].mean(), status)
