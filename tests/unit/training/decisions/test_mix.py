"""Shares and odds by hand: what a run was trained for, what is to come, and how images are weighted for it."""

import numpy as np
import pytest
from pydantic import ValidationError

from tests.unit.configs import make_config
from training.config import DecisionConfig
from training.data.manifest import Manifest, Sample
from training.decisions.mix import Mix, between, of_training, settled, shares_of, to_come, weights
from training.errors import ConfigError, DataError


def make_manifest(**counts: int) -> Manifest:
    """Training images of each label, and one test image each, which say nothing of the mix."""
    samples = [
        Sample(f"{label}/{split}{n}.jpg", 1, "0" * 64, label, split)
        for split in ("train", "test")
        for label, many in counts.items()
        for n in range(many if split == "train" else 1)
    ]
    return Manifest(tuple(counts), tuple(samples))


def config(class_weights: str = "balanced", calibration: str = "auto"):
    fit = {"phases": [{"epochs": 1, "learning_rate": 0.1}], "class_weights": class_weights}
    return make_config(fit=fit, decision={"calibration": calibration})


@pytest.mark.parametrize("class_weights", ["balanced", "sampled"])
def test_weights_make_the_labels_even_and_the_shift_puts_the_odds_back(class_weights):
    mix = of_training(config(class_weights), make_manifest(damaged=10, intact=90))
    assert mix.shares.tolist() == [0.1, 0.9]
    assert mix.trained_for.tolist() == [0.5, 0.5]
    # odds 1 : 1 become 1 : 9
    np.testing.assert_allclose(mix.shift, [-np.log(9) / 2, np.log(9) / 2])
    assert mix.moved


def test_without_weights_the_odds_are_those_of_the_images():
    mix = of_training(config("none"), make_manifest(damaged=10, intact=90))
    assert mix.shift.tolist() == [0.0, 0.0]
    assert not mix.moved


@pytest.mark.parametrize(
    ("counts", "class_weights", "asked", "taken"),
    [
        ((10, 90, 90), "balanced", "auto", "vector"),
        ((10, 90, 90), "sampled", "auto", "vector"),
        ((10, 90, 90), "none", "auto", "temperature"),
        ((50, 50, 50), "balanced", "auto", "temperature"),
        ((100, 109, 100), "balanced", "auto", "temperature"),  # within a tenth
        ((100, 111, 100), "balanced", "auto", "vector"),
        ((10, 90, 90), "balanced", "temperature", "temperature"),
        ((50, 50, 50), "none", "vector", "vector"),
        ((10, 90), "balanced", "auto", "vector"),
        ((10, 90), "none", "auto", "vector"),
        ((50, 50), "balanced", "auto", "vector"),
        ((50, 50), "balanced", "temperature", "temperature"),
    ],
)
def test_auto_is_vector_of_two_labels_and_where_weights_took_the_odds_away(counts, class_weights, asked, taken):
    wanted = config(class_weights, asked)
    manifest = make_manifest(**dict(zip("abc", counts, strict=False)))
    assert settled(wanted.decision, of_training(wanted, manifest)).calibration == taken


def test_auto_is_a_temperature_where_equal_labels_get_prediction_sets():
    even, rare = (of_training(config("balanced"), make_manifest(a=n, b=90)) for n in (90, 10))
    wanted = DecisionConfig(set_coverage=0.9)
    assert settled(wanted, even).calibration == "temperature"
    assert settled(wanted, rare).calibration == "vector"


def test_two_labels_among_equals_count_by_their_ratio():
    assert not Mix(np.array([0.32, 0.34, 0.34]), np.full(3, 1 / 3)).moved
    assert Mix(np.array([0.3, 0.36, 0.34]), np.full(3, 1 / 3)).moved


def test_stated_shares_in_the_labels_order():
    assert to_come(("a", "b"), DecisionConfig()) is None
    assert to_come(("a", "b"), DecisionConfig(prevalence={"b": 0.9, "a": 0.1})).tolist() == [0.1, 0.9]


@pytest.mark.parametrize("stated", [{"a": 1.0}, {"a": 0.5, "b": 0.3, "c": 0.2}])
def test_shares_of_other_labels_are_refused(stated):
    with pytest.raises(ConfigError, match="each label its share"):
        to_come(("a", "b"), DecisionConfig(prevalence=stated))


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"a": 0.5, "b": 0.4}, "of sum 0.9"),
        ({"a": 0.0, "b": 1.0}, "above 0"),
        ({"a": -0.5, "b": 1.5}, "above 0"),
        ({"a": float("nan"), "b": 0.5}, "above 0"),
        ({}, "sum to 1"),
    ],
)
def test_shares_that_are_none_are_refused_where_the_config_is_read(stated, told):
    with pytest.raises(ValidationError, match=told):
        DecisionConfig(prevalence=stated)


def test_a_label_without_calibration_images_is_named():
    assert shares_of(np.array([0, 1, 1, 1]), ("a", "b")).tolist() == [0.25, 0.75]
    with pytest.raises(DataError, match="none of b"):
        shares_of(np.array([0, 0]), ("a", "b"))


def test_the_shift_is_bayes_rule():
    rng = np.random.default_rng(0)
    before, after = np.array([0.2, 0.3, 0.5]), np.array([0.7, 0.2, 0.1])
    posterior = rng.dirichlet(np.ones(3), 10)
    expected = posterior * after / before
    expected /= expected.sum(axis=1, keepdims=True)
    moved = np.exp(np.log(posterior) + between(before, after))
    np.testing.assert_allclose(moved / moved.sum(axis=1, keepdims=True), expected)


def test_weights_give_the_labels_their_shares():
    truth = np.array([0, 0, 1, 1, 1, 1, 1, 1])
    found = weights(truth, (0.5, 0.5))
    assert found.mean() == pytest.approx(1)
    assert found[:2].sum() == pytest.approx(found[2:].sum())
    assert weights(truth, None).tolist() == [1.0] * 8
    # a label without an image leaves its share to the others
    np.testing.assert_allclose(weights(np.array([0, 1]), (0.25, 0.25, 0.5)), [1, 1])
