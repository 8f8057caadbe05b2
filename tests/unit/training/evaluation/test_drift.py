"""The drift reference beside numbers by hand, an eigendecomposition, and simulations without drift."""

import numpy as np
import pytest
from scipy.stats import chi2

from training.evaluation import drift


def test_psi_by_hand():
    # p = (1/2, 1/2), q = (1/4, 3/4): (-1/4) ln(1/2) + (1/4) ln(3/2)
    assert drift.psi(np.array([2.0, 2.0]), np.array([1.0, 3.0])) == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(1.5))
    assert drift.psi(np.array([5.0, 5.0]), np.array([50.0, 50.0])) == 0.0
    assert np.isfinite(drift.psi(np.array([5.0, 5.0]), np.array([0.0, 10.0])))


def test_values_are_counted_from_each_edge_on():
    assert drift.counts(np.array([-1.0, 0.0, 0.5, 1.0, 9.0]), np.array([0.0, 1.0])).tolist() == [1, 2, 2]


def test_axes_are_the_eigenvectors_of_the_training_images_alone():
    rng = np.random.default_rng(0)
    training = rng.normal(size=(400, 5)) * [5, 3, 2, 1, 0] + 7
    others = rng.normal(size=(100, 5)) + 100
    found = drift.fit(training, others, others, 3)
    values, vectors = np.linalg.eigh(np.cov(training.T))
    expected = vectors[:, np.argsort(values)[::-1][:3]].T
    assert np.abs((found.axes * expected).sum(axis=1)) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(found.centre, training.mean(axis=0), rtol=1e-6)
    assert (found.axes[np.arange(3), np.abs(found.axes).argmax(axis=1)] > 0).all()
    # The fifth feature is always the same: at most four axes vary.
    assert len(drift.fit(training, others, others, 12).axes) == 4


def test_deciles_are_of_the_calibration_images():
    rng = np.random.default_rng(1)
    training, calibration = rng.normal(size=(300, 4)), rng.normal(size=(1000, 4))
    found = drift.fit(training, calibration, calibration, 2)
    along = (calibration - training.mean(axis=0)) @ found.axes.T
    for axis in range(2):
        assert (along[:, axis] < found.deciles[axis, 0]).mean() == pytest.approx(0.1, abs=0.002)
        assert (along[:, axis] < found.deciles[axis, 8]).mean() == pytest.approx(0.9, abs=0.002)
    assert found.psi.max() == 0.0
    assert not found.notes


def test_validation_images_alike_give_few_alarms_and_shifted_ones_a_note():
    rng, alarms = np.random.default_rng(2), 0
    for _ in range(200):
        splits = [rng.normal(size=(n, 6)) for n in (300, 240, 240)]
        found = drift.fit(*splits, 4)
        alarms += bool(found.notes)
    assert alarms <= 8  # 1 % of 200 is 2; more than 8 come in one of 3,000 tries
    assert found.limit == pytest.approx(chi2.isf(0.01 / 4, 9) * 2 / 240)
    shifted = drift.fit(splits[0], splits[1], splits[2] + 1.0, 4)
    assert shifted.summary["largest_psi"] > shifted.limit
    assert "validation images differ from calibration images" in shifted.notes[0]


def test_features_that_never_vary_have_no_axis():
    same = np.ones((50, 3), dtype=np.float32)
    found = drift.fit(same, same, same, 12)
    assert found.axes.shape == (0, 3)
    assert found.arrays["deciles"].shape == (0, 9)
    assert found.summary["largest_psi"] == 0.0
    assert not found.notes
