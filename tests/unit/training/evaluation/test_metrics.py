"""Numbers by hand on ten images, and what is null when a split lacks something."""

import json

import numpy as np
import pytest

from handlers import decision
from handlers.spec import VectorScaling
from tests.unit.specs import make_spec
from training.decisions.scaling import Temperature
from training.evaluation.metrics import brier, evaluate, prevalence
from training.evaluation.saliency import PointingGame

ONE = Temperature(1.0, "converged")


def score(probs, truth, spec, temperature=ONE, pointing=None):
    """`evaluate` as the job calls it: logits are the logarithms of honest probabilities."""
    probs = np.array(probs, dtype=np.float32)
    outcomes = decision.decide(decision.scores(probs, spec), spec)
    return evaluate(np.log(probs), probs, outcomes, np.array(truth), spec, temperature, pointing)


THREE = make_spec(("bad", "worse", "good"), positive=("bad", "worse"))


def naive_wilson(count: int, n: int) -> list[float]:
    """Wilson 1927, with z = 1.96 to five digits."""
    z, p = 1.959964, count / n
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return [(middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)]


# The score of "bad", and the truth (0 is bad). At 0.3: six flagged, of them four bad; one bad image at 0.2 is missed.
SCORES = [0.95, 0.9, 0.6, 0.4, 0.7, 0.35, 0.2, 0.25, 0.1, 0.05]
TRUTH = [0, 0, 0, 0, 1, 1, 0, 1, 1, 1]
PROBS = [[s, 1 - s] for s in SCORES]
SPEC = make_spec(
    ("bad", "good"),
    positive=("bad",),
    threshold=0.3,
    review_from=0.18,
    review_to=0.42,
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
    assert result["per_class"]["bad"] == {
        "precision": 0.75,
        "precision_interval": [pytest.approx(end, abs=1e-6) for end in naive_wilson(3, 4)],
        "precision_of": 4,
        "recall": 0.6,
        "recall_interval": [pytest.approx(end, abs=1e-6) for end in naive_wilson(3, 5)],
        "recall_of": 5,
        "f1": 0.666667,
        "auroc": 0.8,
        "images": 5,
    }
    assert result["macro"]["recall"] == pytest.approx(0.7)
    rule = result["decision"]
    assert (rule["accuracy"], rule["recall"], rule["fnr"], rule["fpr"]) == (0.7, 0.8, 0.2, 0.4)
    assert rule["precision"] == pytest.approx(4 / 6, abs=1e-6)
    for name, count, of in (("accuracy", 7, 10), ("recall", 4, 5), ("fnr", 1, 5), ("fpr", 2, 5), ("error_rate_flag", 1, 4)):
        assert rule[f"{name}_of"] == of
        assert rule[f"{name}_interval"] == pytest.approx(naive_wilson(count, of), abs=1e-6)
    assert (rule["review_from"], rule["review_to"]) == (0.18, 0.42)
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
    result = evaluate(logits, probs, ["pass"] * 3, truth, make_spec(("a", "b")), Temperature(2.0, "apart"), None)
    sure, honest = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))
    found = result["calibration"]
    assert {name: value for name, value in found.items() if isinstance(value, float | str) and "classwise" not in name} == {
        "temperature": 2.0,
        "temperature_status": "apart",
        "ece_before": pytest.approx(abs(2 / 3 - sure), abs=1e-6),
        "ece_after": pytest.approx(abs(2 / 3 - honest), abs=1e-6),
        "nll_before": pytest.approx(-(2 * np.log(sure) + np.log(1 - sure)) / 3, abs=1e-6),
        "nll_after": pytest.approx(-(2 * np.log(honest) + np.log(1 - honest)) / 3, abs=1e-6),
        "brier_before": pytest.approx((2 * 2 * (1 - sure) ** 2 + 2 * sure**2) / 3, abs=1e-6),
        "brier_after": pytest.approx((2 * 2 * (1 - honest) ** 2 + 2 * honest**2) / 3, abs=1e-6),
    }
    assert result["pointing_game"] is None
    # without positive labels the score is the confidence; class by class, b is the other side of a
    score, one, other = found["score"], found["per_class"]["a"], found["per_class"]["b"]
    assert (score["ece_before"], score["ece_after"]) == (found["ece_before"], found["ece_after"])
    assert (score["nll_after"], one["nll_after"], other["nll_after"]) == (found["nll_after"],) * 3
    # the two images at a = 0.73 are right once, the one at 0.27 is right: |1 / 2 - 0.73| 2 / 3 + 0.27 / 3
    assert one["ece_after"] == pytest.approx((honest - 0.5) * 2 / 3 + (1 - honest) / 3, abs=1e-6)
    assert found["classwise_ece_after"] == pytest.approx((one["ece_after"] + other["ece_after"]) / 2, abs=1e-6)
    assert score["nll_change"] == pytest.approx(score["nll_after"] - score["nll_before"], abs=2e-6)


