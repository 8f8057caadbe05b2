"""The card has Mitchell's sections, says what is missing, and takes names as text in both forms."""

import pytest

from tests.unit.configs import make_config
from tests.unit.pages import check_page, check_style
from tests.unit.training.reports.test_evaluation import make_metrics, make_spec
from training.data.manifest import Manifest, Sample
from training.reports.model_card import html, markdown, sections

TITLES = [
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Quantitative analyses",
    "Ethical considerations",
    "Caveats and recommendations",
]
MANIFEST = Manifest(
    ("damaged", "intact"),
    tuple(
        Sample(f"{label}/{split}{n}.jpg", 1, "0" * 64, label, split)
        for split, many in (("train", 5), ("val", 1), ("calibration", 2), ("test", 3))
        for label in ("damaged", "intact")
        for n in range(many if label == "damaged" else 2 * many)
    ),
)


def card(metrics=None, **told):
    config = make_config(name="roofs", card=told)
    return sections(make_spec(), metrics or make_metrics(), config, MANIFEST, {"weights digest": "ab12"}, ["Look twice."])


def test_the_sections_are_mitchells_in_both_forms():
    text, page = markdown("roofs", card()), html("roofs", card())
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == TITLES
    check_style(page)
    check_page(page)
    assert all(f">{title}</h2>" in page for title in TITLES)


def test_what_nobody_said_is_said_to_be_missing():
    text = markdown("roofs", card(owner="Roof team", intended_use="Sorting surveys."))
    assert "Owner: Roof team. Contact: not stated." in text
    assert "Intended use: Sorting surveys." in text
    assert r"Out of scope: not stated (card.out\_of\_scope in the config)." in text
    assert "No subgroups were told apart" in text
    assert text.index("Look twice.") < text.index("roofs, an image classifier")  # doubts come first


def test_images_are_counted_by_label_and_split():
    text = markdown("roofs", card())
    assert "| damaged | 5 | 1 | 2 | 3 |" in text
    assert "| intact | 10 | 2 | 4 | 6 |" in text
    assert "9 images of the test split" in text


def test_figures_of_groups_sets_and_costs_are_told():
    row = {"images": 4, "accuracy": 0.5, "accuracy_interval": [0.15, 0.85], "fnr": None, "fnr_interval": None, "ece": 0.1}
    sets = {
        "method": "aps",
        "coverage": 0.9,
        "test_coverage": 0.95,
        "test_coverage_interval": [0.75, 0.99],
        "test_coverage_of": 20,
        "mean_size": 1.25,
    }
    more = {"subgroups": {"site": {"north": row}}, "prediction_sets": sets, "impact": {"the rule": {"cost": 12.34}}}
    text = markdown("roofs", card(make_metrics(**more)))
    assert "| site | images | accuracy | missed | ECE |" in text
    assert "| north | 4 | 50.0% (15.0% to 85.0%) | – | 0.100 |" in text  # noqa: RUF001
    assert "(APS, coverage 90.0%) held the true label of 95.0% (75.0% to 99.0%, of 20 images)" in text
    assert "| damaged | 10 | 90.0% (60.0% to 98.0%) | 80.0% (49.0% to 94.0%) | 0.847 |" in text
    assert "| probability of | ECE before | after |" in text
    assert "the rule: 12.3." in text


@pytest.mark.parametrize("name", ["<b>|*_x_*|</b>", "line\nbreak"])
def test_names_are_text(name):
    text, page = markdown("roofs", card(owner=name)), html("roofs", card(owner=name))
    assert "<b>" not in page
    assert "<b>|" not in text
    assert "line\nbreak" not in text
