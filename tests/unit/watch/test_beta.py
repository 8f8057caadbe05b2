"""The upper part of the beta function, against SciPy."""

import numpy as np
import pytest
from scipy.special import betaincc, betaln

from watch.beta import log_above


@pytest.mark.parametrize("most", [10.0, 1e4, 1e7])
def test_it_is_scipys(most):
    rng = np.random.default_rng(0)
    a, b = np.exp(rng.uniform(0, np.log(most), (2, 400)))
    mean = a / (a + b)
    x = np.clip(mean + rng.uniform(-6, 6, 400) * np.sqrt(mean * (1 - mean) / (a + b)), 1e-9, 1 - 1e-9)
    with np.errstate(divide="ignore"):
        expected = betaln(a, b) + np.log(betaincc(a, b, x))
    known = np.isfinite(expected)
    assert known.sum() > 300
    np.testing.assert_allclose(log_above(a, b, x)[known], expected[known], rtol=1e-10, atol=1e-7)


def test_where_nothing_is_left_it_is_still_a_number():
    """Some 1e-400 of the whole: SciPy's is 0, and its logarithm is no number."""
    x = np.array([0.9])
    leading = 999 * (np.log(x) + np.log1p(-x)) - np.log(999 / 0.1 - 999 / 0.9)  # Laplace at the edge, 1 / slope
    assert log_above(1000.0, 1000.0, x) == pytest.approx(leading, abs=1e-2)
