"""The report stands alone, says what it must in words, and takes file names as text."""

import io

import pytest
from PIL import Image

from handlers.spec import Spec
from tests.unit import specs
from tests.unit.pages import check_page, check_style
from training.reports.evaluation import CHOSEN, Case, Gallery, Shown, describe_rule, figures, render
from training.reports.pages import UNDEFINED, Picture, number, share, small, unbroken
from training.reports.tables import explanations, interval


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), "#1f6fb2").save(buffer, kind)
    return buffer.getvalue()


PNG, JPEG = encoded("PNG"), encoded("JPEG")


def make_spec(**rule) -> Spec:
    rule = {"positive": ("damaged",), "threshold": 0.25, "cost": ((0, 3), (1, 0)), **rule}
    return specs.make_spec(("damaged", "intact"), name="roofs", temperature=1.5, **rule)


def make_metrics(**changes) -> dict:
    row = {"precision": 0.9, "recall": 0.8, "f1": 0.847, "auroc": 0.95, "images": 10}
    row |= {"precision_interval": [0.6, 0.98], "recall_interval": [0.49, 0.94]}
    honesty = {
        f"{what}_{when}": n / 100
        for n, (what, when) in enumerate((a, b) for a in ("ece", "error", "nll", "brier") for b in ("before", "after"))
    }
    honesty |= {"nll_change": -0.01, "nll_change_error": 0.005}
    return {
        "images": 20,
        "accuracy": 0.875,
        "accuracy_interval": [0.64, 0.97],
        "accuracy_of": 20,
        "macro": {"precision": 0.9, "recall": 0.8, "f1": 0.847, "auroc": None},
        "per_class": {"damaged": row, "intact": row | {"auroc": None}},
        "confusion": [[8, 2], [1, 9]],
        "calibration": {"temperature": 1.5, "temperature_status": "converged", "ece_before": 0.1, "ece_after": 0.05}
        | {"nll_before": 0.3, "nll_after": 0.2, "score": honesty | {"error_by_chance": 0.03125}}
        | {"per_class": {"damaged": honesty, "intact": honesty}},
        "decision": {
            "precision": 0.9,
            "recall": 0.96,
            "recall_interval": [0.8, 0.99],
            "recall_of": 25,
            "fnr": 0.04,
            "fnr_interval": [0.01, 0.2],
            "fnr_of": 25,
            "fpr": 0.2,
            "expected_cost": 0.3,
            "expected_cost_with_review": 0.2,
            "outcomes": {"pass": 8, "flag": 9, "review": 3},
            "coverage": 0.85,
            "error_rate_pass": 0.125,
            "error_rate_pass_interval": [0.02, 0.47],
            "error_rate_pass_of": 8,
            "error_rate_flag": None,
        },
        "pointing_game": {"score": 0.9, "hits": 9, "images": 10, "tolerance": 0.07},
    } | changes


CASE = Case(
    path="damaged/<b>&.png",
    truth="damaged",
    label="intact",
    confidence=0.8,
    score=0.2,
    outcome="pass",
    pictures=(Picture(JPEG, 'a "roof"', "the picture"), Picture(PNG, "heat map", "evidence for damaged")),
)
GALLERIES = [
    Gallery("Worst false negatives", "Images below the threshold.", "None: all reach it.", [CASE]),
    Gallery("Worst false positives", "Other images.", "None: no other image reaches it.", []),
]


PLOTS = {"confusion_matrix": Picture(PNG, "Confusion matrix")}
LINEAGE = {"weights digest": "ab12" * 16}


def page(spec=None, metrics=None, notes=(), steps=(), **shown) -> str:
    shown = Shown(**{"galleries": GALLERIES} | shown)
    return render(spec or make_spec(), metrics or make_metrics(), PLOTS, shown, LINEAGE, notes, steps)


def test_the_page_is_whole_and_needs_nothing_beside_it():
    structure = check_page(page())
    assert [image["alt"] for image in structure.images] == ["Confusion matrix", 'a "roof"', "heat map"]


def test_the_page_has_the_style_of_all_pages():
    check_style(page())


def test_names_are_text_and_not_markup():
    assert "damaged/&lt;b&gt;&amp;.png" in page()
    assert 'alt="a &#34;roof&#34;"' in page()


