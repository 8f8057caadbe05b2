"""Expected values by hand; each rule of `decide` at its borders."""

import numpy as np
import pytest

from handlers.decision import (
    calibrated,
    check_threshold,
    decide,
    explained_class,
    nonconformity,
    prediction_sets,
    probabilities,
    scores,
)
from handlers.errors import OptionError
from handlers.spec import PredictionSets, VectorScaling
from tests.unit.specs import make_spec


def test_probabilities_are_a_softmax_of_the_scaled_logits():
    probs = probabilities(np.array([[0.0, 2 * np.log(3.0)], [1000.0, 0.0]]), temperature=2.0)
    np.testing.assert_allclose(probs, [[0.25, 0.75], [1.0, 0.0]], atol=1e-7)
    assert probs.dtype == np.float32


def test_score_is_the_sum_over_positive_labels_or_the_confidence():
    probs = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=np.float32)
    np.testing.assert_allclose(scores(probs, make_spec(positive=("c", "a"))), [0.7, 0.8], atol=1e-7)
    np.testing.assert_allclose(scores(probs, make_spec()), [0.5, 0.7], atol=1e-7)


def test_score_stays_within_one_where_the_sum_rounds_over_it():
    probs = np.array([[0.6, 0.40000004, 0.0]], dtype=np.float32)
    assert scores(probs, make_spec(positive=("a", "b")))[0] == 1.0


def test_threshold_and_band_are_closed_below_and_open_above():
    spec = make_spec(positive=("a",), threshold=0.5, review_below=0.25, review_above=0.125)
    score = np.array([0.0, 0.2499, 0.25, 0.5, 0.6249, 0.625, 1.0])
    assert decide(score, 0.5, spec) == ["pass", "pass", "review", "review", "review", "flag", "flag"]


def test_without_a_band_the_threshold_decides_alone():
    assert decide(np.array([0.4999, 0.5]), 0.5, make_spec(positive=("a",))) == ["pass", "flag"]


def test_a_requests_threshold_carries_the_band_along():
    spec = make_spec(positive=("a",), threshold=0.5, review_below=0.25, review_above=0.25)
    assert decide(np.array([0.4, 0.5, 0.74, 0.76, 1.0]), 0.75, spec) == ["pass", "review", "review", "review", "flag"]


def test_selective_classification_passes_or_asks():
    assert decide(np.array([0.79, 0.8]), 0.8, make_spec(threshold=0.8)) == ["review", "pass"]


@pytest.mark.parametrize("threshold", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_threshold_outside_zero_to_one_is_refused(threshold):
    with pytest.raises(OptionError, match="from 0 to 1"):
        check_threshold(threshold, make_spec())


def test_a_missing_threshold_is_the_archives():
    assert check_threshold(None, make_spec(threshold=0.3)) == 0.3
    assert check_threshold(0.0, make_spec()) == 0.0


def test_the_heat_map_explains_what_drove_the_decision():
    probs = np.array([[0.3, 0.3, 0.4], [0.2, 0.3, 0.5], [0.1, 0.1, 0.8]])
    spec = make_spec(positive=("a", "b"))
    assert explained_class(probs, ["flag", "review", "pass"], spec).tolist() == [0, 1, 2]
    assert explained_class(probs, ["pass", "review", "pass"], make_spec()).tolist() == [2, 2, 2]


def test_calibrated_is_the_temperature_or_the_vector_and_the_temperature():
    logits = np.array([[1.0, 0.0, -1.0]])
    spec = make_spec().model_copy(update={"temperature": 2.0})
    np.testing.assert_array_equal(calibrated(logits, spec), probabilities(logits, 2.0))
    spec = spec.model_copy(update={"scaling": VectorScaling(weight=(2, 1, 1), bias=(0, 4, 1))})
    np.testing.assert_array_equal(calibrated(logits, spec), probabilities(np.array([[2.0, 4.0, 0.0]]), 2.0))


def test_nonconformity_by_hand():
    probs = np.array([[0.5, 0.2, 0.3], [0.25, 0.5, 0.25]])
    np.testing.assert_allclose(nonconformity(probs, "lac"), [[0.5, 0.8, 0.7], [0.75, 0.5, 0.75]])
    np.testing.assert_allclose(nonconformity(probs, "aps"), [[0, 0.8, 0.5], [0.5, 0, 0.75]])


def test_sets_hold_what_fits_and_adaptive_ones_are_never_empty():
    probs = np.array([[0.5, 0.2, 0.3], [0.4, 0.3, 0.3]])
    lac = PredictionSets(method="lac", coverage=0.9, limit=0.55, images=99)
    assert prediction_sets(probs, lac).tolist() == [[True, False, False], [False, False, False]]
    aps = PredictionSets(method="aps", coverage=0.9, limit=0.0, images=99)
    assert prediction_sets(probs, aps).tolist() == [[True, False, False], [True, False, False]]
