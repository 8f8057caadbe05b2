"""The fitted rule against a search that decides and prices each image for each threshold there is."""

import numpy as np
import pytest

from handlers.decision import decide, scores
from handlers.spec import Decision, FnrBound
from tests.unit.specs import make_spec
from training.config import DecisionConfig
from training.decisions.thresholds import bayes_threshold, cost_curve, cost_matrix, fit_decision, side_costs
from training.errors import ConfigError

LABELS = ("crack", "hole", "intact", "moss")
STATED = ((0, 1, 8, 9), (2, 0, 20, 15), (1, 3, 0, 0.5), (2, 2, 0.25, 0))


def draw(n: int, k: int, seed: int, coarse: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(k, 0.6), n)
    truth = np.array([rng.choice(k, p=row) for row in probs])
    if coarse:  # many equal scores
        probs = np.maximum(np.round(probs * 4), 0.01)
        probs /= probs.sum(axis=1, keepdims=True)
    return probs.astype(np.float32), truth


def naive_cost(threshold: float, probs, truth, labels, rule: Decision) -> float:
    """Decide each image by the serving rule without its band, then look its cost up."""
    bare = rule.model_copy(update={"review_below": 0.0, "review_above": 0.0})
    spec = make_spec(labels, **dict(bare))
    total = 0.0
    for row, y, outcome in zip(probs, truth, decide(scores(probs, spec), spec, threshold), strict=True):
        if outcome == "review":
            total += rule.review_cost
            continue
        allowed = range(len(labels))
        if rule.positive:
            allowed = [k for k in allowed if (labels[k] in rule.positive) == (outcome == "flag")]
        total += rule.cost[y][max(allowed, key=lambda k: row[k])]
    return total / len(truth)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize(
    ("labels", "config"),
    [
        (("bad", "good"), DecisionConfig(positive=("bad",))),
        (("bad", "good"), DecisionConfig(positive=("bad",), false_negative=7, false_positive=0.5)),
        (LABELS, DecisionConfig(positive=("crack", "hole"), false_negative=3)),
        (LABELS, DecisionConfig(positive=("hole", "crack"), cost=STATED)),
        (LABELS, DecisionConfig(review_cost=0.3)),
        (LABELS, DecisionConfig()),
        (LABELS, DecisionConfig(cost=STATED, review_cost=1.5)),
    ],
)
def test_no_threshold_is_cheaper(labels, config, coarse, seed):
    probs, truth = draw(60, len(labels), seed, coarse)
    rule = fit_decision(probs, truth, labels, config)
    score = scores(probs, make_spec(labels, **dict(rule)))
    everywhere = np.concatenate([[0.0, 1.0], score, np.nextafter(score, 2.0).clip(0, 1), np.linspace(0, 1, 101)])
    exhaustive = min(naive_cost(t, probs, truth, labels, rule) for t in everywhere)
    assert naive_cost(rule.threshold, probs, truth, labels, rule) == pytest.approx(exhaustive, abs=1e-12)


def test_the_cost_curve_is_the_naive_cost_everywhere():
    probs, truth = draw(40, 4, seed=9, coarse=True)
    config = DecisionConfig(positive=("crack", "hole"), cost=STATED)
    rule = fit_decision(probs, truth, LABELS, config)
    spec = make_spec(LABELS, **dict(rule))
    score = scores(probs, spec)
    thresholds = np.concatenate([np.linspace(0, 1, 21), score])
    curve = cost_curve(score, *side_costs(probs, truth, spec.positive_index, np.array(rule.cost), None), thresholds)
    np.testing.assert_allclose(curve, [naive_cost(t, probs, truth, LABELS, rule) for t in thresholds], atol=1e-12)


