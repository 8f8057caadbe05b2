"""The drift reference beside an eigendecomposition, bins counted one by one, and simulations without drift."""

import numpy as np
import pytest

from training.evaluation import drift
from training.evaluation.drift import Seen


def seen(rng: np.random.Generator, count: int, shift: float = 0.0, features: int = 6) -> Seen:
    pictures = np.column_stack([rng.normal(shift, 1, (count, 4)), np.full((count, 2), 64)])
    return Seen(pictures, rng.normal(shift, 1, (count, features)).astype(np.float32), rng.uniform(size=count))


def fit(rng: np.random.Generator, *counts: int, shift: float = 0.0, axes: int = 4) -> drift.Fitted:
    training, calibration, validation = counts
    truth = rng.integers(0, 2, calibration)
    return drift.fit(rng.normal(size=(training, 6)), seen(rng, calibration), truth, seen(rng, validation, shift), axes, 2)


def test_axes_are_the_eigenvectors_of_the_training_images():
    rng = np.random.default_rng(0)
    training = rng.normal(size=(400, 5)) * [5, 3, 2, 1, 0] + 7
    centre, axes = drift.axes_of(training, 3)
    values, vectors = np.linalg.eigh(np.cov(training.T))
    expected = vectors[:, np.argsort(values)[::-1][:3]].T
    assert np.abs((axes * expected).sum(axis=1)) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(centre, training.mean(axis=0), rtol=1e-6)
    assert (axes[np.arange(3), np.abs(axes).argmax(axis=1)] > 0).all()
    # The fifth feature is always the same: at most four axes vary.
    assert len(drift.axes_of(training, 12)[1]) == 4


def test_features_that_never_vary_have_no_axis():
    rng, same = np.random.default_rng(0), np.ones((50, 6), dtype=np.float32)
    given = Seen(seen(rng, 50).pictures, same, rng.uniform(size=50))
    found = drift.fit(same, given, np.zeros(50, dtype=int), given, 12, 2)
    assert found.reference.axes.shape == (0, 6)
    assert len(found.reference.figures) == 7
    assert not found.notes


def test_bins_of_values_that_differ_hold_a_tenth_each():
    values = np.random.default_rng(1).normal(size=1000).astype(np.float32)
    edges = drift.edges_of(values)
    assert len(edges) == 9
    assert drift.counts_of(values, edges).tolist() == [100] * 10
    ranked = np.sort(values)
    for n, edge in enumerate(edges, 1):  # half-way between the values on both sides
        assert edge == pytest.approx((ranked[100 * n - 1] + ranked[100 * n]) / 2, abs=1e-7)


def test_a_value_that_many_images_share_has_a_bin_of_its_own():
    assert drift.counts_of(np.full(30, 64), drift.edges_of(np.full(30, 64, np.float32))).tolist() == [0, 30, 0]
    two = np.repeat(np.float32([64, 128]), [10, 20])
    edges = drift.edges_of(two)
    assert drift.counts_of(two, edges).tolist() == [0, 10, 0, 20, 0]
    assert drift.counts_of(np.array([63, 64, 65, 127, 128, 129]), edges).tolist() == [1, 1, 2, 1, 1]
    # Zero is told from the smallest number below it that is not taken for zero.
    some = np.concatenate([np.zeros(50), np.linspace(1, 2, 50)]).astype(np.float32)
    edges = drift.edges_of(some)
    assert edges[0] < 0 == edges[1]
    assert np.float32(edges[0]) == -np.finfo(np.float32).tiny
    assert drift.counts_of(some, edges)[:2].tolist() == [0, 50]
    assert len(edges) <= 9


def test_every_figure_is_counted_once_for_each_image_and_class():
    found = fit(np.random.default_rng(2), 300, 240, 100).reference
    assert found.figures[:7] == ("score", "brightness", "contrast", "sharpness", "saturation", "width", "height")
    assert found.figures[7:] == ("axis_01", "axis_02", "axis_03", "axis_04")
    for counts, by_class in zip(found.counts, found.class_counts, strict=True):
        assert counts.sum() == found.images == 240
        assert by_class.sum(axis=0).tolist() == counts.tolist()
    assert found.counts[5].tolist() == [0, 240, 0]


def test_validation_images_alike_give_few_alarms_and_shifted_ones_a_note():
    rng, alarms = np.random.default_rng(3), 0
    for _ in range(100):
        alarms += bool(fit(rng, 300, 240, 240).notes)
    assert alarms <= 2
    shifted = fit(rng, 300, 240, 240, shift=1.0)
    assert shifted.summary["psi"] > shifted.summary["limit"]
    assert shifted.summary["figure"] in shifted.reference.figures
    assert "validation images differ from calibration images" in shifted.notes[0]
    assert shifted.summary["figure"] in shifted.notes[0]
