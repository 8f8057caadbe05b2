"""The fitted rule against a search that decides and prices each image for each threshold there is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.decision import decide, scores
from handlers.spec import Decision, FnrBound
from tests.unit.specs import make_spec
from training.config import DecisionConfig
from training.decisions.thresholds import bayes_threshold, cheapest, cost_curve, cost_matrix, curve, fit_decision, side_costs
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


def naive_costs(threshold: float, probs, truth, labels, rule: Decision) -> np.ndarray:
    """Decide each image by the serving rule without its band, then look its cost up."""
    bare = rule.model_copy(update={"review_from": None, "review_to": None})
    spec = make_spec(labels, **dict(bare))
    costs = []
    for row, y, outcome in zip(probs, truth, decide(scores(probs, spec), spec, threshold), strict=True):
        if outcome == "review":
            costs.append(rule.review_cost)
            continue
        allowed = range(len(labels))
        if rule.positive:
            allowed = [k for k in allowed if (labels[k] in rule.positive) == (outcome == "flag")]
        costs.append(rule.cost[y][max(allowed, key=lambda k: row[k])])
    return np.array(costs)


def naive_cost(*arguments) -> float:
    return float(naive_costs(*arguments).mean())


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
    cost = np.array(rule.cost)
    positive = make_spec(labels, **dict(rule)).positive_index
    bayes = bayes_threshold(cost, positive, rule.review_cost)
    best = cheapest(score, *side_costs(probs, truth, positive, cost, rule.review_cost), bayes, 1.0)
    assert naive_cost(best, probs, truth, labels, rule) == pytest.approx(exhaustive, abs=1e-12)
    # the rule takes it where it is cheaper than Bayes' by more than the difference's standard error, and Bayes' else
    gap = naive_costs(bayes, probs, truth, labels, rule) - naive_costs(best, probs, truth, labels, rule)
    assert rule.threshold == (best if gap.mean() > (1 + 1e-9) * gap.std(ddof=1) / len(gap) ** 0.5 else bayes)


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


def least(scores_of_positive: list[float], truth: list[int], bayes: float = 0.5, cap: float = 1.0) -> float:
    """The cheapest threshold where class 0 is positive and both errors cost 1."""
    ones = np.array(truth) == 0
    return cheapest(np.array(scores_of_positive), (~ones).astype(float), ones.astype(float), bayes, cap)


def test_a_gap_away_from_bayes_gives_its_middle():
    # equal costs, Bayes 0.5, but all below 0.3 are good and all above 0.9 bad with noise between that argues for 0.8
    assert least([0.9, 0.7, 0.6, 0.3], [0, 1, 1, 1]) == pytest.approx(0.8)


def test_of_two_plateaus_the_nearest_to_bayes_wins():
    # costs by gap, equal prices: (.., .2]: 2, (.2, .4]: 1, (.4, .7]: 2, (.7, .9]: 1, (.9, ..]: 2; Bayes 0.5: 0.3 beats 0.8
    assert least([0.2, 0.4, 0.7, 0.9], [1, 0, 1, 0]) == pytest.approx(0.3)


def test_only_good_images_flag_nothing_and_only_bad_ones_flag_all():
    assert least([0.9, 0.6], [1, 1]) == 1.0
    assert least([0.1, 0.2], [0, 0]) == 0.0


def test_bayes_stays_unless_another_is_cheaper_by_more_than_its_error():
    # 100 images; n good ones at 0.6 argue for a threshold above 0.6: the gap's mean is n / 100, its error about sqrt(n) / 100
    def chosen(n: int) -> float:
        score, truth = [0.9] * 20 + [0.6] * n + [0.1] * (80 - n), [0] * 20 + [1] * 80
        return fit_decision(*binary(score, truth), ("bad", "good"), DecisionConfig(positive=("bad",))).threshold

    assert chosen(0) == chosen(1) == 0.5
    assert chosen(2) == chosen(9) == pytest.approx(0.75)


def test_on_few_images_bayes_costs_less_than_their_own_optimum():
    # well calibrated scores, five to one: the mean over draws of the cost on other images
    rng = np.random.default_rng(0)
    config, cost = DecisionConfig(positive=("bad",), false_negative=5), {}
    for n in (120, 600):
        taken, own, ideal = [], [], []
        for _ in range(60):
            fitted, fresh = rng.beta(0.5, 1.5, n), rng.beta(0.5, 1.5, 20_000)
            truth = (rng.random(n) > fitted).astype(int)  # class 0 is bad
            rule = fit_decision(np.stack([fitted, 1 - fitted], axis=1), truth, ("bad", "good"), config)
            ones = truth == 0
            best = cheapest(fitted, (~ones).astype(float), 5.0 * ones, 1 / 6, 1.0)
            for threshold, costs in ((rule.threshold, taken), (best, own), (1 / 6, ideal)):
                costs.append(np.where(fresh >= threshold, 1 - fresh, 5 * fresh).mean())
        cost[n] = np.mean(taken) / np.mean(ideal), np.mean(own) / np.mean(ideal)
    assert cost[120][0] < cost[120][1]
    assert cost[600][0] < cost[600][1] < cost[120][1]


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
    assert (rule.review_from, rule.review_to) == (None, None)


def test_the_band_reaches_to_a_threshold_outside_it():
    # Chow's band is 0.4 to 0.6; the only bad images score over 0.9, or down to 0.1
    config = DecisionConfig(positive=("bad",), review_cost=0.4)
    rule = fit_decision(*binary([0.95, 0.85, 0.8, 0.7, 0.1], [0, 1, 1, 1, 1]), ("bad", "good"), config)
    assert rule.threshold == pytest.approx(0.9)
    assert (rule.review_from, rule.review_to) == (pytest.approx(0.4), rule.threshold)
    rule = fit_decision(*binary([0.9, 0.3, 0.2, 0.1, 0.0], [0, 0, 0, 0, 1]), ("bad", "good"), config)
    assert rule.threshold == pytest.approx(0.05)
    assert (rule.review_from, rule.review_to) == (rule.threshold, pytest.approx(0.6))


@settings(deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 80),
    prices=st.tuples(*[st.floats(0.1, 10)] * 2),
    look=st.none() | st.floats(0, 5),
    budget=st.none() | st.floats(0, 0.99),
    cap=st.none() | st.sampled_from([0.0, 0.3, 1.0]),
    spread=st.sampled_from([0.01, 0.5, 3.0]),
)
def test_the_band_holds_the_threshold_and_decisions_never_fall_with_the_score(seed, n, prices, look, budget, cap, spread):
    rng = np.random.default_rng(seed)
    score = rng.beta(spread, spread, n)  # 0.01: scores of 0, of 1 and of 1e-30
    truth = (rng.random(n) > score).astype(int)
    config = DecisionConfig(
        positive=("bad",), false_negative=prices[0], false_positive=prices[1], review_cost=look, review_budget=budget
    )
    bound = None if cap is None else FnrBound(level=0.1, threshold=cap, positives=9)
    rule = fit_decision(np.stack([score, 1 - score], axis=1), truth, ("bad", "good"), config, bound)
    assert rule.threshold <= (1.0 if cap is None else cap)
    assert (rule.review_from is None) == (rule.review_to is None)
    if rule.review_from is not None:
        assert rule.review_from <= rule.threshold <= rule.review_to
        assert rule.review_from < rule.review_to
    spec = make_spec(("bad", "good"), **dict(rule))
    everywhere = np.unique(np.concatenate([score, np.linspace(0, 1, 51), [rule.threshold]]))
    rank = [("pass", "review", "flag").index(outcome) for outcome in decide(everywhere, spec)]
    assert rank == sorted(rank)
    if budget is not None:
        assert decide(score, spec).count("review") <= budget * n + 1e-9


def test_a_mix_to_come_is_as_many_images_of_each_label():
    rng = np.random.default_rng(4)
    score = rng.beta(0.7, 0.7, 200)
    truth = (rng.random(200) > score).astype(int)
    probs = np.stack([score, 1 - score], axis=1)
    bad = truth == 0
    # each bad image three times, each good one once: stated as shares, or repeated
    times = np.where(bad, 3, 1)
    share = 3 * bad.sum() / times.sum()
    for options in ({}, {"review_cost": 0.3}, {"review_budget": 0.2}, {"false_negative": 0.1}):
        config = DecisionConfig(positive=("bad",), **options)
        stated = config.model_copy(update={"prevalence": {"bad": share, "good": 1 - share}})
        rule = fit_decision(probs, truth, ("bad", "good"), stated)
        repeated = fit_decision(np.repeat(probs, times, 0), np.repeat(truth, times), ("bad", "good"), config)
        assert rule.threshold == pytest.approx(repeated.threshold)
        assert (rule.review_from, rule.review_to) == (repeated.review_from, repeated.review_to)
        assert rule.prevalence == (pytest.approx(share), pytest.approx(1 - share))
        assert repeated.prevalence is None


def test_the_curve_by_hand():
    points = curve(np.array([0.2, 0.4, 0.4, 0.8]), np.array([False, True, False, True]))
    assert [(p.threshold, p.missed, p.false_alarms) for p in points] == [
        (0.0, 0.0, 1.0),
        (pytest.approx(0.3), 0.0, 0.5),
        (pytest.approx(0.6), 0.5, 0.0),
        (1.0, 1.0, 0.0),
    ]
    assert curve(np.array([0.2, 0.4]), np.array([True, True])) is None


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 400), spread=st.sampled_from([0.01, 0.5, 3.0]), coarse=st.booleans())
def test_the_curve_is_what_its_thresholds_do(seed, n, spread, coarse):
    rng = np.random.default_rng(seed)
    score = rng.beta(spread, spread, n)
    score = np.round(score, 1) if coarse else score
    positive = rng.random(n) < np.clip(score, 0.2, 0.8)
    positive[:2] = [True, False]
    points = curve(score, positive)
    assert 1 <= len(points) <= 100
    for point in points:
        assert point.missed == pytest.approx((score[positive] < point.threshold).mean())
        assert point.false_alarms == pytest.approx((score[~positive] >= point.threshold).mean())
    thresholds, missed, alarms = (np.array([getattr(p, f) for p in points]) for f in ("threshold", "missed", "false_alarms"))
    assert (np.diff(thresholds) > 0).all()
    assert (np.diff(missed) >= 0).all()
    assert (np.diff(alarms) <= 0).all()
    assert (points[0].missed, points[0].false_alarms) == (0.0, 1.0)
    # no step is larger than a hundredth of the way from (0, 1) to (1, 0), or than what one score makes it
    most = max((score[side] == s).mean() for side in (positive, ~positive) for s in score)
    assert np.diff(missed - alarms).max(initial=0) <= 2 / 99 + 2 * most + 1e-9


def test_selective_classification_by_hand():
    # accepted at or above 0.7: no error; a look costs 0.1 for the two below, of which one would be an error
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.45, 0.55]])
    rule = fit_decision(probs, np.array([0, 1, 1, 1]), ("a", "b"), DecisionConfig())
    assert rule.review_cost == pytest.approx(0.1)
    assert rule.positive == ()
    assert rule.threshold == pytest.approx(0.9)  # Chow's 1 - 0.1; the cheapest is 0.7, which spares one look, too few to tell
    right = probs.argmax(axis=1) == [0, 1, 1, 1]
    assert cheapest(probs.max(axis=1), (~right).astype(float), np.full(4, 0.1), 0.9, 1.0) == pytest.approx(0.7)


def test_selective_without_errors_accepts_everything_it_can():
    rule = fit_decision(np.array([[0.99, 0.01], [0.05, 0.95]]), np.array([0, 1]), ("a", "b"), DecisionConfig())
    assert rule.threshold == pytest.approx(0.9)  # all accepted at any threshold up to 0.95; Chow's is nearest to himself


def test_a_bound_caps_what_the_costs_would_choose():
    # a miss costs a tenth of an alarm: without a bound, Bayes' 10 / 11 passes the bad images at 0.3 and 0.5 to spare alarms
    probs, truth = binary([0.95, 0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.3, 0.1], [0, 1, 1, 1, 0, 1, 1, 0, 1])
    config = DecisionConfig(positive=("bad",), false_negative=0.1)
    assert fit_decision(probs, truth, ("bad", "good"), config).threshold == pytest.approx(10 / 11)
    for cap in (0.5, 0.3):
        bound = FnrBound(level=0.5, threshold=cap, positives=3)
        rule = fit_decision(probs, truth, ("bad", "good"), config, bound)
        assert (rule.threshold, rule.fnr_bound) == (cap, bound)
    # where a lower threshold than the cap is cheaper, it is taken
    cautious, bound = config.model_copy(update={"false_negative": 20.0}), FnrBound(level=0.5, threshold=0.5, positives=3)
    assert fit_decision(probs, truth, ("bad", "good"), cautious, bound).threshold == pytest.approx(1 / 21)


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
        (DecisionConfig(cost=((0, -1), (1, 0))), "from 0 to 1000000000"),
        (DecisionConfig(cost=((0, 2e9), (1, 0))), "from 0 to 1000000000"),
        (DecisionConfig(cost=((0, float("nan")), (1, 0))), "finite"),
        (DecisionConfig(positive=("a",), cost=((0, 0), (1, 0))), "cost something"),
        (DecisionConfig(cost=((0, 0), (0, 0))), "cost something"),
    ],
)
def test_a_config_that_contradicts_itself_is_named(config, words):
    with pytest.raises(ConfigError, match=words):
        cost_matrix(("a", "b"), config)