def binary(scores_of_positive: list[float], truth: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Class 0 is positive."""
    s = np.array(scores_of_positive)
    return np.stack([s, 1 - s], axis=1), np.array(truth)


def test_separable_scores_give_the_bayes_threshold():
    rule = fit_decision(
        *binary([0.9, 0.8, 0.1, 0.05], [0, 0, 1, 1]), ("bad", "good"), DecisionConfig(positive=("bad",), false_negative=4)
    )
    assert rule.threshold == pytest.approx(1 / 5)


def test_a_gap_away_from_bayes_gives_its_middle():
    # equal costs, Bayes 0.5, but all below 0.3 are good and all above 0.9 bad with noise between that argues for 0.8
    rule = fit_decision(*binary([0.9, 0.7, 0.6, 0.3], [0, 1, 1, 1]), ("bad", "good"), DecisionConfig(positive=("bad",)))
    assert rule.threshold == pytest.approx(0.8)


def test_of_two_plateaus_the_nearest_to_bayes_wins():
    # costs by gap, equal prices: (.., .2]: 2, (.2, .4]: 1, (.4, .7]: 2, (.7, .9]: 1, (.9, ..]: 2; Bayes 0.5: 0.3 beats 0.8
    probs, truth = binary([0.2, 0.4, 0.7, 0.9], [1, 0, 1, 0])
    assert fit_decision(probs, truth, ("bad", "good"), DecisionConfig(positive=("bad",))).threshold == pytest.approx(0.3)


def test_only_good_images_flag_nothing_and_only_bad_ones_flag_all():
    config = DecisionConfig(positive=("bad",))
    assert fit_decision(*binary([0.9, 0.6], [1, 1]), ("bad", "good"), config).threshold == 1.0
    assert fit_decision(*binary([0.1, 0.2], [0, 0]), ("bad", "good"), config).threshold == 0.0


@pytest.mark.parametrize(("fn", "fp", "review"), [(1, 1, 0.2), (10, 1, 0.5), (5, 2, 0.1), (2, 8, 0.0)])
def test_review_is_chows_rule(fn, fp, review):
    probs, truth = binary([0.99, 0.98, 0.02, 0.01], [0, 0, 1, 1])  # separable: the threshold is Bayes' own
    config = DecisionConfig(positive=("bad",), false_negative=fn, false_positive=fp, review_cost=review)
    rule = fit_decision(probs, truth, ("bad", "good"), config)
    grid = np.linspace(0.0005, 0.9995, 1000)
    outcomes = decide(grid, make_spec(("bad", "good"), **dict(rule)))
    for p, outcome in zip(grid, outcomes, strict=True):
        assert (outcome == "review") == (min(p * fn, (1 - p) * fp) > review)


@pytest.mark.parametrize("review", [None, 0.5, 3.0])
def test_a_look_as_dear_as_the_risk_is_never_taken(review):
    config = DecisionConfig(positive=("bad",), review_cost=review)  # at p = 0.5 the risk is 0.5
    rule = fit_decision(*binary([0.9, 0.1], [0, 1]), ("bad", "good"), config)
    assert (rule.review_below, rule.review_above) == (0.0, 0.0)


def test_the_band_reaches_to_a_threshold_outside_it():
    # Chow's band is 0.4 to 0.6; the only bad images score over 0.9
    config = DecisionConfig(positive=("bad",), review_cost=0.4)
    rule = fit_decision(*binary([0.95, 0.85, 0.8, 0.7, 0.1], [0, 1, 1, 1, 1]), ("bad", "good"), config)
    assert rule.threshold == pytest.approx(0.9)
    assert (rule.threshold - rule.review_below, rule.review_above) == (pytest.approx(0.4), 0.0)


def test_selective_classification_by_hand():
    # accepted at or above 0.7: no error; a look costs 0.1 for the two below, of which one would be an error
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.45, 0.55]])
    rule = fit_decision(probs, np.array([0, 1, 1, 1]), ("a", "b"), DecisionConfig())
    assert rule.review_cost == pytest.approx(0.1)
    assert rule.positive == ()
    assert rule.threshold == pytest.approx(0.7)  # the gap from 0.6 to 0.8; Chow's 1 - 0.1 = 0.9 would review 0.8 too


def test_selective_without_errors_accepts_everything_it_can():
    rule = fit_decision(np.array([[0.99, 0.01], [0.05, 0.95]]), np.array([0, 1]), ("a", "b"), DecisionConfig())
    assert rule.threshold == pytest.approx(0.9)  # all accepted at any threshold up to 0.95; Chow's is nearest to himself


def test_a_bound_caps_what_the_costs_would_choose():
    # a miss costs a tenth of an alarm: without a bound, 0.85 passes the bad images at 0.3 and 0.5 to spare alarms
    probs, truth = binary([0.9, 0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.3, 0.1], [0, 1, 1, 1, 0, 1, 1, 0, 1])
    config = DecisionConfig(positive=("bad",), false_negative=0.1)
    assert fit_decision(probs, truth, ("bad", "good"), config).threshold == pytest.approx(0.85)
    for cap in (0.5, 0.3):
        bound = FnrBound(level=0.5, threshold=cap, positives=3)
        rule = fit_decision(probs, truth, ("bad", "good"), config, bound)
        assert (rule.threshold, rule.fnr_bound) == (cap, bound)
    # where a lower threshold than the cap is cheaper, it is taken
    cautious, bound = config.model_copy(update={"false_negative": 20.0}), FnrBound(level=0.5, threshold=0.5, positives=3)
    assert fit_decision(probs, truth, ("bad", "good"), cautious, bound).threshold == pytest.approx(0.2)


def test_cost_matrix_from_two_prices():
    cost = cost_matrix(("bad", "fair", "good"), DecisionConfig(positive=("bad", "fair"), false_negative=5, false_positive=2))
    assert cost.tolist() == [[0, 0, 5], [0, 0, 5], [2, 2, 0]]
    assert cost_matrix(("a", "b", "c"), DecisionConfig()).tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]


def test_bayes_threshold_by_hand():
    assert bayes_threshold(np.array([[0.0, 3.0], [1.0, 0.0]]), [0], None) == 0.25
    assert bayes_threshold(np.array([[0.0, 2.0], [2.0, 0.0]]), [], 0.5) == 0.75
    assert bayes_threshold(np.array([[0.0, 2.0], [2.0, 0.0]]), [], 5.0) == 0.0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (DecisionConfig(positive=("hole", "rust")), "rust"),
        (DecisionConfig(positive=("a", "b")), "every label"),
        (DecisionConfig(max_fnr=0.05), r"name them in decision\.positive"),
        (DecisionConfig(false_negative=5), r"need decision\.positive"),
        (DecisionConfig(cost=((0, 1),)), "2 rows of 2"),
        (DecisionConfig(cost=((0, 1), (1, 1))), "diagonal"),
        (DecisionConfig(cost=((0, -1), (1, 0))), "not negative"),
        (DecisionConfig(cost=((0, float("nan")), (1, 0))), "finite"),
        (DecisionConfig(positive=("a",), cost=((0, 0), (1, 0))), "cost something"),
        (DecisionConfig(cost=((0, 0), (0, 0))), "cost something"),
    ],
)
def test_a_config_that_contradicts_itself_is_named(config, words):
    with pytest.raises(ConfigError, match=words):
        cost_matrix(("a", "b"), config)
