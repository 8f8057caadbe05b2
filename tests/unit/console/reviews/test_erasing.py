"""A deleted picture is nowhere: no file, no digest, no bytes in the database; labels stay, for the figures."""

import os
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import select

from console.reviews import erasing, export
from console.reviews.errors import NothingWaits, PictureGone
from console.reviews.pictures import digest_of
from console.reviews.tables import ITEMS, PICTURES, REVIEWS
from tests.unit.console.reviews.conftest import ANNA, answer_of

DAY = 86400


def items(desk) -> list:
    with desk.database.reading() as connection:
        return list(connection.execute(select(ITEMS).order_by(ITEMS.c.id)))


def test_a_picture_goes_with_all_that_is_of_it(desk) -> None:
    desk.offer(b"kept")
    desk.offer(b"gone", answer_of(0.2, heatmap=[[0.5]], heatmap_label="damaged", heatmap_box=(0, 0, 1, 1)))
    desk.offer(b"gone", answer_of(0.2, digest="b" * 64))
    gone, kept = digest_of(b"gone"), digest_of(b"kept")
    first = desk.queue.take(ANNA)
    desk.queue.label(first.id, "damaged", ANNA)
    assert first.digest == gone

    assert erasing.erase(desk.database, desk.pictures, gone)
    assert not erasing.erase(desk.database, desk.pictures, gone)
    assert [digest for digest, _ in desk.pictures.digests()] == [kept]
    assert [(item.digest, item.state) for item in items(desk)] == [(kept, "open"), (None, "labelled"), (None, "erased")]
    assert all(item.probabilities is None and item.map is None for item in items(desk) if item.digest is None)
    with desk.database.reading() as connection:
        assert connection.execute(select(PICTURES.c.digest)).scalars().all() == [kept]
        assert connection.execute(select(REVIEWS.c.label)).scalars().all() == ["damaged"]
    assert list(export.tasks(desk.database)) == []
    with pytest.raises(PictureGone):
        desk.pictures.get(gone)
    assert desk.queue.take(ANNA).digest == kept


def test_who_holds_a_deleted_picture_cannot_label_it(desk) -> None:
    desk.offer(b"one")
    item = desk.queue.take(ANNA)
    erasing.erase(desk.database, desk.pictures, item.digest)
    with pytest.raises(NothingWaits):
        desk.queue.take(ANNA)
    desk.offer(b"one")  # asked again, it is a new item
    assert desk.queue.take(ANNA).id != item.id


def test_the_old_ones_go(desk) -> None:
    for age_days in (10, 5, 1):
        desk.clock.now = 1_000_000 - age_days * DAY
        desk.offer(b"%d" % age_days)
    assert erasing.erase_older(desk.database, desk.pictures, 4, now=1_000_000) == 2
    assert [item.digest for item in items(desk)] == [None, None, digest_of(b"1")]


def test_pictures_that_no_row_knows_go_once_they_are_old_enough(desk) -> None:
    desk.offer(b"known")
    orphan, new = digest_of(b"orphan"), digest_of(b"new")
    for content, digest in ((b"orphan", orphan), (b"new", new)):
        desk.pictures.put(digest, content)
    now = 2_000_000_000.0
    for digest, age_s in ((orphan, 3700), (new, 10), (digest_of(b"known"), 3700)):
        path = desk.pictures.folder / digest[:2] / digest
        os.utime(path, (now - age_s, now - age_s))
    assert erasing.sweep(desk.database, desk.pictures, now) == 1
    assert {digest for digest, _ in desk.pictures.digests()} == {new, digest_of(b"known")}
    assert erasing.erase(desk.database, desk.pictures, new)  # by request at once, with or without a row


def test_no_page_of_sqlite_has_the_digest_any_more(desk, tmp_path: Path) -> None:
    if desk.database.engine.dialect.name != "sqlite":
        pytest.skip("of SQLite's file")
    digest = digest_of(b"one")
    desk.offer(b"one")
    erasing.erase(desk.database, desk.pictures, digest)
    desk.database.close()
    sqlite3.connect(tmp_path / "reviews.db").execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    left = [path.name for path in tmp_path.rglob("*") if path.is_file() and digest.encode() in path.read_bytes()]
    assert left == []


def test_sqlite_files_have_nothing_of_a_deleted_picture_while_the_console_runs(make_desk, url: str, tmp_path: Path) -> None:
    if not url.startswith("sqlite"):
        pytest.skip("PostgreSQL has its own vacuum")
    desk = make_desk()
    desk.offer(b"gone")
    gone = digest_of(b"gone").encode()
    assert any(gone in path.read_bytes() for path in tmp_path.glob("reviews.db*"))
    assert erasing.erase(desk.database, desk.pictures, gone.decode())
    assert not any(gone in path.read_bytes() for path in tmp_path.glob("reviews.db*"))
