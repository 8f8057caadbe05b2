"""Temperature scaling: one number that makes confidences honest, and the error that says how honest they are.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]

BINS = 15  # Guo et al. 2017, section 5
# Outside, a softmax is one-hot or uniform for any logits that a network gives.
LOWEST, HIGHEST = 0.05, 20.0
HALVINGS = 60  # of log T over [LOWEST, HIGHEST]: down to the last bit of a float64


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature and how it came about.

    `converged`: the likelihood's maximum. `smoothed`: the likelihood grew down to LOWEST, as it does without end where every
    image is classified right, so Platt's targets took the place of the labels. `at_bound`: no maximum inside the bounds.
    """

    value: float
    status: Literal["converged", "smoothed", "at_bound"]


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