def test_an_empty_gallery_says_none():
    assert "None: no other image reaches it." in page()
    assert "None: all reach it." not in page()


def test_digests_and_notes_are_shown():
    text = page(notes=["Calibration: look twice."])
    assert "ab12" * 16 in text
    assert "Calibration: look twice." in text
    assert 'class="note"' not in page()


def test_the_rule_in_words():
    assert describe_rule(make_spec(review_from=0.1, review_to=0.5, review_cost=0.3)) == [
        "Review an image when the probability of damaged is from 10.0% up to 50.0%: neither of the others is worth its risk.",
        "Pass it below, flag it from 50.0% on.",
        "Recall, precision, false alarms and expected cost are at the threshold, 25.0%, as if nobody looked.",
        f"At these costs, {CHOSEN}",
    ]
    assert describe_rule(make_spec()) == [
        "Flag an image when the probability of damaged is at least 25.0%; otherwise pass it.",
        f"At these costs, {CHOSEN}",
    ]
    assert describe_rule(make_spec(review_from=0.0, review_to=0.5, review_cost=0.3))[1] == (
        "None is passed, flag it from 50.0% on."
    )
    selective = describe_rule(make_spec(positive=(), threshold=0.9, review_cost=0.1))
    assert selective[0] == "Pass an image when the network is at least 90.0% sure of its label; otherwise ask a person."


def test_a_budget_and_a_bound_are_part_of_the_rule():
    bound = {"level": 0.05, "threshold": 0.25, "positives": 40}
    text = " ".join(describe_rule(make_spec(review_from=0.1, review_to=0.25, review_budget=0.1, fnr_bound=bound)))
    assert "a person sees 10.0% of the images of the calibration split at most" in text
    assert "On average over calibration splits, at most 5.0% of the images labelled damaged are missed" in text
    assert "with 40 of them caps the threshold at the largest that keeps this promise, which is this one." in text
    lower = describe_rule(make_spec(threshold=0.2, fnr_bound=bound))
    assert "25.0%, and this one lies below" in lower[1]
    selective = describe_rule(make_spec(positive=(), review_cost=0.1, review_budget=0.1))
    assert "has a person see 10.0% of the images" in selective[1]


def test_costs_sets_groups_and_heat_maps_have_their_tables():
    cost = {
        "cost": 100.0,
        "reviews": 50.0,
        "reviews_low": 31.0,
        "reviews_high": 79.0,
        "difference": -3.25,
        "difference_low": -5.0,
        "difference_high": -1.5,
    }
    group = {"images": 9, "accuracy": 0.5, "accuracy_interval": [0.2, 0.8], "positives": 0, "fnr": None, "fnr_interval": None}
    group |= {"ece": 0.1, "review_share": 0.25, "review_share_interval": [0.09, 0.53], "breaks_bound": "no", "threshold": None}
    sets = {
        "method": "lac",
        "coverage": 0.9,
        "images": 99,
        "test_coverage": 0.91,
        "test_coverage_interval": [0.7, 0.98],
        "mean_size": 1.5,
        "sizes": {"1": 10, "2": 10},
    }
    area = {"deletion_auc": 0.25, "insertion_auc": 0.75}
    maps = {"images": 7, "served": area, "shuffled": area, "rank_correlation_head": None, "rank_correlation_all": 0.125}
    text = page(
        make_spec(fnr_bound={"level": 0.05, "threshold": 0.25, "positives": 40}),
        make_metrics(
            impact={"the rule": cost, "flag <all>": cost},
            selective={"aurc": 0.0125, "excess_aurc": 0.0025},
            prediction_sets=sets,
            subgroups={"site & season": {"north": group}},
            explanations=maps,
        ),
    )
    check_page(text)
    for words in (
        "-5.0 to -1.5",
        "flag &lt;all&gt;",
        "0.0125",
        "1.50 labels",
        "50.0% (20.0%\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}80.0%)",
        "50 (31\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}79)",
        "By site &amp; season",
    ):
        assert words in text
    assert "on the mask, on average" not in text


