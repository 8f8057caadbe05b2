"""What becomes an item: reviews, a share of all answers, what is named; each picture once; nothing is lost unsaid."""

import threading

import pytest
from sqlalchemy import func, select, text

from console.reviews import erasing
from console.reviews.draw import Draw, Pseudonyms
from console.reviews.errors import PicturesDown
from console.reviews.intake import LEAST_BYTES
from console.reviews.pictures import digest_of
from console.reviews.tables import ANSWERED, ITEMS, PICTURES
from tests.unit.console.reviews.conftest import answer_of


def items(desk) -> list:
    with desk.database.reading() as connection:
        return list(connection.execute(select(ITEMS).order_by(ITEMS.c.id)))


def answered(desk) -> dict[str, tuple[int, int]]:
    with desk.database.reading() as connection:
        return {row.decision: (row.pictures, row.dropped) for row in connection.execute(select(ANSWERED))}


def test_what_is_to_be_reviewed_becomes_an_item_with_its_picture(desk) -> None:
    desk.offer(b"one", answer_of(0.3))
    desk.offer(b"two", answer_of(0.05, "pass"))
    desk.offer(b"three", answer_of(0.9, "flag"))
    [item] = items(desk)
    assert (item.digest, item.lane, item.state, item.chance, item.served) == (digest_of(b"one"), "review", "open", 0.0, True)
    assert (item.decision, item.score, item.labels, item.positive) == ("review", 0.3, ["damaged", "intact"], ["damaged"])
    assert desk.pictures.get(item.digest) == b"one"
    assert [digest for digest, _ in desk.pictures.digests()] == [item.digest]
    assert answered(desk) == {"review": (1, 0), "pass": (1, 0), "flag": (1, 0)}


def test_a_share_of_all_answers_is_drawn_by_their_bytes_whatever_was_decided(make_desk) -> None:
    desk = make_desk(share=0.2)
    draw = Draw(desk.database.secret("draw"))
    pictures = {b"picture %d" % n: ("pass", "flag", "review")[n % 3] for n in range(60)}
    for content, decision in pictures.items():
        desk.intake.offer(answer_of(0.5, decision), content)
    assert desk.intake.flush()
    drawn = {digest_of(content) for content in pictures if draw.number(digest_of(content)) < 0.2}
    assert {item.digest for item in items(desk) if item.lane == "audit"} == drawn
    assert all(item.chance == 0.2 for item in items(desk))
    reviews = {digest_of(content) for content, decision in pictures.items() if decision == "review"}
    assert {item.digest for item in items(desk)} == drawn | reviews


def test_the_draw_is_even_and_the_same_for_all_who_have_the_secret() -> None:
    draw, same, other = Draw(b"a" * 32), Draw(b"a" * 32), Draw(b"b" * 32)
    digests = [digest_of(b"%d" % n) for n in range(4000)]
    numbers = [draw.number(digest) for digest in digests]
    assert numbers == [same.number(digest) for digest in digests]
    assert numbers != [other.number(digest) for digest in digests]
    for share in (0.01, 0.25, 0.9):
        hit = sum(draw.draws(digest, share) for digest in digests) / 4000
        assert hit == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)
    assert Pseudonyms(b"a" * 32).of("anna") != Pseudonyms(b"b" * 32).of("anna")


def test_the_same_picture_is_one_item_for_each_archive(make_desk) -> None:
    first, second = make_desk(), make_desk()  # two replicas
    first.offer(b"one", answer_of(0.3))
    second.offer(b"one", answer_of(0.4))
    second.offer(b"one", answer_of(0.4, digest="b" * 64))
    assert [(item.score, item.archive[0]) for item in items(first)] == [(0.3, "a"), (0.4, "b")]
    assert answered(first)["review"] == (1, 0)


def test_a_requests_own_threshold_is_no_traffic_and_gives_way_to_it(make_desk) -> None:
    desk = make_desk(share=1.0)
    desk.offer(b"one", answer_of(0.3, threshold=0.5, threshold_overridden=True))
    desk.offer(b"two", answer_of(0.3, "pass", threshold=0.5, threshold_overridden=True))
    desk.offer(b"three", answer_of(0.3), source="upload", lane="drift")
    assert [(item.lane, item.chance, item.served) for item in items(desk)] == [("review", None, False), ("drift", None, False)]
    assert answered(desk) == {}
    desk.offer(b"one", answer_of(0.3, "pass"))
    desk.offer(b"three", answer_of(0.3, "pass"))
    assert [(item.lane, item.chance, item.served) for item in items(desk)] == [("audit", 1.0, True), ("audit", 1.0, True)]


