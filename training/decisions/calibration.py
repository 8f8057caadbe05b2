"""Temperature and vector scaling, which make confidences honest, and the error that says how honest they are.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import brentq, minimize

from handlers.arrays import Float64, Floats, Int64, Ints
from training.errors import RunError

BINS = 15  # Guo et al. 2017, section 5
# Outside, a softmax is one-hot or uniform for any logits that a network gives.
LOWEST, HIGHEST = 0.05, 20.0
# About ten steps lead to a minimum. Below FLAT a gradient is taken for 0, below STILL a step for none.
STEPS, FLAT, STILL = 500, 1e-10, 1e-3
EXACT = 1e-14  # of log T: nearly the last bit of a float64


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature and how it came about.

    `converged`: the likelihood's maximum. `smoothed`: the likelihood grew down to LOWEST, as it does without end where every
    image is classified right, so Platt's targets took the place of the labels. `at_bound`: no maximum inside the bounds.
    """

    value: float
    status: Literal["converged", "smoothed", "at_bound"]

    def apply(self, logits: Floats) -> Float64:
        """Return logits / T, (N, K)."""
        return np.asarray(logits, dtype=np.float64) / self.value

    def summary(self) -> dict[str, Any]:
        """Return what metrics.json holds."""
        return {"temperature": self.value, "temperature_status": self.status}


@dataclass(frozen=True)
class Vector:
    """Fitted weights and biases, (K,) each. `smoothed` is as for a temperature; one class that is never confused is enough."""

    weight: Float64
    bias: Float64
    status: Literal["converged", "smoothed"]

    def apply(self, logits: Floats) -> Float64:
        """Return logits · weight + bias, (N, K)."""
        return np.asarray(logits, dtype=np.float64) * self.weight + self.bias

    def summary(self) -> dict[str, Any]:
        """Return what metrics.json holds."""
        return {"weight": self.weight.tolist(), "bias": self.bias.tolist(), "vector_status": self.status}


Scaling = Temperature | Vector


@dataclass(frozen=True)
class Reliability:
    """Equal-width bins of confidence, ((m - 1) / M, m / M]; each field is (M,), the means NaN where a bin is empty."""

    count: Int64
    confidence: Float64
    accuracy: Float64

    @property
    def ece(self) -> float:
        """Expected calibration error, Guo et al. 2017, eq. 3: the sum over m of |B_m| / n · |acc(B_m) - conf(B_m)|."""
        filled = self.count > 0
        gap = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float((self.count[filled] * gap).sum() / self.count.sum())


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


def fit_vector(logits: Floats, truth: Ints) -> Vector:
    """Minimise the negative log-likelihood of softmax(logits · weight + bias) (Guo et al. 2017, section 4.2).

    The loss is convex in both, and a trust-region method (Steihaug 1983) finds its minimum. Where weights would grow without
    end, Platt's targets take the place of the labels. Of biases that differ by a constant, which are as good, those near 0
    are taken. logits: (N, K); truth: (N,), classes.
    """
    z = np.asarray(logits, dtype=np.float64)
    hard = _minimum(z, np.eye(z.shape[1])[truth])
    if hard is not None:
        return Vector(*hard, "converged")
    soft = _minimum(z, _platt_targets(truth, z.shape[1]))
    if soft is None:
        raise RunError("vector scaling finds no weights that fit these logits; use decision.calibration: temperature")
    return Vector(*soft, "smoothed")


def reliability(probs: Floats, truth: Ints, bins: int = BINS) -> Reliability:
    """Compare confidence with accuracy of the predicted class, bin by bin. probs: (N, K); truth: (N,)."""
    confidence = np.asarray(probs.max(axis=1), dtype=np.float64)
    right = (probs.argmax(axis=1) == truth).astype(np.float64)
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    divisor = np.where(count > 0, count, np.nan)
    return Reliability(
        count=count,
        confidence=np.bincount(bin_of, confidence, bins) / divisor,
        accuracy=np.bincount(bin_of, right, bins) / divisor,
    )


def ece(probs: Floats, truth: Ints, bins: int = BINS) -> float:
    """Compute the expected calibration error over equal-width bins, see Reliability.ece. probs: (N, K); truth: (N,)."""
    return reliability(probs, truth, bins).ece


def nll(logits: Floats, truth: Ints, temperature: float = 1.0) -> float:
    """Compute the mean negative log-likelihood in nats, from the logits, so that no probability rounds to 0. logits: (N, K)."""
    z = np.asarray(logits, dtype=np.float64) / temperature
    peak = z.max(axis=1)
    log_sum = peak + np.log(np.exp(z - peak[:, None]).sum(axis=1))
    return float((log_sum - z[np.arange(len(z)), truth]).mean())


def _minimum(z: Float64, targets: Float64) -> tuple[Float64, Float64] | None:
    """(weight, bias) at the loss's minimum; None where the gradient fades out without one. z, targets: (N, K)."""
    n, k = z.shape

    def log_probs(at: Float64) -> Float64:
        scaled = z * at[:k] + at[k:]
        scaled -= scaled.max(axis=1, keepdims=True)
        return np.asarray(scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True)))

    def loss(at: Float64) -> tuple[float, Float64]:
        log_p = log_probs(at)
        excess = np.exp(log_p) - targets
        return float(-(targets * log_p).sum() / n), np.concatenate([(excess * z).mean(axis=0), excess.mean(axis=0)])

    def hessian(at: Float64) -> Float64:
        p = np.exp(log_probs(at))
        outer = np.concatenate([p * z, p], axis=1)  # (N, 2K)
        squares, products, sums = (np.diag((p * z**power).mean(axis=0)) for power in (2, 1, 0))
        return np.asarray(np.block([[squares, products], [products, sums]]) - outer.T @ outer / n)

    # Conjugate gradients, unlike an exact solution, stay where they are in directions that change nothing.
    start = np.concatenate([np.ones(k), np.zeros(k)])
    at = minimize(loss, start, method="trust-ncg", jac=True, hess=hessian, options={"gtol": FLAT, "maxiter": STEPS}).x
    # Newton's next step makes up for what rounding kept from the search. On the way to infinity it is as long as the last.
    step = -np.linalg.lstsq(hessian(at), loss(at)[1], rcond=None)[0]
    if np.abs(step).max() >= STILL:
        return None
    at = at + step
    return at[:k], at[k:] - at[k:].mean()


def _minimise(margins: Float64, targets: Float64, status: Literal["converged", "smoothed"]) -> Temperature:
    low, high = LOWEST, HIGHEST
    if _slope(margins, targets, low) < 0:
        return Temperature(low, "at_bound")
    if _slope(margins, targets, high) > 0:
        return Temperature(high, "at_bound")
    root = brentq(lambda log: _slope(margins, targets, math.exp(log)), math.log(low), math.log(high), xtol=EXACT)
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