def test_each_dash_of_the_heat_maps_table_is_explained():
    areas = {"deletion_auc": 0.2, "insertion_auc": 0.7}
    made = explanations(
        {"images": 9, "served": areas, "shuffled": areas, "rank_correlation_all": None, "rank_correlation_head": 0.5}
    )
    dashed = {name for row in made.rows for name, cell in zip(made.head, row, strict=True) if cell == UNDEFINED}
    assert dashed == {"rank correlation", "pointing game"}
    ranks, pointing = made.caption.split("; a dash there: ")[1].split(" A dash in the pointing game: ")
    assert "flat" in ranks
    assert pointing == "no masks to point at."


@pytest.mark.parametrize(("positive", "present"), [(("damaged",), "Recall"), ((), "Coverage")])
def test_the_summary_names_what_the_task_needs(positive, present):
    rows = {name: value for name, value, _ in figures(make_spec(positive=positive, review_cost=0.1), make_metrics())}
    assert rows["Accuracy"] == "87.5%"
    assert rows["Pointing game"] == "90.0%"
    meanings = {name: meaning for name, _, meaning in figures(make_spec(positive=positive, review_cost=0.1), make_metrics())}
    assert meanings["Accuracy"].endswith("(64.0% to 97.0%, of 20 images)")
    assert meanings["Pointing game"].endswith("(59.6% to 98.2%, of 10 images)")  # Wilson's of 9 of 10
    assert rows["Calibration error"] == "0.030"
    assert meanings["Calibration error"].endswith("test images, among which honest scores stay within 0.031")
    assert rows["AUROC"] == "–"  # noqa: RUF001
    assert present in rows
    assert len({"Recall", "Coverage"} & rows.keys()) == 1


def test_the_calibration_is_a_table_of_the_score_and_each_label():
    text = page()
    assert '<h2 id="calibration">Calibration</h2>' in text
    assert '<th scope="row">probability of damaged</th><td>0.0000</td><td>0.0100</td>' in text
    assert '<th scope="row">intact</th>' in text
    assert "The mix to come" not in text


def test_what_a_stated_mix_changes_is_a_table():
    rule = {"threshold": 0.25, "review_from": 0.1, "review_to": 0.5, "expected_cost": 0.3, "expected_cost_with_review": 0.2}
    rule |= {"mean_score": 0.125, "outcomes": {"pass": 0.5, "flag": 0.25, "review": 0.25}}
    bare = rule | {"review_from": None, "review_to": None}
    shares = {"damaged": 0.02, "intact": 0.98}
    text = page(metrics=make_metrics(prevalence={"shares": shares, "rules": {"stated": rule, "calibration split": bare}}))
    check_page(text)
    for words in ("damaged 2.0%, intact 98.0%", "<td>0.100 to 0.500</td>", "calibration split", "<td>25.0%</td>"):
        assert words in text


def test_without_masks_the_pointing_game_is_left_out():
    assert "Pointing game" not in page(metrics=make_metrics(pointing_game=None))


def test_selective_pages_have_no_flag():
    text = page(make_spec(positive=(), review_cost=0.1))
    assert ">flag<" not in text
    assert ">review<" in text


def test_numbers():
    assert (share(0.1234), share(None), number(1.23456), number(None)) == ("12.3%", "–", "1.235", "–")  # noqa: RUF001


def test_a_rate_of_nothing_is_a_dash():
    assert interval({"precision": 0.0, "precision_interval": None}, "precision") == UNDEFINED
    assert interval({"precision": 0.5, "precision_interval": (0.25, 0.75)}, "precision") == "50.0% (25.0% to 75.0%)"


def test_an_interval_is_not_broken_over_two_lines():
    wide = "\N{NO-BREAK SPACE}"
    assert unbroken("50.0% (20.0% to 80.0%)") == f"50.0% (20.0%{wide}to{wide}80.0%)"
    assert unbroken("-0.1 [-0.2, 0.3]") == f"-0.1 [-0.2,{wide}0.3]"
    assert unbroken("words (of a label) stay") == "words (of a label) stay"


@pytest.mark.parametrize(
    ("value", "written"), [(0.0, "0.000"), (0.0004, "below 0.0005"), (0.0005, "0.001"), (0.0123, "0.012"), (None, UNDEFINED)]
)
def test_what_is_nearly_nothing_is_not_written_as_nothing(value, written):
    assert small(value) == written
