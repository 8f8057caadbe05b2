"""What is read of a run, and how sure a median of latencies is."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from tests.unit.specs import make_spec
from training import runs
from training.selection.candidates import _candidate, median_limits

N = 12


@pytest.mark.parametrize("count", [30, 31, 100])
def test_the_limits_of_a_median_hold_in_95_of_100(count):
    values = np.random.default_rng(0).permutation(count).astype(float)
    low, high = median_limits(values)
    below = int(low)  # of the numbers 0, 1, 2 ... so many lie below
    assert high == count - 1 - below
    assert 2 * sum(math.comb(count, k) for k in range(below + 1)) / 2**count <= 0.05
    assert 2 * binom.cdf(below + 1, count, 0.5) > 0.05


@pytest.mark.parametrize("grouped", [False, True])
def test_groups_come_along_in_the_order_of_the_paths(tmp_path, grouped):
    names = [f"{n:02}.png" for n in reversed(range(N))]
    saved = {"test_paths": names, "test_logits": np.zeros((N, 3), np.float32), "test_truth": np.zeros(N, int)}
    saved |= {"test_groups": [f"g{n // 3}" for n in reversed(range(N))]} if grouped else {}
    np.savez(tmp_path / runs.PREDICTIONS, **{name: np.array(values) for name, values in saved.items()})
    found = _candidate("a", "a", make_spec(), tmp_path / runs.PREDICTIONS, {})
    assert found.paths == tuple(sorted(names))
    assert found.groups == (tuple(f"g{n // 3}" for n in range(N)) if grouped else None)
