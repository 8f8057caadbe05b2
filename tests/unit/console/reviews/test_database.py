"""The database: migrated once by whoever comes first, as the tables say, durable, and refused where it is another's."""

import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select, text

from console.reviews.database import Database
from console.reviews.errors import DatabaseDown, DatabaseUnusable
from console.reviews.tables import METADATA, PICTURES, SECRETS


def test_migrations_make_what_the_tables_say(url: str) -> None:
    database = Database.open(url)
    with database.reading() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA)
    database.close()
    assert differences == []


def test_eight_that_open_at_once_make_one_database(url: str) -> None:
    secrets, failures = [], []

    def open_it() -> None:
        try:
            database = Database.open(url)
            secrets.append(database.secret("draw"))
            database.close()
        except Exception as err:
            failures.append(err)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(secrets) == 8
    assert len(set(secrets)) == 1
    assert len(secrets[0]) == 32


def test_what_was_written_is_there_after_it_is_opened_again(url: str) -> None:
    database = Database.open(url)
    with database.writing() as connection:
        connection.execute(insert(PICTURES).values(digest="a" * 64, size=1, came_s=2.5))
    secret = database.secret("draw")
    database.close()
    again = Database.open(url)
    with again.reading() as connection:
        assert connection.execute(select(PICTURES)).all() == [("a" * 64, 1, 2.5)]
    assert again.secret("draw") == secret
    again.close()


def test_a_block_that_fails_writes_nothing(url: str) -> None:
    database = Database.open(url)

    def fail() -> None:
        with database.writing() as connection:
            connection.execute(insert(PICTURES).values(digest="a" * 64, size=1, came_s=1.0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.reading() as connection:
        assert connection.execute(select(PICTURES)).all() == []
    database.close()


def test_a_database_of_a_newer_version_is_refused(url: str) -> None:
    database = Database.open(url)
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(DatabaseUnusable, match="another version"):
        Database.open(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "in memory"),
        ("mysql://localhost/x", "mysql"),
        ("nonsense", "cannot be read"),
        ("postgresql://anna:secret@127.0.0.1:1/x", "cannot be opened"),
    ],
)
def test_what_cannot_be_opened_is_told_without_its_password(url: str, said: str) -> None:
    with pytest.raises(DatabaseUnusable, match=said) as caught:
        Database.open(url)
    assert "secret" not in str(caught.value)


def test_sqlite_is_opened_so_that_a_commit_is_on_the_disk(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'new' / 'reviews.db'}")
    with database.reading() as connection:
        asked = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert asked == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    database.close()


def test_a_database_that_does_not_answer_is_no_mistake_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.reviews.database.BUSY_S", 0.1)
    database = Database.open(f"sqlite:///{tmp_path / 'reviews.db'}")
    with database.writing(), pytest.raises(DatabaseDown, match="locked"), database.writing():
        pass
    with database.reading() as connection:
        assert connection.execute(select(SECRETS.c.name)).scalars().all() == ["draw", "pseudonym"]
    database.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_gone_or_another_is_written_no_more(tmp_path: Path, replaced: bool) -> None:
    place = tmp_path / "reviews.db"
    database = Database.open(f"sqlite:///{place}")
    for left in tmp_path.glob("reviews.db*"):
        left.unlink()
    if replaced:
        Database.open(f"sqlite:///{place}").close()
    for begin in (database.writing, database.reading):
        with pytest.raises(DatabaseDown, match="start the console again"), begin():
            pass
    database.close()


def test_sqlites_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'console.db'}")
    with database.reading():
        assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("console.db*")} == {
            "console.db": 0o600,
            "console.db-wal": 0o600,
            "console.db-shm": 0o600,
        }
    database.close()
