"""The figures: which labels count, by which weights, and what is said of them; expected values from counts by hand."""

import numpy as np
import pytest

from console.reviews import erasing
from console.reviews.figures import ALPHA, Figures, Looked, figures, of_archive, sample
from console.reviews.pictures import digest_of
from tests.unit.console.reviews.conftest import ANNA, BEN, answer_of
from watch import sequences

NAMES = ("roofs", "3", "a" * 64)


def looked(decision: str, label: str | None, *, drawn: bool = True, chance: float = 0.1, left_out: bool = False) -> Looked:
    return Looked(drawn, chance, decision, "intact", ("damaged",), label, left_out)


def of(*rows: Looked, promise: float | None = None) -> Figures:
    return of_archive(NAMES, {"pass": (len(rows), 0)}, rows, promise)


def named(found: Figures, name: str):
    [figure] = [one for one in found.figures if one.name == name]
    return figure


def test_shares_are_those_of_the_drawn_pictures() -> None:
    rows = (
        [looked("pass", "damaged")] * 2
        + [looked("flag", "damaged")] * 6
        + [looked("flag", "intact")]
        + [looked("pass", "intact")] * 9
    )
    found = of(*rows, promise=0.5)
    missed, alarms = named(found, "missed"), named(found, "false_alarms")
    assert (missed.labels, missed.events, missed.share) == (8, 2, pytest.approx(0.25))
    assert (alarms.labels, alarms.events, alarms.share) == (10, 1, pytest.approx(0.1))
    events, trials = np.array([2.0]), np.array([8.0])
    assert missed.upper == pytest.approx(float(sequences.upper(events, trials, ALPHA / 2)[0]))
    assert missed.verdict == "open"
    assert alarms.verdict == ""


def test_the_lower_bound_is_the_highest_of_all_times() -> None:
    rows = [looked("pass", "damaged")] * 10 + [looked("flag", "damaged")] * 90
    events, trials = np.minimum(np.arange(1, 101), 10.0), np.arange(1.0, 101.0)
    assert named(of(*rows), "missed").lower == pytest.approx(float(sequences.lower(events, trials, ALPHA / 2).max()))


def test_reviews_that_nobody_drew_count_by_the_chance_of_the_others() -> None:
    """30 reviewed, 3 of them drawn, and 5 missed of the drawn: of a tenth, so 50 of 80."""
    reviews = [looked("review", "damaged", drawn=n < 3) for n in range(30)]
    rows = [*reviews, *[looked("pass", "damaged")] * 5]
    drawn, all_ = sample(rows, with_reviews=False), sample(rows, with_reviews=True)
    assert drawn.weights.tolist() == [1.0] * 8
    assert all_.weights.tolist() == [0.1] * 30 + [1.0] * 5
    assert all_.shares.tolist() == [1.0] * 30 + [pytest.approx(10.0)] * 5
    assert named(of(*rows), "missed").share == pytest.approx(50 / 80)


def test_weights_give_the_share_of_all_answers_on_average() -> None:
    """Of 1,000 positive ones 100 pass, 300 are reviewed, 600 flagged. A twentieth is drawn, all reviews are looked at."""
    rng, estimates = np.random.default_rng(0), []
    decisions = ["pass"] * 100 + ["review"] * 300 + ["flag"] * 600
    for _ in range(300):
        drawn = rng.random(1000) < 0.05
        rows = [
            looked(d, "damaged", drawn=bool(x), chance=0.05) for d, x in zip(decisions, drawn, strict=True) if x or d == "review"
        ]
        taken = sample(rows, with_reviews=True)
        missed = np.array([one.decision == "pass" for one in taken.looked])
        estimates.append(((missed * taken.shares).sum(), taken.shares.sum()))
    counts = np.array(estimates)
    error = counts.std(axis=0) / np.sqrt(len(counts))
    assert (np.abs(counts.mean(axis=0) - (100, 1000)) < 4 * error).all()


def test_nothing_counts_behind_the_first_that_waits() -> None:
    rows = [looked("flag", "damaged"), looked("pass", None), looked("pass", "damaged")]
    found = of(*rows)
    assert (found.drawn, found.labelled, found.counted) == (3, 2, 1)
    assert named(found, "missed").share == 0


def test_a_review_that_waits_does_not_hold_up_the_drawn_ones() -> None:
    rows = [looked("review", None, drawn=False), looked("pass", "damaged"), looked("flag", "damaged")]
    assert named(of(*rows), "missed").share == pytest.approx(0.5)
    assert len(sample(rows, with_reviews=True).looked) == 0


def test_what_was_passed_on_is_left_out_and_told() -> None:
    found = of(looked("pass", None, left_out=True), looked("flag", "damaged"))
    assert (found.left_out, found.counted) == (1, 1)
    assert (named(found, "missed").share, named(found, "missed").labels) == (0, 1)
    assert "1 of 2 drawn pictures were passed on or deleted" in found.notes[0]
    assert "2 answers found no room" in of_archive(NAMES, {"pass": (9, 2)}, [], None).notes[0]


