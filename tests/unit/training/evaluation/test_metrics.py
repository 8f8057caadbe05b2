"""Numbers by hand on ten images, and what is null when a split lacks something."""

import json

import numpy as np
import pytest

from handlers import decision
from tests.unit.specs import make_spec
from training.decisions.calibration import Temperature
from training.evaluation.metrics import brier, evaluate
from training.evaluation.saliency import PointingGame

ONE = Temperature(1.0, "converged")


def score(probs, truth, spec, temperature=ONE, pointing=None):
    """`evaluate` as the job calls it: logits are the logarithms of honest probabilities."""
    probs = np.array(probs, dtype=np.float32)
    outcomes = decision.decide(decision.scores(probs, spec), spec)
    return evaluate(np.log(probs), probs, outcomes, np.array(truth), spec, temperature, pointing)


# The score of "bad", and the truth (0 is bad). At 0.3: six flagged, of them four bad; one bad image at 0.2 is missed.
SCORES = [0.95, 0.9, 0.6, 0.4, 0.7, 0.35, 0.2, 0.25, 0.1, 0.05]
TRUTH = [0, 0, 0, 0, 1, 1, 0, 1, 1, 1]
PROBS = [[s, 1 - s] for s in SCORES]
SPEC = make_spec(
    ("bad", "good"),
    positive=("bad",),
    threshold=0.3,
    review_below=0.12,
    review_above=0.12,
    cost=((0, 5), (1, 0)),
    review_cost=0.5,
)


def test_binary_metrics_by_hand():
    result = score(PROBS, TRUTH, SPEC, pointing=PointingGame(3, 4, 0.07))
    # argmax at 0.5: bad for 0.95 0.9 0.6 0.7, so 3 of 5 bad and 4 of 5 good are right
    assert result["images"] == 10
    assert result["accuracy"] == 0.7
    assert result["confusion"] == [[3, 2], [1, 4]]
    # AUROC: of the 25 pairs of a bad and a good image, 5 + 5 + 4 + 4 + 2 are in order
    assert result["per_class"]["bad"] == {"precision": 0.75, "recall": 0.6, "f1": 0.666667, "auroc": 0.8, "images": 5}
    assert result["macro"]["recall"] == pytest.approx(0.7)
    rule = result["decision"]
    assert (rule["accuracy"], rule["recall"], rule["fnr"], rule["fpr"]) == (0.7, 0.8, 0.2, 0.4)
    assert rule["precision"] == pytest.approx(4 / 6, abs=1e-6)
    assert rule["expected_cost"] == pytest.approx((1 * 5 + 2 * 1) / 10)
    # review is [0.18, 0.42): 0.4, 0.35, 0.2, 0.25; left are flags 0.95 0.9 0.6 0.7 (one good) and passes 0.1 0.05 (good)
    assert rule["outcomes"] == {"pass": 2, "flag": 4, "review": 4}
    assert rule["coverage"] == 0.6
    assert rule["error_rate_flag"] == 0.25
    assert rule["error_rate_pass"] == 0.0
    assert rule["expected_cost_with_review"] == pytest.approx((1 * 1 + 4 * 0.5) / 10)
    assert result["pointing_game"] == {"score": 0.75, "hits": 3, "images": 4, "tolerance": 0.07}


def test_calibration_before_and_after_differ_by_the_temperature():
    logits, truth = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]]), np.array([0, 1, 1])
    probs = decision.probabilities(logits, 2.0)
    result = evaluate(logits, probs, ["pass"] * 3, truth, make_spec(("a", "b")), Temperature(2.0, "smoothed"), None)
    sure, honest = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))
    assert result["calibration"] == {
        "temperature": 2.0,
        "temperature_status": "smoothed",
        "ece_before": pytest.approx(abs(2 / 3 - sure), abs=1e-6),
        "ece_after": pytest.approx(abs(2 / 3 - honest), abs=1e-6),
        "nll_before": pytest.approx(-(2 * np.log(sure) + np.log(1 - sure)) / 3, abs=1e-6),
        "nll_after": pytest.approx(-(2 * np.log(honest) + np.log(1 - honest)) / 3, abs=1e-6),
        "brier_before": pytest.approx((2 * 2 * (1 - sure) ** 2 + 2 * sure**2) / 3, abs=1e-6),
        "brier_after": pytest.approx((2 * 2 * (1 - honest) ** 2 + 2 * honest**2) / 3, abs=1e-6),
    }
    assert result["pointing_game"] is None


def test_selective_classification_prices_looks():
    spec = make_spec(("a", "b", "c"), threshold=0.6, review_cost=0.1)
    result = score([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.5, 0.3, 0.2]], [0, 2, 0], spec)["decision"]
    assert result["outcomes"] == {"pass": 2, "flag": 0, "review": 1}
    assert result["error_rate_pass"] == 0.5
    assert result["coverage"] == pytest.approx(2 / 3, abs=1e-6)
    assert result["expected_cost"] == result["expected_cost_with_review"] == pytest.approx(1.1 / 3, abs=1e-6)
    assert [result[name] for name in ("accuracy", "precision", "recall", "fnr", "fpr", "error_rate_flag")] == [None] * 6


def test_a_class_without_images_is_null_and_left_out_of_the_means():
    result = score([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.3, 0.4, 0.3]], [0, 1, 0], make_spec(("a", "b", "c")))
    assert result["per_class"]["c"] == {"precision": None, "recall": None, "f1": None, "auroc": None, "images": 0}
    assert result["macro"]["recall"] == 0.75
    assert result["macro"]["precision"] == 0.75


def test_a_class_never_predicted_has_precision_zero():
    result = score([[0.8, 0.2], [0.7, 0.3]], [0, 1], make_spec(("a", "b")))
    assert result["per_class"]["b"]["precision"] == 0.0
    assert result["macro"]["precision"] == 0.25


def test_one_class_alone_crashes_nothing():
    result = score([[0.8, 0.2], [0.2, 0.8]], [1, 1], SPEC)
    assert result["per_class"]["good"]["auroc"] is None
    assert result["macro"]["auroc"] is None
    assert result["decision"]["recall"] is None
    assert result["decision"]["fnr"] is None
    assert result["decision"]["fpr"] == 0.5


def test_a_band_without_a_price_costs_what_the_threshold_costs():
    result = score(PROBS, TRUTH, make_spec(("bad", "good"), positive=("bad",), review_above=0.2))["decision"]
    assert result["expected_cost_with_review"] == result["expected_cost"]


def test_the_result_is_plain_rounded_json():
    result = score(PROBS, TRUTH, SPEC)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["decision"]["precision"] == 0.666667


def test_brier_by_hand():
    assert brier(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([1, 0])) == pytest.approx((2.0 + 0.5) / 2)
