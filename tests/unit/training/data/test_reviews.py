"""What an export says: each line read strictly, and one label made of what several people said."""

import hashlib
import json
from pathlib import Path

import pytest

from tests.unit.reviews import audit, line, write_export
from training.data.reviews import Export, Review, settle
from training.errors import ReviewsInvalid

ONE, TWO = "1" * 64, "2" * 64
LABELS = ("ash", "oak")


def reviews(*lines: dict[str, object]) -> list[Review]:
    return [Review.model_validate_json(json.dumps(one)) for one in lines]


def label_of(*given: tuple[str, str]) -> str:
    """The label of one picture, of what reviewers said, in the order in which they did."""
    lines = [line(ONE, label, reviewer=who, time=f"2026-11-30T12:00:{at:02}Z") for at, (who, label) in enumerate(given)]
    [settled], _ = settle(reviews(*lines), LABELS)
    return settled.label


def test_most_people_decide_and_of_a_tie_the_last_word() -> None:
    assert label_of(("a", "ash")) == "ash"
    assert label_of(("a", "ash"), ("b", "oak"), ("c", "ash")) == "ash"
    assert label_of(("a", "ash"), ("b", "oak")) == "oak"
    assert label_of(("b", "oak"), ("a", "ash")) == "ash"


def test_of_one_person_the_last_word_counts() -> None:
    assert label_of(("a", "ash"), ("a", "ash"), ("a", "oak")) == "oak"
    assert label_of(("a", "ash"), ("b", "oak"), ("a", "ash")) == "ash"
    assert label_of(("a", "ash"), ("b", "oak"), ("c", "oak"), ("b", "ash"), ("c", "ash")) == "ash"


def test_reviews_count_in_the_order_of_their_times_whatever_the_clocks_zone() -> None:
    late = line(ONE, "ash", reviewer="a", time="2026-11-30T13:00:00+02:00")  # 11:00 in UTC
    early = line(ONE, "oak", reviewer="b", time="2026-11-30T10:59:59Z")
    [settled], _ = settle(reviews(late, early), LABELS)
    assert settled.label == "ash"
    assert [review.time.isoformat() for review in settled.reviews] == ["2026-11-30T10:59:59+00:00", "2026-11-30T11:00:00+00:00"]


def test_what_has_no_label_is_left_out_and_counted() -> None:
    settled, left_out = settle(reviews(line(ONE, None), line(TWO, "yew"), line("3" * 64, "ash"), line("3" * 64, None)), LABELS)
    assert [one.digest[0] for one in settled] == ["3"]
    assert left_out == {"skipped": 1, "unknown_label": 1}


def test_a_picture_that_was_ever_drawn_is_an_audit() -> None:
    settled, _ = settle(reviews(line(ONE, "ash"), audit(ONE, None), line(TWO, "oak"), line(TWO, "oak", why="drift")), LABELS)
    assert [one.audit for one in settled] == [True, False]


def test_an_export_is_read(tmp_path: Path) -> None:
    folder = write_export(tmp_path / "export", [line(b"one", "ash"), line(b"two", None)], [b"one"])
    export = Export.read(folder)
    assert export.digest == hashlib.sha256((folder / "reviews.jsonl").read_bytes()).hexdigest()
    assert [review.label for review in export.reviews] == ["ash", None]
    assert export.picture(export.reviews[0].digest) == b"one"
    assert export.picture(export.reviews[1].digest) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digest": "A" * 64}, "digest"),
        ({"digest": "../" + "a" * 61}, "digest"),
        ({"reviewer": "Jo Doe <jo@example.org>"}, "reviewer"),
        ({"time": "2026-11-30T12:00:00"}, "time"),
        ({"why": "boredom"}, "why"),
        ({"probability": 0}, "probability"),
        ({"name": "Jo"}, "name: Extra inputs"),
        ({"why": "audit"}, "an audit has the probability"),
    ],
)
def test_a_line_in_another_form_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    folder = write_export(tmp_path / "export", [line(ONE, "ash"), line(TWO, "ash", **change)])
    with pytest.raises(ReviewsInvalid, match=rf"line 2 of .*reviews\.jsonl is no review: .*{message}"):
        Export.read(folder)


def test_an_export_of_another_version_is_named_as_one(tmp_path: Path) -> None:
    folder = write_export(tmp_path / "export", [line(ONE, "ash"), line(TWO, "ash", format=2)])
    said = r"line 2 of .*reviews\.jsonl is of an export in format 2, .* reads format 1: export again by `visor console export`"
    with pytest.raises(ReviewsInvalid, match=said):
        Export.read(folder)


def test_what_is_no_export_is_said(tmp_path: Path) -> None:
    with pytest.raises(ReviewsInvalid, match=r"reviews\.jsonl is not there; name the folder of an export"):
        Export.read(tmp_path)
    folder = write_export(tmp_path / "export", [line(ONE, "ash")])
    (folder / "pictures" / ONE).write_bytes(b"another picture")
    with pytest.raises(ReviewsInvalid, match="does not hold the bytes"):
        Export.read(folder).picture(ONE)
