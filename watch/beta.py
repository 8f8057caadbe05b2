"""The upper part of the beta function, as a logarithm and without SciPy, which the console's image has no room for."""

from typing import Any

import numpy as np
import numpy.typing as npt

from handlers.arrays import Float64

Counts = npt.NDArray[np.number[Any]] | float
FALL = 40.0
"""Where the integrand is e^-40 of its greatest value, the rest is less than the last digit of a float."""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)
"""Gauss-Legendre's, for each side of the integrand's greatest value [against SciPy: 1e-12, with 30: 1e-9]."""


def log_above(a: Counts, b: Counts, x: Counts) -> Float64:
    """Compute log ∫ from x to 1 of q^(a - 1) (1 - q)^(b - 1) dq, for a, b > 0 and x in (0, 1), all of one shape or scalars.

    With q = 1 / (1 + e^-t) it is the integral of q^a (1 - q)^b over t, which is smooth and log-concave. It is cut off where it
    has fallen by FALL, and computed on both sides of its greatest value.
    """
    arrays: list[Float64] = [np.asarray(one, dtype=np.float64) for one in (a, b, x)]
    return _log_above(*np.broadcast_arrays(*arrays))


def _log_above(a: Float64, b: Float64, x: Float64) -> Float64:
    begin = np.log(x) - np.log1p(-x)
    peak = np.maximum(np.log(a) - np.log(b), begin)
    highest = _log_integrand(a, b, peak)
    left = np.maximum(peak - _reach(a, b, peak, highest, -1.0), begin)
    right = peak + _reach(a, b, peak, highest, 1.0)
    total = np.zeros(x.shape)
    for low, high in ((left, peak), (peak, right)):
        half = (high - low)[..., None] / 2
        at = low[..., None] + half * (1 + NODES)
        total += (half * WEIGHTS * np.exp(_log_integrand(a[..., None], b[..., None], at) - highest[..., None])).sum(axis=-1)
    return np.asarray(highest + np.log(total))


def _log_integrand(a: Float64, b: Float64, t: Float64) -> Float64:
    return np.asarray(-a * np.logaddexp(0.0, -t) - b * np.logaddexp(0.0, t))


def _reach(a: Float64, b: Float64, peak: Float64, highest: Float64, side: float) -> Float64:
    """How far from its greatest value the integrand has fallen by FALL, at most twice too far."""
    q = 1 / (1 + np.exp(-peak))
    slope, bend = np.abs(a * (1 - q) - b * q), (a + b) * q * (1 - q)
    with np.errstate(divide="ignore"):
        reach = np.minimum(np.sqrt(2 * FALL / bend), FALL / slope) / 2
    while (short := highest - _log_integrand(a, b, peak + side * reach) < FALL).any():
        reach = np.where(short, 2 * reach, reach)
    return np.asarray(reach)
