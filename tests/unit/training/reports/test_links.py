"""A page links to those others of its run that are there and of the same images."""

from pathlib import Path

import pytest

from tests.unit.pages import check_page
from tests.unit.training.reports.test_evaluation import GALLERIES, PLOTS, make_metrics, make_spec
from tests.unit.training.reports.test_model_card import card
from training.reports import links, model_card
from training.reports.evaluation import Shown, render

ONE, OTHER = "ab12" * 16, "cd34" * 16


def report(digest: str) -> str:
    return render(make_spec(), make_metrics(), PLOTS, Shown(GALLERIES), {"dataset digest": digest})


def linked(page: Path) -> set[str]:
    text = page.read_text()
    found = {link for link in ("report.html", "model-card.html", "data.html") if f'<a href="{link}">' in text}
    check_page(text, found)
    return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "report.html").write_text(report(ONE))
    (tmp_path / "model-card.html").write_text(model_card.html("roofs", card(), ONE))
    links.refresh(tmp_path)
    return tmp_path


def test_report_and_card_link_to_each_other(run: Path) -> None:
    assert linked(run / "report.html") == {"model-card.html"}
    assert linked(run / "model-card.html") == {"report.html"}


def test_a_data_report_joins_them_and_leaves_them(run: Path) -> None:
    before = (run / "report.html").read_text()
    (run / "data.html").write_text(model_card.html("its images", card(), ONE))
    links.refresh(run)
    assert linked(run / "report.html") == {"model-card.html", "data.html"}
    assert linked(run / "data.html") == {"model-card.html", "report.html"}
    (run / "data.html").unlink()
    links.refresh(run)
    assert (run / "report.html").read_text() == before


def test_a_page_of_other_images_is_not_linked(run: Path) -> None:
    (run / "data.html").write_text(model_card.html("other images", card(), OTHER))
    links.refresh(run)
    assert linked(run / "report.html") == {"model-card.html"}
    assert linked(run / "data.html") == set()


def test_pages_of_others_are_left_as_they_are(tmp_path: Path) -> None:
    foreign = "<html><!-- links -->mine<!-- /links --></html>"
    (tmp_path / "report.html").write_text(foreign)
    (tmp_path / "data.html").write_text(model_card.html("its images", card(), ONE))
    links.refresh(tmp_path)
    assert (tmp_path / "report.html").read_text() == foreign
    assert linked(tmp_path / "data.html") == set()
    assert len(list(tmp_path.iterdir())) == 2