def test_the_score_is_what_is_thresholded():
    found = score([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6], [0.6, 0.2, 0.2]], [0, 2, 1, 1], THREE)["calibration"]
    # scores 0.8, 0.2, 0.4, 0.8, positive: 1, 0, 1, 1
    assert found["score"]["brier_after"] == pytest.approx((0.04 + 0.04 + 0.36 + 0.04) / 4, abs=1e-6)
    assert found["score"]["nll_after"] == pytest.approx(-np.log([0.8, 0.8, 0.4, 0.8]).mean(), abs=1e-6)
    assert found["score"]["ece_after"] == pytest.approx((2 * 0.2 + 0.2 + 0.6) / 4, abs=1e-6)


def test_a_stated_mix_weighs_costs_and_calibration_but_not_rates():
    stated = make_spec(("bad", "good"), **dict(SPEC.decision) | {"prevalence": (0.1, 0.9)})
    found, plain = score(PROBS, TRUTH, stated), score(PROBS, TRUTH, SPEC)
    # five images of each: a bad one counts 0.2, a good one 1.8; one bad is missed at 5, two good are flagged at 1
    assert found["decision"]["expected_cost"] == pytest.approx((0.2 * 5 + 1.8 * 2) / 10)
    assert found["impact"]["the rule"]["cost"] == pytest.approx(1000 * (0.2 * 2 * 0.5 + 1.8 * (2 * 0.5 + 1)) / 10)
    assert found["decision"]["recall"] == plain["decision"]["recall"]
    assert found["accuracy"] == plain["accuracy"]
    squares = [(s - (t == 0)) ** 2 * (0.2 if t == 0 else 1.8) for s, t in zip(SCORES, TRUTH, strict=True)]
    assert found["calibration"]["score"]["brier_after"] == pytest.approx(sum(squares) / 10, abs=1e-6)


def test_the_stated_mix_is_compared_with_the_split_s_own():
    stated = make_spec(("bad", "good"), **dict(SPEC.decision) | {"prevalence": (0.1, 0.9), "threshold": 0.4})
    shift = np.log([0.1 / 0.5, 0.9 / 0.5])
    moved = stated.model_copy(update={"scaling": VectorScaling(weight=(1.0, 1.0), bias=tuple(shift))})
    found = prevalence(moved, SPEC, np.log(np.array(PROBS)), np.array(TRUTH))
    assert found["shares"] == {"bad": 0.1, "good": 0.9}
    here, there = found["rules"]["stated"], found["rules"]["calibration split"]
    assert (here["threshold"], there["threshold"]) == (0.4, 0.3)
    # at 0.3 as above; at 0.4 of the moved odds s / (9 (1 - s)): 0.95 and 0.9 stay, 0.5 and 0.68
    assert there["expected_cost"] == pytest.approx((0.2 * 5 + 1.8 * 2) / 10)
    assert here["expected_cost"] == pytest.approx(0.2 * 3 * 5 / 10)
    odds = [s / (1 - s) / 9 for s in SCORES]
    weights = [0.2 if t == 0 else 1.8 for t in TRUTH]
    said = sum(w * o / (1 + o) for w, o in zip(weights, odds, strict=True)) / 10
    assert here["mean_score"] == pytest.approx(said, abs=1e-6)


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
    none = dict.fromkeys(["precision", "recall", "f1", "auroc", "precision_interval", "recall_interval"])
    assert result["per_class"]["c"] == none | {"images": 0, "precision_of": 0, "recall_of": 0}
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
    result = score(PROBS, TRUTH, make_spec(("bad", "good"), positive=("bad",), review_from=0.5, review_to=0.7))["decision"]
    assert result["expected_cost_with_review"] == result["expected_cost"]


def test_the_result_is_plain_rounded_json():
    result = score(PROBS, TRUTH, SPEC)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["decision"]["precision"] == 0.666667


def test_brier_by_hand():
    assert brier(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([1, 0])) == pytest.approx((2.0 + 0.5) / 2)


def test_intervals_count_groups_where_images_come_in_them():
    """Each image twice, as a group of its own, is known no better than once; and is a rate of twice as many images."""
    probs, truth = np.array(PROBS, dtype=np.float32), np.array(TRUTH)
    doubled = np.repeat(probs, 2, axis=0)
    outcomes = decision.decide(decision.scores(doubled, SPEC), SPEC)
    of = np.repeat(np.arange(10), 2).tolist()
    twice = evaluate(np.log(doubled), doubled, outcomes, np.repeat(truth, 2), SPEC, ONE, None, of)
    once = score(PROBS, TRUTH, SPEC)
    for row, single in (
        (twice, once),
        (twice["decision"], once["decision"]),
        *((twice["per_class"][k], once["per_class"][k]) for k in SPEC.labels),
    ):
        for name in (name for name in row if name.endswith("_interval")):
            assert row[name] == pytest.approx(single[name], abs=2e-6), name
            assert row[name.replace("_interval", "_of")] == 2 * single[name.replace("_interval", "_of")]
