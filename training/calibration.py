"""Temperature and vector scaling, which make confidences honest, and the error that says how honest they are.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from training.errors import RunError

Floats = npt.NDArray[np.floating]
Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]

BINS = 15  # Guo et al. 2017, section 5
# Outside, a softmax is one-hot or uniform for any logits that a network gives.
LOWEST, HIGHEST = 0.05, 20.0
STEPS, FLAT, STILL, ROUNDING = 100, 1e-10, 1e-3, 1e-13  # Newton's method needs about ten steps; below FLAT a gradient is none
HALVINGS = 60  # of log T over [LOWEST, HIGHEST]: down to the last bit of a float64


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature and how it came about.

    `converged`: the likelihood's maximum. `smoothed`: the likelihood grew down to LOWEST, as it does without end where every
    image is classified right, so Platt's targets took the place of the labels. `at_bound`: no maximum inside the bounds.
    """

    value: float
    status: Literal["converged", "smoothed", "at_bound"]

    def apply(self, logits: Floats) -> Float64:
        """logits / T, (N, K)."""
        return np.asarray(logits, dtype=np.float64) / self.value

    def summary(self) -> dict[str, Any]:
        """For metrics.json."""
        return {"temperature": self.value, "temperature_status": self.status}


@dataclass(frozen=True)
class Vector:
    """Fitted weights and biases, (K,) each. `smoothed`: as of a temperature; one class that is never confused is enough."""

    weight: Float64
    bias: Float64
    status: Literal["converged", "smoothed"]

    def apply(self, logits: Floats) -> Float64:
        """logits · weight + bias, (N, K)."""
        return np.asarray(logits, dtype=np.float64) * self.weight + self.bias

    def summary(self) -> dict[str, Any]:
        """For metrics.json."""
        return {"weight": self.weight.tolist(), "bias": self.bias.tolist(), "vector_status": self.status}


Scaling = Temperature | Vector


@dataclass(frozen=True)
class Reliability:
    """Equal-width bins of confidence, ((m - 1) / M, m / M]; each field is (M,), the means NaN where a bin is empty."""

    count: npt.NDArray[np.int64]
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

    In 1 / T the loss is convex, with derivative mean(E_softmax(z / T)[z] - z_truth), so halving an interval around the
    derivative's sign change finds the one minimum, whatever the logits. logits: (N, K); truth: (N,), classes.
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
    """Minimise the negative log-likelihood of softmax(logits · weight + bias) (Guo et al. 2017, section 4.2), by Newton's method.

    The loss is convex in both. Where weights would grow without end, Platt's targets take the place of the labels. Of biases
    that differ by a constant, which are as good, those near 0 are taken. logits: (N, K); truth: (N,), classes.
    """
    z = np.asarray(logits, dtype=np.float64)
    hard = _newton(z, np.eye(z.shape[1])[truth])
    if hard is not None:
        return Vector(*hard, "converged")
    soft = _newton(z, _platt_targets(truth, z.shape[1]))
    if soft is None:
        raise RunError("vector scaling finds no weights that fit these logits; use decision.calibration: temperature")
    return Vector(*soft, "smoothed")


def reliability(probs: Floats, truth: Ints, bins: int = BINS) -> Reliability:
    """Confidence against accuracy of the predicted class, bin by bin. probs: (N, K); truth: (N,)."""
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
    """Expected calibration error over equal-width bins, see Reliability.ece. probs: (N, K); truth: (N,)."""
    return reliability(probs, truth, bins).ece


def nll(logits: Floats, truth: Ints, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood in nats, from the logits, so that no probability rounds to 0. logits: (N, K)."""
    z = np.asarray(logits, dtype=np.float64) / temperature
    peak = z.max(axis=1)
    log_sum = peak + np.log(np.exp(z - peak[:, None]).sum(axis=1))
    return float((log_sum - z[np.arange(len(z)), truth]).mean())


def _newton(z: Float64, targets: Float64) -> tuple[Float64, Float64] | None:
    """(weight, bias) at the loss's minimum; None where the gradient fades out without one. z, targets: (N, K)."""
    n, k = z.shape
    at = np.concatenate([np.ones(k), np.zeros(k)])

    def loss_and_probs(at: Float64) -> tuple[float, Float64]:
        scaled = z * at[:k] + at[k:]
        scaled -= scaled.max(axis=1, keepdims=True)
        log_probs = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
        return float(-(targets * log_probs).sum() / n), np.exp(log_probs)

    loss, p = loss_and_probs(at)
    for _ in range(STEPS):
        gradient = np.concatenate([((p - targets) * z).mean(axis=0), (p - targets).mean(axis=0)])
        outer = np.concatenate([p * z, p], axis=1)  # (N, 2K)
        squares, products, sums = (np.diag((p * z**power).mean(axis=0)) for power in (2, 1, 0))
        hessian = np.block([[squares, products], [products, sums]]) - outer.T @ outer / n
        step = -np.linalg.lstsq(hessian, gradient, rcond=None)[0]  # of least norm where a direction changes nothing
        if np.abs(gradient).max() < FLAT:  # on the way to infinity, the next step is as long as those before
            return (at[:k], at[k:] - at[k:].mean()) if np.abs(step).max() < STILL else None
        size, wanted = 1.0, float(gradient @ step) / 10_000
        while (tried := loss_and_probs(at + size * step))[0] > loss + size * wanted + ROUNDING and size > ROUNDING:
            size /= 2
        at, (loss, p) = at + size * step, tried
    return None


def _minimise(margins: Float64, targets: Float64, status: Literal["converged", "smoothed"]) -> Temperature:
    low, high = LOWEST, HIGHEST
    if _slope(margins, targets, low) < 0:
        return Temperature(low, "at_bound")
    if _slope(margins, targets, high) > 0:
        return Temperature(high, "at_bound")
    for _ in range(HALVINGS):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if _slope(margins, targets, middle) > 0 else (low, middle)
    return Temperature(float(np.sqrt(low * high)), status)


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
