"""Where scores and thresholds are drawn. Places are of log-odds, worked out by hand."""

import math

import pytest

from console.page import charts
from console.servers.models import Answer
from tests.unit.console.page.test_words import MODEL, answer


def test_the_scale_is_even_by_log_odds_with_ends() -> None:
    assert charts.place(0.5) == 50.0
    assert charts.place(0.001) == charts.place(0.0) == 0.0
    assert charts.place(0.999) == charts.place(1.0) == 100.0
    whole = 2 * math.log(999)
    assert charts.place(0.2) == pytest.approx(100 * (math.log(0.25) + math.log(999)) / whole, abs=0.01)
    assert charts.place(0.01) + charts.place(0.99) == pytest.approx(100.0, abs=0.02)


def test_the_zones_are_those_of_the_rule() -> None:
    drawn = charts.scale(answer("review", 0.15))
    assert drawn
    assert [zone.decision for zone in drawn.zones] == ["pass", "review", "flag"]
    assert drawn.zones[1].start == charts.place(0.1)
    assert sum(zone.width for zone in drawn.zones) == pytest.approx(100, abs=0.05)
    assert drawn.limits == (charts.place(0.1), charts.place(0.3))
    assert drawn.score.text == "score 0.15"


def test_no_band_is_drawn_where_there_is_none() -> None:
    drawn = charts.scale(answer("flag", 0.9, 0.2, 0.2, 0.2))
    assert drawn
    assert [zone.decision for zone in drawn.zones] == ["pass", "flag"]
    assert drawn.limits == ()


def test_without_positive_labels_doubt_is_reviewed_and_the_rest_passes() -> None:
    drawn = charts.scale(answer("pass", 0.97, 0, 0.8, 0.8, positive=()))
    assert drawn
    assert [(zone.decision, zone.start) for zone in drawn.zones] == [("review", 0.0), ("pass", charts.place(0.8))]
    assert charts.scale(Answer(decision="review")) is None


def test_the_curve_is_drawn_as_its_slider_goes() -> None:
    drawn = charts.curve(answer("review", 0.35), MODEL)
    assert drawn
    assert [one.threshold for one in drawn.choices] == [0.0, 0.2, 0.5, 1.0]
    assert drawn.missed == "0.00,100.00 33.33,98.00 66.67,80.00 100.00,0.00"
    assert drawn.own == pytest.approx(100 / 3, abs=0.01)  # the archive's 0.2, the second of four
    assert drawn.score == pytest.approx(50.0, abs=0.01)  # 0.35 is half of the way from 0.2 to 0.5
    assert drawn.held == pytest.approx(100 / 3 * (1 + 0.05 / 0.3), abs=0.01)
    assert drawn.start == 1
    assert [one.outcome for one in drawn.choices] == ["flag", "flag", "review", "review"]


def test_there_is_no_curve_without_one() -> None:
    assert charts.curve(answer("flag", 0.9), MODEL.model_copy(update={"curve": ()})) is None
    assert charts.curve(answer("flag", 0.9), MODEL.model_copy(update={"positive": ()})) is None
