"""PSI beside numbers by hand, and its null law beside simulations."""

import numpy as np
import pytest
from scipy.stats import chi2

from watch import psi


def test_psi_by_hand():
    # (1 + 1/2) / (4 + 1) and (3 + 1/2) / (4 + 1) beside (2 + 1/2) / (4 + 1) twice
    expected = (0.3 - 0.5) * np.log(0.3 / 0.5) + (0.7 - 0.5) * np.log(0.7 / 0.5)
    assert psi.psi(np.array([2, 2]), np.array([1, 3])) == pytest.approx(expected)
    assert psi.psi(np.array([5, 5]), np.array([50, 50])) == pytest.approx(0.0)
    assert np.isfinite(psi.psi(np.array([5, 5]), np.array([0, 10])))


def test_the_shares_of_empty_bins_are_half_an_image():
    assert psi.shares(np.array([0, 9])).tolist() == [0.05, 0.95]
    assert psi.shares(np.array([[0, 9], [4, 4]])).tolist() == [[0.05, 0.95], [0.5, 0.5]]


def test_the_quantile_is_that_of_the_bins_that_hold_images():
    assert psi.null_quantile(np.full(10, 7), 19) == pytest.approx(chi2.isf(0.01 / 19, 9))
    assert psi.null_quantile(np.array([0, 7, 0, 7, 0]), 19) == pytest.approx(chi2.isf(0.01 / 19, 1))
    assert psi.null_quantile(np.array([0, 7, 0]), 1, level=0.05) == pytest.approx(chi2.isf(0.05, 1))


@pytest.mark.parametrize(("reference", "floor"), [(60, 0.517), (240, 0.148), (1000, 0.055)])
def test_the_limit_of_an_endless_window_is_what_docs_say(reference, floor):
    limit = psi.null_quantile(np.full(10, reference // 10), 19) / reference + psi.EFFECT
    assert limit == pytest.approx(floor, abs=5e-4)


def test_rare_positives_that_become_five_times_as_many_are_below_every_limit_as_docs_say():
    """2 % are positive, of the highest scores all, and negatives fill the rest; then 10 % are."""
    before = np.array([0.10] * 9 + [0.08])
    live = before / 0.98 * 0.9
    live[9] += 0.1
    found = psi.psi(1e6 * np.full(10, 0.1), 1e6 * live)
    assert found == pytest.approx(0.047, abs=5e-4)
    assert found < psi.null_quantile(np.full(10, 100), 19) / 1000 + psi.EFFECT


def test_images_of_one_kind_exceed_the_quantile_at_the_level():
    rng, images, reference = np.random.default_rng(0), 500, 1000
    counts = rng.multinomial(reference, np.full(10, 0.1), 4000)
    live = rng.multinomial(images, np.full(10, 0.1), 4000)
    limit = psi.null_quantile(counts[0], 1, level=0.05) * (1 / images + 1 / reference)
    above = np.mean([psi.psi(one, other) > limit for one, other in zip(counts, live, strict=True)])
    assert above == pytest.approx(0.05, abs=0.014)  # four standard errors
