"""Curves against naive loops and by hand; bands against a search over all of them."""

import numpy as np
import pytest

from handlers.decision import decide
from tests.unit.specs import make_spec
from training.config import DecisionConfig
from training.decisions.selective import budget_band, budget_threshold, doubt, least, risk_coverage
from training.decisions.thresholds import fit_decision


def test_the_curve_by_hand():
    curve = risk_coverage(np.array([0.9, 0.5, 0.8, 0.6]), np.array([False, True, True, False]))
    np.testing.assert_allclose(curve.risk, [0, 1 / 2, 1 / 3, 2 / 4])
    np.testing.assert_allclose(curve.coverage, [0.25, 0.5, 0.75, 1])
    assert curve.aurc == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert (curve.at(0.5), curve.at(0.51), curve.at(1.0), curve.at(0.0)) == (1 / 2, pytest.approx(1 / 3), 1 / 2, 0)
    best = least(np.array([False, True, True, False]))
    np.testing.assert_allclose(best.risk, [0, 0, 1 / 3, 2 / 4])


@pytest.mark.parametrize("coarse", [False, True])
def test_the_curve_is_the_mean_over_orders_of_equally_sure_images(coarse):
    rng = np.random.default_rng(0)
    certainty, wrong = rng.random(40), rng.random(40) < 0.3
    certainty = np.round(certainty, 1) if coarse else certainty
    orders = []
    for _ in range(3000 if coarse else 1):
        order = sorted(range(40), key=lambda n: (-certainty[n], rng.random()))
        orders.append([wrong[order[:n]].sum() / n for n in range(1, 41)])
    np.testing.assert_allclose(risk_coverage(certainty, wrong).risk, np.mean(orders, axis=0), atol=0.03 if coarse else 1e-12)


def test_doubt_is_chows_risk_where_the_threshold_is_bayes():
    scores, fn, fp = np.linspace(0, 1, 21), 5.0, 1.0
    np.testing.assert_allclose(doubt(scores, fp / (fp + fn)) * (fp + fn), np.minimum(fn * scores, fp * (1 - scores)), atol=1e-12)


@pytest.mark.parametrize("budget", [0.0, 0.05, 0.1, 0.35, 0.9])
@pytest.mark.parametrize(
    ("threshold", "coarse"), [(0.5, False), (0.2, False), (0.2, True), (0.97, False), (0.0, False), (1.0, False)]
)
def test_no_band_within_the_budget_holds_more_doubt(threshold, coarse, budget):
    scores = np.random.default_rng(7).beta(0.6, 0.6, 60)
    scores = np.round(scores, 1) if coarse else scores
    start, end = budget_band(scores, threshold, budget)
    spec = make_spec(("bad", "good"), positive=("bad",), threshold=threshold, review_from=start, review_to=end)
    inside = np.array(decide(scores, spec)) == "review"
    assert inside.sum() <= budget * 60
    held = doubt(scores, threshold)
    assert held[inside].sum() == pytest.approx(best_sum(held, int(budget * 60), coarse), abs=1e-9)


def best_sum(held: np.ndarray, most: int, coarse: bool) -> float:
    """The most doubt of any images; of equally doubtful ones all or none are taken."""
    sizes = [(held > level).sum() for level in held] if coarse else [most]
    return np.sort(held)[::-1][: max((size for size in sizes if size <= most), default=0)].sum()


def test_a_budget_sizes_the_band_of_a_fitted_rule():
    rng = np.random.default_rng(1)
    score = rng.random(200)
    probs, truth = np.stack([score, 1 - score], axis=1), (rng.random(200) > score).astype(int)
    share = {}
    for name, config in {
        "budget": DecisionConfig(positive=("bad",), review_budget=0.1),
        "price": DecisionConfig(positive=("bad",), review_cost=0.3),
        "both": DecisionConfig(positive=("bad",), review_budget=0.1, review_cost=0.3),
        "cheap": DecisionConfig(positive=("bad",), review_budget=0.9, review_cost=0.3),
    }.items():
        rule = fit_decision(probs, truth, ("bad", "good"), config)
        assert rule.review_budget == config.review_budget
        outcomes = decide(score, make_spec(("bad", "good"), **dict(rule)))
        share[name] = outcomes.count("review") / 200
    assert share["budget"] == 0.1
    assert share["both"] <= 0.1 < share["price"] == share["cheap"]


def test_without_positive_labels_a_budget_caps_the_threshold():
    rng = np.random.default_rng(2)
    probs, truth = rng.dirichlet(np.ones(4), 200), rng.integers(0, 4, 200)
    confidence = probs.max(axis=1)
    used_up = fit_decision(probs, truth, "abcd", DecisionConfig(review_budget=0.1))
    assert (confidence < used_up.threshold).mean() == 0.1
    # a look for nothing: every image would be seen, were it not for the budget
    assert fit_decision(probs, truth, "abcd", DecisionConfig(review_cost=0.0)).threshold > np.median(confidence)
    capped = fit_decision(probs, truth, "abcd", DecisionConfig(review_budget=0.1, review_cost=0.0))
    assert capped.threshold == used_up.threshold == budget_threshold(confidence, 0.1)


def test_a_band_keeps_the_tiniest_scores():
    # the most doubtful of ten scores below 0.5 is 1e-20: offsets from the threshold would lose it, and take in all of them
    scores = np.array([0.0] * 9 + [1e-20] + [1.0] * 10)
    start, end = budget_band(scores, 0.5, 0.05)
    assert (start, end) == (5e-21, 0.5)
    assert ((scores >= start) & (scores < end)).sum() == 1


def test_a_band_may_hold_a_score_of_one():
    # all scores above the threshold are inside, and so is what is still higher
    assert budget_band(np.array([0.1, 0.95]), 0.9, 0.5) == (0.9, pytest.approx(1 + 1e-9, abs=1e-12))
    # a score of 1 itself is without doubt
    assert budget_band(np.array([0.1, 1.0, 1.0, 1.0]), 0.9, 0.3)[1] == 0.9


def test_weights_are_images_that_repeat():
    rng = np.random.default_rng(5)
    scores, weights = rng.random(60), rng.integers(1, 5, 60)
    for budget in (0.0, 0.1, 0.4):
        repeated = np.repeat(scores, weights)
        assert budget_band(scores, 0.3, budget, weights) == budget_band(repeated, 0.3, budget)
        assert budget_threshold(scores, budget, weights) == budget_threshold(repeated, budget)
