"""Deleting pictures everywhere: by request, by age, and those that a crash has left without a row.

The picture goes, its digest, the answer's probabilities and its heat map. What stays of a labelled item is the decision, the
score and the label, which the figures are made of, and which say nothing of who or what is in the picture.
"""

import time

from sqlalchemy import Connection, delete, select, update

from console.reviews.database import Database, lock
from console.reviews.pictures import Pictures
from console.reviews.tables import ITEMS, PICTURES

DAY_S = 86400.0
LEFT_S = 3600.0
"""A picture without a row is deleted once it is this old: before, its row may be on its way."""
PAGE = 100


def erase(database: Database, pictures: Pictures, digest: str) -> bool:
    """Delete a picture everywhere, by its SHA-256; whether it was there.

    Who adds an item with the same picture meanwhile waits until it is gone, and puts it there anew.
    After a crash in between, the row is still there, and the same call ends what was begun. Raises PicturesDown.
    """
    there = _erase(database, pictures, digest)
    database.settle()
    return there


def _erase(database: Database, pictures: Pictures, digest: str) -> bool:
    with database.writing() as connection:
        lock(connection, [digest])
        known, there = _is_known(connection, digest), pictures.has(digest)
        if known:
            _forget(connection, digest)
        pictures.remove(digest)
    return known or there


def erase_older(database: Database, pictures: Pictures, days: float, now: float | None = None) -> int:
    """Delete the pictures that came more than `days` days ago; return how many. Raises PicturesDown."""
    before = (time.time() if now is None else now) - days * DAY_S
    erased = 0
    while True:
        with database.reading() as connection:
            old = select(PICTURES.c.digest).where(PICTURES.c.came_s < before).order_by(PICTURES.c.came_s).limit(PAGE)
            digests = connection.execute(old).scalars().all()
        if not digests:
            return erased
        erased += sum(_erase(database, pictures, digest) for digest in digests)
        database.settle()


def sweep(database: Database, pictures: Pictures, now: float | None = None) -> int:
    """Delete pictures that no row knows, which a crash before the row has left; return how many. Raises PicturesDown."""
    before = (time.time() if now is None else now) - LEFT_S
    swept = 0
    for digest, came_s in pictures.digests():
        if came_s >= before:
            continue
        with database.reading() as connection:
            if _is_known(connection, digest):
                continue  # nearly all are, and no writer waits for this look
        with database.writing() as connection:
            lock(connection, [digest])
            if not _is_known(connection, digest):
                pictures.remove(digest)
                swept += 1
    return swept


def _is_known(connection: Connection, digest: str) -> bool:
    """Whether a row has the picture."""
    return connection.execute(select(PICTURES.c.digest).where(PICTURES.c.digest == digest)).first() is not None


def _forget(connection: Connection, digest: str) -> None:
    """Take all that is of a picture out of the database. An item without a label is erased, one with a label keeps that."""
    same = ITEMS.c.digest == digest
    personal = {"digest": None, "probabilities": None, "map": None, "holder": None, "held_until_s": None}
    connection.execute(update(ITEMS).where(same, ITEMS.c.state == "open").values(**personal, state="erased"))
    connection.execute(update(ITEMS).where(same).values(**personal))
    connection.execute(delete(PICTURES).where(PICTURES.c.digest == digest))
