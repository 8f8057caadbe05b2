"""Costs per 1,000 images by hand on ten of them."""

import numpy as np
import pytest

from handlers.decision import decide, scores
from tests.unit.specs import make_spec
from tests.unit.training.evaluation.test_metrics import PROBS, SCORES, SPEC, TRUTH
from training.decisions import chance
from training.decisions.impact import impact


def rows(spec, probs=PROBS, truth=TRUTH) -> dict[str, dict]:
    probs = np.array(probs)
    return impact(probs, decide(scores(probs, spec), spec), np.array(truth), spec)


def test_each_rule_is_priced():
    table = rows(SPEC)
    costs = {name: row["cost"] for name, row in table.items()}
    assert costs == pytest.approx(
        {
            "the rule": 100 * (1 * 1 + 4 * 0.5),
            "its threshold without review": 100 * (1 * 5 + 2 * 1),
            "review everything": 1000 * 0.5,
            "threshold 0.5": 100 * (2 * 5 + 1 * 1),  # 0.4 and 0.2 are missed, 0.7 is an alarm
            "flag everything": 100 * 5 * 1,
            "pass everything": 100 * 5 * 5,
        }
    )
    assert (table["the rule"]["reviews"], table["review everything"]["reviews"]) == (400, 1000)


def test_a_difference_has_the_interval_of_its_pairs():
    row = rows(SPEC)["review everything"]
    gaps = np.array([0.5 if s in (0.95, 0.9, 0.6, 0.1, 0.05) else -0.5 if s == 0.7 else 0.0 for s, _ in PROBS])
    half = 1.96 * gaps.std(ddof=1) / np.sqrt(10)
    assert row["difference"] == pytest.approx(1000 * gaps.mean())
    assert row["difference_low"] == pytest.approx(1000 * (gaps.mean() - half))
    assert row["difference_high"] == pytest.approx(1000 * (gaps.mean() + half))


def test_without_a_price_of_looks_there_is_no_reviewing_everything():
    bare = make_spec(("bad", "good"), positive=("bad",), threshold=0.3, cost=((0, 5), (1, 0)))
    assert list(rows(bare)) == ["the rule", "threshold 0.5", "flag everything", "pass everything"]


def test_selective_rules():
    spec = make_spec(("a", "b", "c"), threshold=0.75, review_cost=0.1)
    table = rows(spec, [[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.4, 0.3, 0.3]], [0, 2, 1])
    assert {name: row["cost"] for name, row in table.items()} == pytest.approx(
        {"the rule": 200 / 3, "review everything": 100, "threshold 0.5": 1100 / 3, "review nothing": 2000 / 3}
    )


def test_images_that_go_together_count_as_their_groups():
    """Each image twice, as a group of its own, is known no better than once."""
    probs, truth = np.repeat(np.array(PROBS), 2, axis=0), np.repeat(TRUTH, 2)
    once, twice = rows(SPEC), impact(probs, decide(scores(probs, SPEC), SPEC), truth, SPEC, np.repeat(np.arange(10), 2).tolist())
    for name, row in once.items():
        assert twice[name] == pytest.approx(row), name


def test_reviews_of_a_stated_mix_have_the_interval_of_their_weights():
    spec = SPEC.model_copy(update={"decision": SPEC.decision.model_copy(update={"prevalence": (0.02, 0.98)})})
    weights, looked = np.where(np.array(TRUTH) == 0, 0.04, 1.96), [0.18 <= s < 0.42 for s in SCORES]
    row = rows(spec)["the rule"]
    low, high = chance.rate_interval(np.array(looked), weights=weights)
    assert (row["reviews_low"], row["reviews_high"]) == pytest.approx((1000 * low, 1000 * high))
    assert row["reviews"] == pytest.approx(1000 * np.average(looked, weights=weights))