def test_an_answer_without_labels_or_decision_is_none(desk) -> None:
    assert not desk.intake.offer(answer_of(probabilities={}), b"one")
    assert not desk.intake.offer(answer_of(decision=""), b"one")
    failed = answer_of(probabilities={}, label="", confidence=None).model_copy(update={"score": None})
    desk.offer(b"one", failed, labels=("damaged", "intact"))  # an archive's `on_error: review`
    assert [(item.labels, item.cost) for item in items(desk)] == [(["damaged", "intact"], pytest.approx(0.16))]


def test_what_finds_no_room_is_counted(make_desk) -> None:
    desk = make_desk(most_mib=1)
    with desk.database.writing() as connection:  # the thread waits for this
        connection.execute(text("LOCK TABLE answered") if connection.dialect.name == "postgresql" else text("SELECT 1"))
        taken = [desk.intake.offer(answer_of(), bytes([n]) * 300_000) for n in range(20)]
    assert desk.intake.flush()
    assert taken[0]
    assert not all(taken)
    assert answered(desk)["review"] == (20, taken.count(False))
    assert len(items(desk)) == taken.count(True)
    assert desk.metrics.registry.get_sample_value("visor_console_review_answers_total", {"outcome": "dropped"}) == taken.count(
        False
    )


def test_what_cannot_be_written_now_is_written_later(desk, monkeypatch) -> None:
    put, failures = desk.pictures.put, []

    def fail_first(digest: str, content: bytes) -> None:
        if not failures:
            failures.append(digest)
            raise PicturesDown("away")
        put(digest, content)

    monkeypatch.setattr(desk.pictures, "put", fail_first)
    desk.offer(b"one")
    assert failures
    assert len(items(desk)) == 1


def test_pictures_that_are_deleted_while_they_are_offered_leave_whole_items(make_desk) -> None:
    """Each item's picture is there, and no picture is there without its row."""
    one, other = make_desk(), make_desk()
    digests = [digest_of(b"picture %d" % n) for n in range(10)]
    stop = threading.Event()

    def erase() -> None:
        while not stop.is_set():
            for digest in digests:
                erasing.erase(other.database, other.pictures, digest)

    eraser = threading.Thread(target=erase)
    eraser.start()
    try:
        for round_ in range(8):
            for n in range(10):
                one.intake.offer(answer_of(digest=f"{round_:064x}"), b"picture %d" % n)
            assert one.intake.flush()
    finally:
        stop.set()
        eraser.join()
    with one.database.reading() as connection:
        rows = set(connection.execute(select(PICTURES.c.digest)).scalars())
        named = set(connection.execute(select(ITEMS.c.digest).where(ITEMS.c.digest.is_not(None))).scalars())
        assert connection.execute(select(func.count()).select_from(ITEMS)).scalar() == 80
    assert named == rows == {digest for digest, _ in one.pictures.digests()}


def test_an_answer_that_cannot_be_written_takes_no_other_with_it(desk) -> None:
    with desk.intake._changed:  # all in one batch
        for n in range(3):
            desk.intake.offer(answer_of(0.3), b"good %d" % n)
        desk.intake.offer(answer_of(0.3).model_copy(update={"version": None}), b"bad")
        desk.intake.offer(answer_of(0.3), b"good 3")
    assert desk.intake.flush()
    assert [item.digest for item in items(desk)] == [digest_of(b"good %d" % n) for n in range(4)]
    assert answered(desk) == {"review": (4, 0)}


def test_answers_about_empty_pictures_fill_the_line_too(make_desk) -> None:
    desk = make_desk(most_mib=1)
    with desk.intake._changed:
        taken = [desk.intake.offer(answer_of(0.05, "pass"), b"") for _ in range(200)]
    assert sum(taken) == (1 << 20) // LEAST_BYTES
    assert desk.intake.flush()
    assert answered(desk) == {"pass": (200, 200 - sum(taken))}
