"""The queue: an item is one person's, labels are kept once, skips and undos do what they say, the dearest comes first."""

import threading

import pytest
from sqlalchemy import select

from console.reviews.database import Database
from console.reviews.errors import ItemTaken, ItemUnknown, LabelUnknown, NothingToUndo, NothingWaits
from console.reviews.queue import LANES, TURNS, Queue, Reviewer
from console.reviews.tables import ITEMS, REVIEWS
from tests.unit.console.reviews.conftest import ANNA, BEN, answer_of


def labels(desk) -> dict[int, str]:
    """What the database says: item and label, of what was not undone."""
    with desk.database.reading() as connection:
        rows = connection.execute(select(REVIEWS).where(REVIEWS.c.label.is_not(None), REVIEWS.c.undone_s.is_(None))).all()
    assert len({row.item for row in rows}) == len(rows)
    return {row.item: row.label for row in rows}


def test_two_people_hold_two_items_and_each_their_own_again(desk) -> None:
    desk.offer_reviews(2)
    mine, yours = desk.queue.take(ANNA), desk.queue.take(BEN)
    assert mine.id != yours.id
    assert desk.queue.take(ANNA).id == mine.id
    with pytest.raises(NothingWaits):
        desk.queue.take(Reviewer("anna", "anna:2"))  # another window of the same person


def test_a_label_is_kept_and_said_again_changes_nothing(desk) -> None:
    desk.offer_reviews(1)
    item = desk.queue.take(ANNA)
    desk.queue.label(item.id, "damaged", ANNA)
    desk.queue.label(item.id, "damaged", ANNA)
    assert labels(desk) == {item.id: "damaged"}
    with pytest.raises(ItemTaken):
        desk.queue.label(item.id, "intact", ANNA)
    with pytest.raises(ItemTaken):
        desk.queue.label(item.id, "damaged", BEN)
    with pytest.raises(NothingWaits):
        desk.queue.take(BEN)


def test_what_is_not_held_is_not_labelled(desk) -> None:
    desk.offer_reviews(2)
    item = desk.queue.take(ANNA)
    for act in (lambda: desk.queue.label(item.id, "intact", BEN), lambda: desk.queue.skip(item.id, BEN)):
        with pytest.raises(ItemTaken):
            act()
    with pytest.raises(LabelUnknown, match="damaged, intact"):
        desk.queue.label(item.id, "cat", ANNA)
    with pytest.raises(ItemUnknown):
        desk.queue.label(10**12, "intact", ANNA)
    assert labels(desk) == {}


def test_a_lease_ends_and_another_person_gets_the_item(desk) -> None:
    desk.offer_reviews(1)
    item = desk.queue.take(ANNA)
    desk.clock.now += 59
    with pytest.raises(NothingWaits):
        desk.queue.take(BEN)
    desk.clock.now += 2
    assert desk.queue.take(BEN).id == item.id
    with pytest.raises(ItemTaken):
        desk.queue.label(item.id, "damaged", ANNA)


def test_who_is_late_still_labels_what_nobody_else_took(desk) -> None:
    desk.offer_reviews(1)
    item = desk.queue.take(ANNA)
    desk.clock.now += 3600
    desk.queue.label(item.id, "damaged", ANNA)
    assert labels(desk) == {item.id: "damaged"}


def test_a_skipped_item_is_for_others(desk) -> None:
    desk.offer_reviews(2)
    first = desk.queue.take(ANNA)
    desk.queue.skip(first.id, ANNA)
    assert desk.queue.take(ANNA).id != first.id
    assert desk.queue.take(BEN).id == first.id


def test_undo_takes_back_what_a_person_did_last(desk) -> None:
    desk.offer_reviews(3)
    first = desk.queue.take(ANNA)
    desk.queue.label(first.id, "damaged", ANNA)
    second = desk.queue.take(ANNA)
    desk.queue.skip(second.id, ANNA)
    other = desk.queue.take(BEN)
    assert other.id == second.id
    desk.queue.skip(other.id, BEN)
    desk.queue.take(ANNA)

    assert desk.queue.undo(ANNA).id == second.id
    assert desk.queue.undo(ANNA).id == first.id
    assert labels(desk) == {}
    with pytest.raises(NothingToUndo):
        desk.queue.undo(ANNA)
    desk.queue.label(first.id, "intact", ANNA)
    assert labels(desk) == {first.id: "intact"}


def test_undo_ends_after_its_time_and_where_another_person_is_at_it(desk) -> None:
    desk.offer_reviews(2)
    first = desk.queue.take(ANNA)
    desk.queue.label(first.id, "damaged", ANNA)
    desk.clock.now += 121
    with pytest.raises(NothingToUndo):
        desk.queue.undo(ANNA)
    second = desk.queue.take(ANNA)
    desk.queue.skip(second.id, ANNA)
    desk.queue.take(BEN)
    with pytest.raises(ItemTaken):
        desk.queue.undo(ANNA)


def test_the_dearest_comes_first(desk) -> None:
    """Threshold 0.2: a miss costs 0.8, a false alarm 0.2."""
    scores = {0.02: 0.016, 0.1: 0.08, 0.19: 0.152, 0.3: 0.14, 0.9: 0.02}
    for score in scores:
        desk.offer(b"%f" % score, answer_of(score))
    for cost in sorted(scores.values(), reverse=True):
        item = desk.queue.take(ANNA)
        with desk.database.reading() as connection:
            assert connection.execute(select(ITEMS.c.cost).where(ITEMS.c.id == item.id)).scalar() == pytest.approx(cost)
        desk.queue.label(item.id, "intact", ANNA)


def test_drawn_pictures_come_in_their_order_whatever_they_cost(make_desk) -> None:
    desk = make_desk(share=1.0, lane="audit")
    for n, score in enumerate((0.01, 0.19, 0.5, 0.05)):
        desk.offer(b"%d" % n, answer_of(score, "pass"))
    assert [take_and_label(desk) for _ in range(4)] == [1, 2, 3, 4]


def take_and_label(desk) -> int:
    item = desk.queue.take(ANNA)
    desk.queue.label(item.id, "intact", ANNA)
    return item.id


def test_turns_are_shared_by_the_lanes(make_desk) -> None:
    queue = Queue(make_desk().database, 60, 60)
    firsts = [queue._lanes()[0] for _ in range(4000)]
    for lane, share in zip(LANES, TURNS, strict=True):
        assert firsts.count(lane) / 4000 == pytest.approx(share, abs=5 * (share * (1 - share) / 4000) ** 0.5)
    assert sum(TURNS) == pytest.approx(1)


def test_eight_people_at_once_hold_and_label_each_item_once(url, desk) -> None:
    """Each with connections of their own, as in several processes."""
    desk.offer_reviews(80)
    held: list[tuple[int, str]] = []

    def work(name: str) -> None:
        database = Database.open(url)
        queue, person = Queue(database, 600, 600), Reviewer(name, f"{name}:1")
        try:
            while True:
                item = queue.take(person)
                held.append((item.id, name))
                queue.label(item.id, "intact", person)
        except NothingWaits:
            pass
        finally:
            database.close()

    people = [threading.Thread(target=work, args=(f"person{n}",)) for n in range(8)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert sorted(item for item, _ in held) == sorted(labels(desk))
    assert len(held) == 80
