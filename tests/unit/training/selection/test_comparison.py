"""Comparison: figures against scikit-learn, tests against naive sums and loops, the rule by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests.unit.pages import check_page, check_style
from tests.unit.specs import make_spec
from tests.volume import SIMULATIONS
from training.decisions import chance
from training.errors import CompareError
from training.reports import comparison as report
from training.selection import comparison
from training.selection.comparison import Archive, Candidate, Interval, Row, Rule, Sealed, Versus

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


def test_costs_are_those_of_the_mix_that_is_stated_to_come():
    """Of images where c is a third, and will be 2 of 100: as if each image came as often as its label will."""
    shares = (0.49, 0.49, 0.02)
    spec = make_spec(**POSITIVE, prevalence=shares)
    one, other = make("a", spec=spec), make("b", seed=1, spec=spec)
    counts = [int((k == TRUTH).sum()) for k in range(3)]
    expected = sum(shares[t] / counts[t] * cost for t, cost in zip(TRUTH, one.costs, strict=True))
    assert one.measure()["expected_cost"] == pytest.approx(expected)
    assert one.measure()["expected_cost"] != pytest.approx(make("a").measure()["expected_cost"], rel=0.1)
    found = comparison.versus(one, other, comparison.resamples(N, 200))
    assert found.cost.value == pytest.approx(expected - other.measure()["expected_cost"])
    assert (found.cheaper_p, found.costlier_p) == chance.sign_flips(one.weights * (one.costs - other.costs))
    with pytest.raises(CompareError, match="another mix of labels to come"):
        comparison.check_comparable([one, make("c")])


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


def test_intervals_are_wilsons_for_rates_and_percentiles_for_others():
    one, drawn = make("a"), comparison.resamples(N, 200, seed=3)
    assert all((a == b).all() for a, b in zip(drawn, comparison.resamples(N, 200, seed=3), strict=True))
    assert any((a != b).any() for a, b in zip(drawn, comparison.resamples(N, 200, seed=4), strict=True))
    found = comparison.intervals(one, drawn)
    values = sorted(np.mean([one.costs[n] for n in rows]) for rows in drawn)
    assert found["expected_cost"].low == pytest.approx(np.percentile(values, 2.5), abs=1e-9)
    assert found["expected_cost"].high == pytest.approx(np.percentile(values, 97.5), abs=1e-9)
    right = int((one.predicted == TRUTH).sum())
    assert (found["accuracy"].low, found["accuracy"].high) == chance.wilson(right, N)
    missed = ~one.flagged[TRUTH == 2]
    assert (found["fnr"].low, found["fnr"].high) == chance.wilson(int(missed.sum()), len(missed))
    assert math.isnan(found["ece"].low)
    perfect = comparison.intervals(make("b", sharpness=50), drawn)
    assert (perfect["fnr"].low, perfect["fnr"].value) == (0.0, 0.0)
    assert perfect["fnr"].high > 0.1  # none of about 20 missed promises little


def test_whole_groups_are_drawn():
    groups = [f"g{n // 4}" for n in range(N)]
    for rows in comparison.resamples(N, 20, seed=1, groups=groups):
        assert len(rows) == N  # groups of one size
        drawn = rows.reshape(-1, 4)
        assert (drawn % 4 == np.arange(4)).all()
        assert (drawn // 4 == drawn[:, :1] // 4).all()
    uneven = ["a"] * 5 + ["b"] + ["c"] * 2
    assert {len(rows) for rows in comparison.resamples(8, 50, groups=uneven)} > {8}


def test_the_paired_difference_is_over_the_same_images():
    one, other = make("a", seed=5, sharpness=3), make("b", seed=6)
    drawn = comparison.resamples(N, 300)
    found = comparison.versus(one, other, drawn)
    differences = [np.mean([one.costs[n] - other.costs[n] for n in rows]) for rows in drawn]
    assert found.cost.value == pytest.approx(one.measure()["expected_cost"] - other.measure()["expected_cost"], abs=1e-9)
    assert (found.cost.low, found.cost.high) == pytest.approx(tuple(np.percentile(differences, [2.5, 97.5])), abs=1e-9)
    assert (found.cheaper_p, found.costlier_p) == chance.sign_flips(one.costs - other.costs)
    itself = comparison.versus(one, replace(one, name="twin"), drawn)
    assert itself == Versus(0, 0, 1.0, Interval(0, 0, 0), 1.0, 1.0)
    groups = tuple(f"g{n // 4}" for n in range(N))
    together = comparison.versus(replace(one, groups=groups), other, drawn)
    assert together.cheaper_p == chance.sign_flips(one.costs - other.costs, groups)[0]
    right = (one.predicted == TRUTH).astype(float) - (other.predicted == TRUTH)
    assert together.labels_p == min(1.0, 2 * min(chance.sign_flips(right, groups)))


def test_the_p_values_of_a_family_are_holms():
    family = [Versus(0, 0, p, Interval(0, 0, 0), p / 2, 1 - p / 2) for p in (0.01, 0.04, 0.03)]
    found = comparison.family(family)
    assert [one.labels_p for one in found] == pytest.approx([0.03, 0.06, 0.06])
    assert [one.cheaper_p for one in found] == pytest.approx([0.015, 0.03, 0.03])
    assert comparison.family([]) == []


def equal_models(rng, models, images, error=0.03):
    """Costs of models that err alike and independently."""
    return (rng.random((models, images)) < error).astype(float)


def test_of_twenty_equal_challengers_none_wins_but_by_chance():
    rng, wins, uncorrected = np.random.default_rng(0), 0, 0
    for _ in range(SIMULATIONS):
        champion, *challengers = equal_models(rng, 21, 240)
        ps = [chance.sign_flips(one - champion)[0] for one in challengers]
        wins += min(chance.holm(ps)) <= comparison.FAMILY
        uncorrected += min(ps) <= comparison.FAMILY
    assert wins / SIMULATIONS <= 0.055 + 2 * (0.055 * 0.945 / SIMULATIONS) ** 0.5 * (SIMULATIONS < 10_000)
    assert uncorrected / SIMULATIONS > 0.1


def test_equal_models_of_grouped_images_win_by_chance_alone():
    """60 groups of 4 whose errors go together; as single images, one of five such pairs would be told apart."""
    rng, wins, naive = np.random.default_rng(1), 0, 0
    groups = np.repeat(np.arange(60), 4).tolist()
    for _ in range(SIMULATIONS):
        one, other = (np.repeat(rng.random(60) < 0.2, 4).astype(float) for _ in range(2))
        wins += chance.sign_flips(one - other, groups)[0] <= comparison.FAMILY
        naive += chance.sign_flips(one - other)[0] <= comparison.FAMILY
    assert wins / SIMULATIONS <= 0.035 + 2 * (0.035 * 0.965 / SIMULATIONS) ** 0.5 * (SIMULATIONS < 10_000)
    assert naive / SIMULATIONS > 0.1


def test_twenty_retrainings_promote_by_chance_alone():
    """Each is tried as it comes: what all of them may use up adds up to 0.05."""
    assert comparison.spent(1) == pytest.approx(comparison.FAMILY)
    assert sum(comparison.spent(n) for n in range(1, 10_000)) <= 0.05
    rng, promoted = np.random.default_rng(2), 0
    for _ in range(SIMULATIONS // 4):
        champion, *retrained = equal_models(rng, 21, 240)
        promoted += any(chance.sign_flips(one - champion)[0] <= comparison.spent(n) for n, one in enumerate(retrained, start=1))
    assert promoted / (SIMULATIONS // 4) <= 0.05


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


def test_two_runs_of_one_name_are_told_apart():
    one, other = (
        replace(made, run_id=run_id) for made, run_id in ((make("a"), "1f"), (make("a", truth=np.roll(TRUTH, 1)), "2f"))
    )
    with pytest.raises(CompareError, match=r"a \(run 2f\) was tested on other images than a \(run 1f\)"):
        comparison.check_comparable([one, other])


def at(name, latency=None, **values):
    limits = {"openvino": (0.9 * latency, 1.1 * latency)} if latency else {}
    latencies = {"openvino": latency, "torch": 99.0}
    archive = Archive("d" * 64, "1", 5_000_000, "openvino", latencies, limits) if latency else None
    return make(name, archive=archive, **values)


def test_the_cheapest_that_is_shown_to_keep_the_bounds_is_chosen():
    good, better, same = at("good", 5.0, sharpness=3), at("better", 50.0, sharpness=6), at("a-twin", 5.0, sharpness=3)
    assert better.measure()["expected_cost"] < good.measure()["expected_cost"]
    assert Rule().choose([good, better]).name == "better"
    assert Rule(max_latency_ms=10).choose([good, better]).name == "good"
    assert Rule(max_latency_ms=10).choose([good, same, better]).name == "a-twin"
    assert Rule(max_latency_ms=1).choose([good, better]) is None
    assert Rule(max_latency_ms=5.2).choose([good]) is None  # the median may be 5.5
    assert Rule(max_fnr=-0.1).choose([good]) is None
    high = chance.rate_limits(*good.missed)[1]
    assert Rule(max_fnr=high).objections(good) == []
    [words] = Rule(max_fnr=high - 1e-6).objections(good)
    said = f"misses {good.measure()['fnr']:.4f} of the {len(good.missed[0])} positives and perhaps {high:.4f}"
    assert words == f"{said}, above {high - 1e-6:g}"
    assert "has no archive" in Rule(max_latency_ms=10).objections(make("a"))[0]
    assert "no positive images" in Rule(max_fnr=1).objections(make("a", spec=make_spec()))[0]


def test_a_champion_is_in_its_place_until_it_is_shown_to_break_a_bound():
    champion = at("champion", 10.0, sharpness=2)
    low, high = chance.rate_limits(*champion.missed)
    for bound in (low, (low + high) / 2, high):
        assert Rule(max_fnr=bound).breaches(champion) == []
    assert "at least" in Rule(max_fnr=low - 1e-6).breaches(champion)[0]
    assert [bool(Rule(max_latency_ms=ms).breaches(champion)) for ms in (12, 10, 9.1, 8.9)] == [False, False, False, True]
    assert Rule(max_latency_ms=1).breaches(make("without an archive")) == []


def test_the_champion_s_place_is_taken_by_the_rule_alone():
    poor, good = make("poor", sharpness=0), make("good", sharpness=8)
    drawn = comparison.resamples(N, 300)
    assert Rule().judge(good, None, None)[0]
    assert Rule().judge(good, poor, comparison.versus(good, poor, drawn))[0]
    promoted, reason = Rule().judge(poor, good, comparison.versus(poor, good, drawn))
    assert not promoted
    assert reason.endswith("not at most 0.025")
    touching = Versus(0, 0, 1.0, Interval(-0.1, -0.2, 0.0), 0.026, 0.9)
    assert not Rule().judge(good, poor, touching)[0]
    assert Rule().judge(good, poor, replace(touching, cheaper_p=0.025))[0]
    assert not Rule().judge(good, poor, replace(touching, cheaper_p=0.025), comparison.spent(2))[0]
    bound = Rule(max_fnr=0.3)
    promoted, reason = bound.judge(poor, good, comparison.versus(poor, good, drawn))
    assert not promoted
    assert reason.startswith(f"poor misses {poor.measure()['fnr']:.4f} of the")


def test_a_worse_run_is_not_promoted_because_the_champion_missed_one_more():
    """7 of 120 missed against 6 of 120 at a bound of 0.05, for four times the costs."""
    truth = np.array([2] * 120 + [0] * 120)

    def answers(missed, flagged):
        score = np.array([0.1] * missed + [0.9] * (120 - missed) + [0.9] * flagged + [0.1] * (120 - flagged))
        return np.stack([(1 - score) * 0.6, (1 - score) * 0.4, score], axis=1)

    given = {"paths": tuple(f"{n:03}.png" for n in range(240)), "truth": truth}
    champion, worse = (
        Candidate(name, name, make_spec(**POSITIVE), probabilities=answers(*counts), parameters={}, **given)
        for name, counts in (("champion", (7, 1)), ("worse", (6, 105)))
    )
    beside = comparison.versus(worse, champion, comparison.resamples(240, 200))
    assert beside.cost.low > 0
    assert not Rule(max_fnr=0.05).judge(worse, champion, beside)[0]
    # a champion that is shown to miss too many, and a challenger that keeps the bound for more money
    poor = replace(champion, probabilities=answers(60, 1))
    sure = replace(worse, probabilities=answers(0, 110))
    promoted, reason = Rule(max_fnr=0.05).judge(sure, poor, comparison.versus(sure, poor, comparison.resamples(240, 200)))
    assert promoted  # 110 alarms cost less than 60 misses of 5
    assert reason.startswith("the champion misses 0.5000 of the positives, at least 0.4")
    mild = replace(champion, probabilities=answers(12, 1))
    promoted, reason = Rule(max_fnr=0.05).judge(sure, mild, comparison.versus(sure, mild, comparison.resamples(240, 200)))
    assert not promoted
    assert "but worse costs more" in reason


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
    check_page(page)
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


def test_a_sealed_split_is_told(tmp_path):
    figures = {"accuracy": Interval(0.9, 0.85, 0.93), "ece": Interval(0.02, math.nan, math.nan)}
    found = replace(compared(make("a"), make("b", seed=4)), sealed=Sealed(figures, 80, "openvino", ("b",)))
    data, text, _ = (path.read_text() for path in report.write(found, tmp_path))
    assert "On 80 sealed images, which neither the fits nor this choice among 2 runs has seen" in text
    assert "served by openvino has: accuracy 0.9000 [0.8500, 0.9300]; ECE 0.0200." in text
    assert "They were opened before, for b" in text
    sealed = json.loads(data)["sealed"]
    assert sealed["figures"]["ece"] == {"value": 0.02, "low": None, "high": None}
    assert (sealed["images"], sealed["before"]) == (80, ["b"])


def test_that_the_same_images_chose_and_judge_is_said_beside_the_choice():
    first, second = make("a"), make("b", seed=4)
    made = compared(first, second)
    said = report.summary(made)
    told = said.index(f"That is {made.chosen}.") + 1
    assert said[told].startswith("The same test images chose it and judge it, so that its figures flatter it; those of a sealed")
    sealed = Sealed({"accuracy": Interval(0.9, 0.85, 0.93)}, 80, "openvino", ())
    for other in (compared(first), replace(made, sealed=sealed)):  # one run was not chosen among several; others judge
        assert not [sentence for sentence in report.summary(other) if "flatter" in sentence]


def test_a_figure_that_is_not_defined_is_null(tmp_path):
    found = compared(make("a", spec=make_spec()), make("b", spec=make_spec(), seed=4))
    tree = json.loads(report.write(found, tmp_path)[0].read_text())
    assert tree["runs"][0]["figures"]["fnr"] == {"value": None, "low": None, "high": None}
    assert "FNR" not in report.table(found)[0]
    assert "FNR" not in report.html(found).replace("FNR, percentiles", "")


def test_what_decides_comes_first():
    found = compared(at("old", 5.5), at("new", 7.25, sharpness=5, seed=3))
    deciding, figures, settings = report.groups(found)
    assert deciding.head == [
        "expected cost",
        "cost less champion's",
        "no cheaper, p",
        "labels, p",
        "openvino, ms",
        "torch, ms",
        "archive, MB",
        "answers by",
    ]
    assert deciding.rows[0][1][1:4] == ["–"] * 3  # noqa: RUF001
    tested = found.rows[1].versus
    assert deciding.rows[1][1][2:5] == [f"{tested.cheaper_p:.3g}", f"{tested.labels_p:.3g}", "7.25"]
    assert figures.head == ["accuracy", "macro F1", "FNR", "ECE"]
    assert (settings.head, settings.rows[1]) == (["seed"], ("new", ["3"]))
    head, rows = report.table(found)
    assert head == ["run", *deciding.head, *figures.head, "seed"]
    assert rows[0] == ["old (champion)", *deciding.rows[0][1], *figures.rows[0][1], *settings.rows[0][1]]


def test_a_terminal_has_the_runs_beside_each_other_as_far_as_they_fit():
    found = compared(*(make(f"run{n}", seed=n, parameters={"a.key.longer.than.twentyfour.letters": str(n)}) for n in range(3)))
    wide, narrow = report.text(found, 200), report.text(found, 100)
    head, rows = report.table(found)
    assert len(wide) == len(head)
    for name, line, *cells in zip(head, wide, *rows, strict=True):
        assert line.split("  ")[0].strip() == name
        assert all(f"  {cell}" in line for cell in cells)
    assert narrow.count("") == 1  # two runs, and the third below them
    assert max(map(len, narrow)) <= 100
    assert report.text(found, 10) == [line for row in range(3) for line in (*alone(head, rows[row]), "")][:-1]


def alone(head, cells):
    """One run's column behind the names."""
    return [f"{name:{max(map(len, head))}}  {cell}" for name, cell in zip(head, cells, strict=True)]


def test_runs_link_to_their_reports_where_they_are(tmp_path):
    folder = tmp_path / "runs/a run"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<!doctype html>")
    found = compared(make("here", folder=folder), make("gone", seed=1, folder=tmp_path / "runs/gone"), make("far", seed=2))
    page = report.write(found, tmp_path / "out")[2].read_text()
    check_page(page, {"../runs/a%20run/report.html"})
    assert '<a href="../runs/a%20run/report.html">here</a>' in page
