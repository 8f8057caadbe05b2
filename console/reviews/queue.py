"""The queue: one item at a time for each person, by a lease, to be labelled, passed on or undone.

Three lanes wait. `review` is in the order of expected cost, the dearest first. `audit` is in the order in which answers came:
what was drawn at random must not be sorted by how it was answered, or the figures would be of the dear answers. `drift` is in
the order in which it was named. Each turn is drawn: a quarter are audits' and a tenth drift's, as long as any wait.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from console.reviews.database import Database
from console.reviews.errors import ItemTaken, ItemUnknown, LabelUnknown, NothingToUndo, NothingWaits
from console.reviews.tables import ITEMS, OPEN, REVIEWS

LANES = ("review", "audit", "drift")
TURNS = (0.65, 0.25, 0.1)
"""The share of turns that are each lane's; where nothing waits in one, the turn is that of the next."""
COUNTED = 500
"""How many items of a lane are counted at most: a count of all would take the longer, the more wait."""
FOUND = select(*(ITEMS.c[name] for name in ("id", "digest", "model", "version", "labels", "state", "holder", "held_until_s")))
"""What of an item decides whose it is, and what a person is told of it."""


@dataclass(frozen=True)
class Reviewer:
    """A person at work. `pseudonym`: of the key, which is kept; `holder`: of the key and a window of the browser."""

    pseudonym: str
    holder: str


@dataclass(frozen=True)
class Item:
    """An item that a person holds until `held_until_s`. What the model answered is not in it, so that labels are people's own."""

    id: int
    digest: str
    model: str
    version: str
    labels: tuple[str, ...]
    held_until_s: float


class Queue:
    """The queue in a database. `lease_s`: how long an item is a person's; `undo_s`: how long what was done can be undone."""

    def __init__(
        self,
        database: Database,
        lease_s: float,
        undo_s: float,
        clock: Callable[[], float] = time.time,
        chance: random.Random | None = None,
    ) -> None:
        self._database, self.lease_s, self.undo_s, self._clock = database, lease_s, undo_s, clock
        self._chance = chance or random.Random()

    def take(self, reviewer: Reviewer) -> Item:
        """Give a person the item that they hold, or else the next one. Raises NothingWaits."""
        now = self._clock()
        with self._database.writing(durable=False) as connection:
            held = (ITEMS.c.holder == reviewer.holder) & (ITEMS.c.held_until_s > now)
            found = connection.execute(FOUND.where(held).limit(1)).first()
            for lane in self._lanes() if found is None else ():
                found = connection.execute(_next(lane, reviewer, now)).first()
                if found is not None:
                    break
            if found is None:
                raise NothingWaits("no picture waits for you")
            return self._lease(connection, found, reviewer, now)

    def label(self, item: int, label: str, reviewer: Reviewer) -> None:
        """Give the item that a person holds its label. Once this returns, the label is kept; said again it changes nothing.

        Who still has an item after its time, as nobody else took it, may label it. Raises ItemUnknown, ItemTaken, LabelUnknown.
        """
        now = self._clock()
        try:
            with self._database.writing() as connection:
                found = self._mine(connection, item, reviewer, label)
                if found is None:
                    return
                if label not in found.labels:
                    known = ", ".join(found.labels)
                    raise LabelUnknown(f"{label[:80]!r} is none of the labels of {found.model}; they are {known}")
                connection.execute(insert(REVIEWS).values(_action(item, reviewer, now, label)))
                connection.execute(_release(item, state="labelled"))
        except IntegrityError as err:
            raise ItemTaken("this picture has a label by now") from err

    def skip(self, item: int, reviewer: Reviewer) -> None:
        """Pass the item that a person holds on to others. Raises ItemUnknown, ItemTaken."""
        now = self._clock()
        with self._database.writing() as connection:
            if self._mine(connection, item, reviewer) is not None:
                connection.execute(insert(REVIEWS).values(_action(item, reviewer, now, None)))
                connection.execute(_release(item))

    def undo(self, reviewer: Reviewer) -> Item:
        """Take back what a person did last, and give them its item again. Raises NothingToUndo, ItemTaken."""
        now = self._clock()
        with self._database.writing() as connection:
            mine = (REVIEWS.c.holder == reviewer.holder) & REVIEWS.c.undone_s.is_(None)
            last = connection.execute(select(REVIEWS).where(mine).order_by(REVIEWS.c.id.desc()).limit(1)).first()
            if last is None or last.at_s <= now - self.undo_s:
                raise NothingToUndo("you have done nothing that can still be undone")
            found = connection.execute(FOUND.where(ITEMS.c.id == last.item).with_for_update()).one()
            if found.digest is None:
                raise NothingToUndo("the picture was deleted since")
            held = found.holder not in (None, reviewer.holder) and found.held_until_s > now
            if held or found.state != ("open" if last.label is None else "labelled"):
                raise ItemTaken("another person has the picture that you passed on, or has labelled it")
            connection.execute(update(REVIEWS).where(REVIEWS.c.id == last.id).values(undone_s=now))
            connection.execute(update(ITEMS).where(ITEMS.c.holder == reviewer.holder).values(holder=None, held_until_s=None))
            return self._lease(connection, found, reviewer, now)

    def held(self, item: int, reviewer: Reviewer) -> Row[Any]:
        """The row of an item that a person holds. Raises ItemUnknown, ItemTaken."""
        with self._database.reading() as connection:
            found = connection.execute(FOUND.add_columns(ITEMS.c.map).where(ITEMS.c.id == item)).first()
        if found is None:
            raise ItemUnknown(f"the queue has no item {item}")
        if found.holder != reviewer.holder:
            raise ItemTaken("this picture is not yours now; ask for the next one")
        return found

    def waiting(self) -> dict[str, int]:
        """Count the items that wait, by lane, COUNTED of each at most; lanes where nothing waits are not named."""
        with self._database.reading() as connection:
            counts = connection.execute(WAITING).one()
        return {lane: count for lane, count in zip(LANES, counts, strict=True) if count}

    def _lanes(self) -> Sequence[str]:
        """The lanes in the order of this turn: the drawn one first."""
        [first] = self._chance.choices(LANES, TURNS)
        return (first, *(other for other in LANES if other != first))

    def _lease(self, connection: Connection, found: Row[Any], reviewer: Reviewer, now: float) -> Item:
        until = now + self.lease_s
        lease = {"state": "open", "holder": reviewer.holder, "held_until_s": until}
        connection.execute(update(ITEMS).where(ITEMS.c.id == found.id).values(**lease))
        return Item(found.id, found.digest, found.model, found.version, tuple(found.labels), until)

    def _mine(self, connection: Connection, item: int, reviewer: Reviewer, label: str | None = None) -> Row[Any] | None:
        """The open item that a person holds, or None where they gave it this label already, as far as they know in vain."""
        found = connection.execute(FOUND.where(ITEMS.c.id == item).with_for_update()).first()
        if found is None:
            raise ItemUnknown(f"the queue has no item {item}")
        if found.state == "open" and found.holder == reviewer.holder:
            return found
        same = (REVIEWS.c.item == item) & (REVIEWS.c.holder == reviewer.holder) & REVIEWS.c.undone_s.is_(None)
        given = connection.execute(select(REVIEWS.c.label).where(same).order_by(REVIEWS.c.id.desc()).limit(1)).first()
        if given is not None and given.label == label and (label is None or found.state == "labelled"):
            return None
        raise ItemTaken("this picture is not yours now: your time was up and another person took it, or it has a label")


