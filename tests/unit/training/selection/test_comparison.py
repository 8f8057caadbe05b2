"""Comparison: figures against scikit-learn, tests against naive sums and loops, the rule by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests.unit.specs import make_spec
from tests.unit.training.reports.pages import check_style
from training.errors import CompareError
from training.reports import comparison as report
from training.selection import comparison
from training.selection.comparison import Archive, Candidate, Interval, Row, Rule, Versus

N = 60
POSITIVE = {"positive": ("c",), "cost": ((0, 0, 1), (0, 0, 1), (5, 5, 0)), "threshold": 0.3}
TRUTH = np.random.default_rng(1).integers(0, 3, N)


def make(name, seed=0, sharpness=1.0, spec=None, **values):
    """Random answers that lean towards the truth."""
    noise = np.random.default_rng(seed).normal(size=(N, 3)) + sharpness * np.eye(3)[TRUTH]
    probabilities = (np.exp(noise) / np.exp(noise).sum(axis=1, keepdims=True)).astype(np.float32)
    given = {"run_id": name, "paths": tuple(f"{n:02}.png" for n in range(N)), "truth": TRUTH, "parameters": {"seed": str(seed)}}
    return Candidate(name=name, spec=spec or make_spec(**POSITIVE), probabilities=probabilities, **(given | values))


def test_figures_are_those_of_naive_loops_and_scikit_learn():
    one = make("a")
    probs, rule = one.probabilities, one.spec.decision
    predicted = [max(range(3), key=lambda k: row[k]) for row in probs]
    found = one.measure()
    assert found["accuracy"] == pytest.approx(sum(p == t for p, t in zip(predicted, TRUTH, strict=True)) / N, abs=1e-9)
    assert found["macro_f1"] == pytest.approx(f1_score(TRUTH, predicted, average="macro", zero_division=0), abs=1e-9)
    missed = [row[2] < rule.threshold for row, t in zip(probs, TRUTH, strict=True) if t == 2]
    assert found["fnr"] == pytest.approx(sum(missed) / len(missed), abs=1e-9)
    # flagged: costs 1 unless it is c; passed: costs 5 where it is c
    costs = [float(t != 2) if row[2] >= rule.threshold else 5.0 * (t == 2) for row, t in zip(probs, TRUTH, strict=True)]
    assert one.costs.tolist() == costs
    assert found["expected_cost"] == pytest.approx(sum(costs) / N, abs=1e-9)
    gaps = 0.0
    for low in np.arange(15) / 15:
        rows = [n for n in range(N) if low < probs[n].max() <= low + 1 / 15]
        if rows:
            gaps += abs(sum((predicted[n] == TRUTH[n]) - float(probs[n].max()) for n in rows))
    assert found["ece"] == pytest.approx(gaps / N, abs=1e-6)


def test_reviewed_images_cost_a_look():
    spec = make_spec(**POSITIVE, review_below=0.1, review_above=0.2, review_cost=0.25)
    one = make("a", spec=spec)
    seen = (one.probabilities[:, 2] >= np.float32(0.2)) & (one.probabilities[:, 2] < np.float32(0.5))
    assert seen.any()
    assert (one.costs[seen] == 0.25).all()
    assert one.costs[~seen].tolist() == make("a").costs[~seen].tolist()


def test_without_positive_labels_nothing_is_missed():
    found = make("a", spec=make_spec(review_cost=0.1)).measure()
    assert math.isnan(found["fnr"])
    assert found["expected_cost"] > 0


@pytest.mark.parametrize("seed", range(4))
def test_f1_of_classes_that_are_missing_or_never_predicted(seed):
    generator = np.random.default_rng(seed)
    truth, predicted = generator.integers(0, 3, 9), generator.integers(0, 5, 9)
    expected = f1_score(truth, predicted, average="macro", labels=np.unique(truth), zero_division=0)
    assert comparison.macro_f1(truth, predicted, 6) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("only_one", "only_other"), [(0, 0), (1, 0), (5, 5), (3, 11), (40, 12), (0, 200), (700, 900)])
def test_mcnemar_s_test_is_the_binomial_one(only_one, only_other):
    one = np.array([True] * only_one + [False] * only_other + [True, False])
    other = np.array([False] * only_one + [True] * only_other + [True, False])
    n = only_one + only_other
    p = min(1.0, 2 * sum(math.comb(n, k) for k in range(min(only_one, only_other) + 1)) / 2**n)
    found = comparison.mcnemar(one, other)
    assert found[:2] == (only_one, only_other)
    assert found[2] == pytest.approx(p, abs=1e-12)


def test_intervals_are_percentiles_over_the_same_resamples():
    one, drawn = make("a"), comparison.resamples(N, 200, seed=3)
    assert all((a == b).all() for a, b in zip(drawn, comparison.resamples(N, 200, seed=3), strict=True))
    assert any((a != b).any() for a, b in zip(drawn, comparison.resamples(N, 200, seed=4), strict=True))
    found = comparison.intervals(one, drawn)
    values = sorted(np.mean([one.predicted[n] == TRUTH[n] for n in rows]) for rows in drawn)
    assert found["accuracy"].low == pytest.approx(np.percentile(values, 2.5), abs=1e-9)
    assert found["accuracy"].high == pytest.approx(np.percentile(values, 97.5), abs=1e-9)
    assert found["accuracy"].low < found["accuracy"].value < found["accuracy"].high


def test_the_paired_difference_is_over_the_same_images():
    one, other = make("a", seed=5, sharpness=3), make("b", seed=6)
    drawn = comparison.resamples(N, 300)
    found = comparison.versus(one, other, drawn)
    differences = [np.mean([one.costs[n] - other.costs[n] for n in rows]) for rows in drawn]
    assert found.cost.value == pytest.approx(one.measure()["expected_cost"] - other.measure()["expected_cost"], abs=1e-9)
    assert (found.cost.low, found.cost.high) == pytest.approx(tuple(np.percentile(differences, [2.5, 97.5])), abs=1e-9)
    assert found.not_cheaper == np.mean([difference >= 0 for difference in differences])
    itself = comparison.versus(one, replace(one, name="twin"), drawn)
    assert (itself.cost, itself.mcnemar_p, itself.not_cheaper) == (Interval(0, 0, 0), 1.0, 1.0)


def test_the_interval_covers_the_true_difference():
    """Of 200 pairs of runs whose costs really differ by 0.2, about 95 % of the intervals hold it."""
    generator, covered = np.random.default_rng(0), 0
    drawn = comparison.resamples(200, 400)
    for _ in range(200):
        difference = generator.normal(0.2, 1.0, 200)
        means = np.array([difference[rows].mean() for rows in drawn])
        low, high = np.quantile(means, [0.025, 0.975])
        covered += low <= 0.2 <= high
    assert 180 <= covered <= 199


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"paths": tuple(f"{n:02}.png" for n in range(1, N + 1))}, "60, 60, 59 of them in both"),
        ({"truth": np.roll(TRUTH, 1)}, "other images"),
        ({"spec": make_spec(labels=("a", "b", "d"))}, "other labels"),
        ({"spec": make_spec(**POSITIVE | {"cost": ((0, 0, 1), (0, 0, 1), (6, 5, 0))})}, "other costs"),
    ],
)
def test_what_cannot_be_compared_is_said(change, words):
    with pytest.raises(CompareError, match=words):
        comparison.check_comparable([make("a"), make("b", **change)])


def at(name, latency=None, **values):
    archive = Archive("d" * 64, "1", 5_000_000, "openvino", {"openvino": latency, "torch": 99.0}) if latency else None
    return make(name, archive=archive, **values)


def test_the_cheapest_that_keeps_the_bounds_is_chosen():
    good, better, same = at("good", 5.0, sharpness=3), at("better", 50.0, sharpness=6), at("a-twin", 5.0, sharpness=3)
    assert better.measure()["expected_cost"] < good.measure()["expected_cost"]
    assert Rule().choose([good, better]).name == "better"
    assert Rule(max_latency_ms=10).choose([good, better]).name == "good"
    assert Rule(max_latency_ms=10).choose([good, same, better]).name == "a-twin"
    assert Rule(max_latency_ms=1).choose([good, better]) is None
    assert Rule(max_fnr=-0.1).choose([good]) is None
    assert Rule(max_fnr=good.measure()["fnr"]).objections(good) == []
    assert "has no archive" in Rule(max_latency_ms=10).objections(make("a"))[0]
    assert Rule(max_fnr=1).objections(make("a", spec=make_spec()))  # without positive labels no bound on them holds


def test_the_champion_s_place_is_taken_by_the_rule_alone():
    poor, good = make("poor", sharpness=0), make("good", sharpness=8)
    drawn = comparison.resamples(N, 300)
    assert Rule().judge(good, None, None)[0]
    assert Rule().judge(good, poor, comparison.versus(good, poor, drawn))[0]
    promoted, reason = Rule().judge(poor, good, comparison.versus(poor, good, drawn))
    assert (promoted, "not wholly below 0" in reason) == (False, True)
    touching = Versus(0, 0, 1.0, Interval(-0.1, -0.2, 0.0), 0.01)
    assert not Rule().judge(good, poor, touching)[0]
    bound = Rule(max_fnr=good.measure()["fnr"])
    assert bound.judge(poor, good, comparison.versus(poor, good, drawn)) == (
        False,
        f"poor misses {poor.measure()['fnr']:.4f} of the positives, above {bound.max_fnr:g}",
    )
    assert bound.judge(good, poor, touching)[1].startswith("the champion misses")


def compared(*candidates, rule=None):
    rule, drawn, champion = rule or Rule(), comparison.resamples(N, 50), candidates[0]
    rows = [
        Row(one, comparison.intervals(one, drawn), comparison.versus(one, champion, drawn) if one is not champion else None, [])
        for one in candidates
    ]
    return comparison.Comparison(rule, rows, champion.name, rule.choose(candidates).name, 0, 50)


def test_reports_say_the_same_in_every_form(tmp_path):
    found = compared(make("old|one", seed=2), at("new", 7.25, sharpness=5, seed=3))
    data, text, page = (path.read_text() for path in report.write(found, tmp_path))
    assert text.count("\n| ") == 4
    assert "| old\\|one (champion) |" in text
    assert "new (chosen)" in page
    check_style(page)
    assert page.count("data:image/png;base64,") == 1
    tree = json.loads(data)
    assert (tree["champion"], tree["chosen"]) == ("old|one", "new")
    assert tree["runs"][1]["archive"]["latency_ms"] == {"openvino": 7.25, "torch": 99.0}
    assert tree["runs"][1]["parameters"] == {"seed": "3"}
    assert tree["runs"][0]["versus_champion"] is None
    value = found.rows[1].figures["accuracy"].value
    assert f"{value:.4f} [" in text
    assert f"{value:.4f} [" in page
    assert tree["runs"][1]["figures"]["accuracy"]["value"] == round(value, 6)


def test_a_figure_that_is_not_defined_is_null(tmp_path):
    found = compared(make("a", spec=make_spec()), make("b", spec=make_spec(), seed=4))
    tree = json.loads(report.write(found, tmp_path)[0].read_text())
    assert tree["runs"][0]["figures"]["fnr"] == {"value": None, "low": None, "high": None}
