"""Expected values by hand; each rule of `decide` at its borders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.decision import (
    calibrated,
    check_threshold,
    decide,
    explained_class,
    explained_shares,
    nonconformity,
    prediction_sets,
    probabilities,
    rule_of,
    scores,
)
from handlers.errors import GroupUnknown, OptionError
from handlers.spec import BetaScaling, FnrBound, GroupRule, PredictionSets, VectorScaling
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


BANDED = {"positive": ("a",), "threshold": 0.5, "review_from": 0.25, "review_to": 0.625}


def test_the_archives_band_is_closed_below_and_open_above():
    score = np.array([0.0, 0.2499, 0.25, 0.5, 0.6249, 0.625, 1.0])
    assert decide(score, make_spec(**BANDED)) == ["pass", "pass", "review", "review", "review", "flag", "flag"]


def test_without_a_band_the_threshold_decides_alone():
    assert decide(np.array([0.4999, 0.5]), make_spec(positive=("a",))) == ["pass", "flag"]
    assert decide(np.array([0.4999, 0.5, 0.7]), make_spec(positive=("a",)), 0.6) == ["pass", "pass", "flag"]


@pytest.mark.parametrize(
    ("threshold", "outcomes"),
    [
        (0.0, ["flag", "flag", "flag", "flag", "flag"]),
        (0.3, ["pass", "review", "flag", "flag", "flag"]),
        (0.5, ["pass", "review", "review", "flag", "flag"]),  # the archive's own, but the request asked for it
        (0.9, ["pass", "review", "review", "review", "flag"]),
        (1.0, ["pass", "review", "review", "review", "flag"]),
    ],
)
def test_a_requests_threshold_flags_whatever_reaches_it(threshold, outcomes):
    assert decide(np.array([0.0, 0.25, 0.4999, 0.625, 1.0]), make_spec(**BANDED), threshold) == outcomes


@pytest.mark.parametrize(
    ("of_group", "low", "high"),
    [(0.1, 0.1, 0.625), (0.25, 0.25, 0.625), (0.4, 0.25, 0.625), (0.625, 0.25, 0.625), (0.9, 0.25, 0.9)],
)
def test_a_groups_threshold_stretches_the_band_to_hold_it(of_group, low, high):
    groups = (GroupRule(name="site=north", threshold=of_group, images=9, positives=3),)
    rule = rule_of(make_spec(**BANDED, groups=groups), group="site=north")
    assert (rule.threshold, rule.review_from, rule.review_to) == (of_group, low, high)
    own = rule_of(make_spec(**BANDED, groups=groups), 0.3, "site=north")
    assert (own.threshold, own.review_from, own.review_to) == (0.3, 0.25, 0.3)


def test_an_unknown_group_is_refused_by_its_own_code():
    groups = (GroupRule(name="site=north", threshold=0.3, images=9, positives=3),)
    with pytest.raises(GroupUnknown, match=r"request\.group.*site=south.*it has site=north"):
        rule_of(make_spec(**BANDED, groups=groups), group="site=south")
    with pytest.raises(GroupUnknown, match=r"it has none"):
        rule_of(make_spec(), group="site=north")


def test_a_promise_is_held_up_to_the_bounds_threshold():
    bound = FnrBound(level=0.05, threshold=0.6, positives=99)
    spec = make_spec(**BANDED, fnr_bound=bound)
    assert [rule_of(spec, threshold).promise for threshold in (None, 0.0, 0.6, 0.6001, 1.0)] == [
        *["held"] * 3,
        *["overridden"] * 2,
    ]
    assert rule_of(make_spec(**BANDED)).promise is None
    assert rule_of(make_spec(**BANDED), 0.9).promise is None


def test_a_groups_promise_is_its_own_bounds_or_the_archives():
    bound = FnrBound(level=0.05, threshold=0.6, positives=99)
    tight = FnrBound(level=0.05, threshold=0.2, positives=30)
    groups = (
        GroupRule(name="site=north", threshold=0.2, images=99, positives=30, fnr_bound=tight),
        GroupRule(name="site=south", threshold=0.7, images=9, positives=3),
    )
    spec = make_spec(**BANDED, fnr_bound=bound, groups=groups)
    asked = [(None, "site=north"), (0.3, "site=north"), (None, "site=south"), (0.3, "site=south")]
    assert [rule_of(spec, *one).promise for one in asked] == ["held", "overridden", "overridden", "held"]


def test_an_old_archives_band_is_carried_along_as_it_always_was():
    spec = make_spec(positive=("a",), threshold=0.5, review_below=0.25, review_above=0.125)
    score = np.array([0.0, 0.2499, 0.25, 0.5, 0.6249, 0.625, 1.0])
    assert decide(score, spec) == ["pass", "pass", "review", "review", "review", "flag", "flag"]
    assert decide(np.array([0.49, 0.5, 0.874, 0.875, 1.0]), spec, 0.75) == ["pass", "review", "review", "flag", "flag"]


def test_selective_classification_passes_or_asks():
    assert decide(np.array([0.79, 0.8]), make_spec(threshold=0.8)) == ["review", "pass"]
    assert decide(np.array([0.79, 0.8]), make_spec(threshold=0.8), 0.79) == ["pass", "pass"]


def test_what_is_no_number_is_never_passed():
    assert decide(np.array([np.nan]), make_spec(**BANDED)) == ["review"]
    assert decide(np.array([np.nan]), make_spec()) == ["review"]


SHARES = st.floats(0.0, 1.0) | st.sampled_from([0.0, 1.0, 0.5, 5e-324, float(np.nextafter(1.0, 0.0))])
MILDER = ["pass", "review", "flag"]


@st.composite
def _banded(draw):
    """A threshold, a band that holds it, ends included, and a threshold of one group."""
    low, threshold = sorted((draw(SHARES), draw(SHARES)))
    high = draw(st.floats(threshold, 2.0) | st.just(threshold))
    group = GroupRule(name="a=b", threshold=draw(SHARES), images=1, positives=1)
    return make_spec(positive=("a",), threshold=threshold, review_from=low, review_to=high, groups=(group,))


@st.composite
def _offset(draw):
    """The rule of an archive before 0.3."""
    offsets = {"review_below": draw(SHARES), "review_above": draw(SHARES)}
    return make_spec(positive=("a",), threshold=draw(SHARES), **offsets)


@given(_banded(), st.lists(SHARES, min_size=2, max_size=8), SHARES)
def test_at_every_threshold_a_higher_score_gets_no_milder_decision(spec, score, threshold):
    band = [spec.decision.review_from, spec.decision.review_to, spec.decision.threshold, threshold]
    score = np.array(sorted([*score, *[min(end, 1.0) for end in band]]))
    for rule in (rule_of(spec), rule_of(spec, threshold), rule_of(spec, group="a=b")):
        ranks = [MILDER.index(rule.decide(one)) for one in score]
        assert ranks == sorted(ranks)
        assert all(rule.decide(one) != "flag" for one in score if one < rule.threshold)  # nothing is flagged below it
        assert all(rule.decide(one) != "pass" for one in score if one >= rule.threshold)  # nor passed from it on
    # A request's own threshold, by the sentence: at or above it `flag`, between the band's beginning and it `review`.
    by_hand = ["flag" if one >= threshold else "review" if one >= spec.decision.review_from else "pass" for one in score.tolist()]
    assert decide(score, spec, threshold) == by_hand
    assert set(decide(score, spec, 0.0)) == {"flag"}


@given(_offset(), st.lists(SHARES, min_size=2, max_size=8), SHARES)
def test_an_old_rule_is_monotone_too_and_decides_as_its_own_code_did(spec, score, threshold):
    score, old = np.array(sorted(score)), spec.decision
    low, high = threshold - old.review_below, threshold + old.review_above
    by_hand = ["pass" if one < low else "review" if one < high else "flag" for one in score.tolist()]  # 0.2's lines
    assert decide(score, spec, threshold) == by_hand
    ranks = [MILDER.index(outcome) for outcome in by_hand]
    assert ranks == sorted(ranks)


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


def test_the_map_is_of_each_positive_label_by_its_share_of_the_score():
    spec = make_spec(positive=("a", "b"))
    probs = np.array([0.3, 0.1, 0.6], dtype=np.float32)
    np.testing.assert_allclose(explained_shares(probs, "flag", spec), [0.75, 0.25, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(explained_shares(probs, "pass", spec), [0, 0, 1])
    np.testing.assert_array_equal(explained_shares(probs, "review", make_spec(positive=("b",))), [0, 1, 0])
    np.testing.assert_array_equal(explained_shares(probs, "review", make_spec()), [0, 0, 1])
    old = make_spec(positive=("a", "b"), review_below=0.0, review_above=0.0)
    np.testing.assert_array_equal(explained_shares(probs, "flag", old), [1, 0, 0])
    none = np.array([0.0, 0.0, 1.0], dtype=np.float32)  # flagged by the threshold 0
    np.testing.assert_array_equal(explained_shares(none, "flag", spec), [1, 0, 0])


def test_the_shares_are_the_softmax_s_own_gradient():
    # ds/dz_k of s = the summed softmax of the positive labels, by central differences.
    z, step, spec = np.array([0.4, -0.3, 1.1]), 1e-4, make_spec(positive=("a", "b"))

    def score(logits):
        return scores(probabilities(logits[None], 1.0).astype(np.float64), spec)[0]

    def exact(logits):
        p = np.exp(logits) / np.exp(logits).sum()
        return p[0] + p[1]

    slopes = np.array([(exact(z + step * unit) - exact(z - step * unit)) / (2 * step) for unit in np.eye(3)[:2]])
    assert score(z) == pytest.approx(exact(z), abs=1e-7)
    shares = explained_shares(probabilities(z[None], 1.0)[0], "flag", spec)
    np.testing.assert_allclose(shares[:2], slopes / slopes.sum(), rtol=1e-5)


def test_calibrated_is_the_temperature_or_the_vector_and_the_temperature():
    logits = np.array([[1.0, 0.0, -1.0]])
    spec = make_spec().model_copy(update={"temperature": 2.0})
    np.testing.assert_array_equal(calibrated(logits, spec), probabilities(logits, 2.0))
    spec = spec.model_copy(update={"scaling": VectorScaling(weight=(2, 1, 1), bias=(0, 4, 1))})
    np.testing.assert_array_equal(calibrated(logits, spec), probabilities(np.array([[2.0, 4.0, 0.0]]), 2.0))


def test_calibrated_by_slopes_is_beta_calibration():
    p = np.array([0.01, 0.4, 0.5, 0.97])  # of label 1; Kull et al. 2017: logit q = a log p - b log(1 - p) + c
    spec = make_spec(("fine", "bad"), positive=("bad",)).model_copy(update={"temperature": 1.0})
    spec = spec.model_copy(update={"scaling": BetaScaling(slope=(0.4, 1.5), bias=(0.25, -0.5))})
    odds = 0.4 * np.log(p) - 1.5 * np.log(1 - p) - 0.75
    logits = np.stack([np.log(1 - p), np.log(p)], axis=1)
    np.testing.assert_allclose(calibrated(logits + 7, spec)[:, 1], 1 / (1 + np.exp(-odds)), rtol=1e-6)
    plain = spec.model_copy(update={"scaling": BetaScaling(slope=(1, 1), bias=(0, 0))})
    np.testing.assert_allclose(calibrated(logits, plain)[:, 1], p, rtol=1e-6)


@pytest.mark.parametrize("slope", [(0.05, 20.0), (20.0, 0.05), (1.0, 1.0)])
def test_positive_slopes_keep_the_order_of_the_scores(slope):
    spec = make_spec(("fine", "bad"), positive=("bad",)).model_copy(update={"temperature": 1.0})
    spec = spec.model_copy(update={"scaling": BetaScaling(slope=slope, bias=(1.0, -1.0))})
    margin = np.concatenate([-np.logspace(6, -6, 500), [0.0], np.logspace(-6, 6, 500)])
    score = scores(calibrated(np.stack([-margin / 2, margin / 2], axis=1), spec), spec)
    assert np.isfinite(score).all()
    assert (np.diff(score) >= 0).all()


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