def test_no_promise_is_kept_or_broken_by_leaving_pictures_out() -> None:
    """60 positive ones found keep 0.2; with 30 passed on that were decided `pass` they do not, as each may be a miss."""
    found = [looked("flag", "damaged")] * 60
    passed_on = [looked("pass", None, left_out=True)] * 30
    kept, open_ = (named(of(*rows, promise=0.2), "missed") for rows in (found, [*passed_on, *found]))
    assert (kept.verdict, open_.verdict) == ("kept", "open")
    assert open_.upper == pytest.approx(float(sequences.upper(np.array([30.0]), np.array([90.0]), ALPHA / 2)[0]))
    assert open_.lower == 0
    # Misses are shown at once; one that was decided `flag` may be a positive one that was found.
    misses = [looked("pass", "damaged")] * 20
    lower = named(of(*[looked("flag", None, left_out=True)] * 30, *misses), "missed").lower
    events, trials = np.arange(1.0, 21.0), np.arange(31.0, 51.0)
    assert lower == pytest.approx(float(sequences.lower(events, trials, ALPHA / 2).max()))


def test_one_without_a_label_counts_as_wrong_and_as_right_where_there_are_no_positive_labels() -> None:
    rows = [Looked(True, 0.1, "pass", "cat", (), "dog", False)] * 9 + [Looked(True, 0.1, "pass", "cat", (), None, True)]
    wrong = named(of(*rows), "wrong_passed")
    assert (wrong.labels, wrong.events) == (9, 9)
    assert wrong.upper == 1
    events, trials = np.arange(1.0, 10.0), np.arange(1.0, 10.0)
    assert wrong.lower == pytest.approx(float(sequences.lower(events, trials, ALPHA / 2).max()))


def test_without_a_label_everything_is_possible() -> None:
    found = of()
    assert found.figures[0].share is None
    assert (found.figures[0].lower, found.figures[0].upper) == (0, 1)


def test_a_broken_and_a_kept_promise_are_told() -> None:
    missed = [looked("pass", "damaged")] * 20
    assert named(of(*missed, promise=0.2), "missed").verdict == "broken"
    assert named(of(*[looked("flag", "damaged")] * 60, promise=0.2), "missed").verdict == "kept"


def test_without_positive_labels_errors_among_what_passed_are_counted() -> None:
    rows = [Looked(True, 0.1, "pass", "cat", (), label, False) for label in ("cat", "cat", "dog", "cat")]
    rows += [Looked(True, 0.1, "review", "cat", (), "dog", False)]
    wrong = named(of(*rows), "wrong_passed")
    assert (wrong.labels, wrong.events, wrong.share) == (4, 1, pytest.approx(0.25))


def test_figures_are_of_what_the_database_has(make_desk) -> None:
    desk = make_desk(share=1.0, lane="audit")
    asked = [(b"1", 0.05, "pass"), (b"2", 0.05, "pass"), (b"3", 0.9, "flag"), (b"4", 0.9, "flag"), (b"5", 0.3, "review")]
    for content, score, decision in asked:
        desk.offer(content, answer_of(score, decision))
    desk.offer(b"6", answer_of(0.3, "pass", group="site=north"))  # another rule than the archive's own
    for label in ("damaged", "intact", "damaged"):
        desk.queue.label(desk.queue.take(ANNA).id, label, ANNA)
    desk.queue.skip(desk.queue.take(ANNA).id, ANNA)
    desk.queue.label(desk.queue.take(ANNA).id, "damaged", ANNA)
    [found] = figures(desk.database, {"a" * 64: 0.05})
    assert (found.model, found.answered) == ("roofs", {"pass": 3, "flag": 2, "review": 1})
    assert (found.drawn, found.labelled, found.left_out, found.counted) == (5, 4, 1, 4)
    missed = named(found, "missed")
    assert (missed.labels, missed.events, missed.promise) == (3, 1, 0.05)
    assert figures(desk.database, {}, "leaves") == []

    item = desk.queue.take(BEN)  # the one that was passed on: its label counts, once there is one
    desk.queue.label(item.id, "intact", BEN)
    assert figures(desk.database, {})[0].counted == 5
    erasing.erase(desk.database, desk.pictures, digest_of(b"1"))
    assert figures(desk.database, {})[0].counted == 5  # labels outlive their pictures
    desk.queue.undo(BEN)
    assert figures(desk.database, {})[0].labelled == 4


def test_a_picture_that_was_labelled_before_it_was_traffic_counts_where_it_was_answered(make_desk) -> None:
    desk = make_desk(share=1.0, lane="drift")
    desk.offer(b"named", answer_of(0.3, "pass"), source="upload", lane="drift")
    desk.queue.label(desk.queue.take(ANNA).id, "damaged", ANNA)
    assert figures(desk.database, {}) == []
    desk.clock.now += 1
    desk.offer(b"first", answer_of(0.9, "flag"))
    desk.clock.now += 1
    desk.offer(b"named", answer_of(0.3, "pass"))
    [found] = figures(desk.database, {})
    assert (found.drawn, found.labelled, found.counted) == (2, 1, 0)  # behind the first, which waits
    desk.queue.label(desk.queue.take(ANNA).id, "damaged", ANNA)
    [found] = figures(desk.database, {})
    assert (found.counted, named(found, "missed").events, named(found, "missed").labels) == (2, 1, 2)