def _waiting(lane: str) -> Any:
    """How many items wait in a lane, as far as they are counted."""
    some = select(ITEMS.c.id).where(OPEN, ITEMS.c.lane == lane).order_by(ITEMS.c.rank).limit(COUNTED).subquery()
    return select(func.count()).select_from(some).scalar_subquery()


WAITING = select(*map(_waiting, LANES))


def _next(lane: str, reviewer: Reviewer, now: float) -> Any:
    """The first free item of a lane that the person did not pass on, by the index; rows that others take now are passed over."""
    skip = and_(REVIEWS.c.item == ITEMS.c.id, REVIEWS.c.holder == reviewer.holder)
    active = and_(REVIEWS.c.label.is_(None), REVIEWS.c.undone_s.is_(None))
    # Not by EXISTS: PostgreSQL makes a join of that and, of a table whose size it misjudges, reads all skips for each item.
    passed_on = select(REVIEWS.c.id).where(skip, active).limit(1).scalar_subquery()
    free: ColumnElement[bool] = or_(ITEMS.c.holder.is_(None), ITEMS.c.held_until_s <= now)
    wanted = and_(OPEN, ITEMS.c.lane == lane, free, passed_on.is_(None))
    return FOUND.where(wanted).order_by(ITEMS.c.rank, ITEMS.c.id).limit(1).with_for_update(of=ITEMS, skip_locked=True)


def _action(item: int, reviewer: Reviewer, now: float, label: str | None) -> dict[str, Any]:
    return {"item": item, "reviewer": reviewer.pseudonym, "holder": reviewer.holder, "label": label, "at_s": now}


def _release(item: int, **changes: Any) -> Any:
    return update(ITEMS).where(ITEMS.c.id == item).values(holder=None, held_until_s=None, **changes)
