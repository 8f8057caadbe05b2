"""The ratios of a shadow's rounds, against arithmetic by hand."""

import math

import pytest

from loadtests.bench.shadow import interval


def test_ratios_have_a_mean_and_an_interval() -> None:
    """0.9, 1.0 and 1.1: a standard deviation of 0.1, and 0.1 / sqrt(3) of the mean."""
    mean, half = interval([0.9, 1.0, 1.1])
    assert (mean, half) == (pytest.approx(1.0), pytest.approx(1.96 * 0.1 / math.sqrt(3)))
    assert math.isnan(interval([1.0])[1])
