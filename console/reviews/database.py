"""The review queue's database: SQLite in one file by default, or PostgreSQL, opened, migrated and asked in transactions."""

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, InterfaceError, NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from console.reviews.errors import DatabaseDown, DatabaseUnusable
from console.reviews.tables import ITEMS, SECRETS
from console.reviews.turns import FairLock

BUSY_S = 30.0
"""How long a transaction of SQLite waits for another process' write."""
SETTLE_MS = 200
"""How long a deletion waits for those who read, milliseconds."""
MIGRATION_LOCK = 0x7669736F72
"""Number of the advisory lock under which PostgreSQL's tables are migrated: one process does, others wait and find it done."""
DIALECTS = ("sqlite", "postgresql")
CONNECTIONS, MORE_CONNECTIONS = 5, 35
"""As many threads as FastAPI gives to routes may ask at once; five connections stay open."""


class Database:
    """An open database whose tables are of this version."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # SQLite's own wait for another writer looks again after up to 100 ms: within a process writers wait for each other here.
        self._writer = FairLock() if engine.dialect.name == "sqlite" else None
        self._file = _file_of(engine)

    @classmethod
    def open(cls, url: str, *, make: bool = True) -> "Database":
        """Open a database and migrate it. url: SQLAlchemy's. Raises DatabaseUnusable.

        `make`: False where one without a queue is a mistake, such as a mistyped folder's, and nothing is to be made there.
        """
        engine = make_engine(url, make=make)
        try:
            if not make and not (_file_of(engine) if engine.dialect.name == "sqlite" else inspect(engine).has_table(ITEMS.name)):
                raise DatabaseUnusable(
                    f"{shown(engine)} is not there, or no console has written it; name the console's folder by --folder, or its "
                    "database by --database"
                )
            _make_private(engine)
            _migrate(engine)
        except CommandError as err:
            raise DatabaseUnusable(
                f"{shown(engine)} is of another version of the console: {err}; start the version that wrote it, or a newer one"
            ) from err
        except SQLAlchemyError as err:
            raise DatabaseUnusable(f"{shown(engine)} cannot be opened: {_said(err)}") from err
        return cls(engine)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads. Raises DatabaseDown."""
        with self._begun(writes=False) as connection:
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """A transaction that writes: once the block has ended well, what it wrote survives a crash. Raises DatabaseDown.

        `durable`: False where it need not survive a power cut, such as a lease; then nobody waits for the disk.
        """
        if self._writer and not self._writer.acquire(timeout=BUSY_S):
            raise DatabaseDown(f"{shown(self.engine)} is locked by another write for {BUSY_S:g} s")
        try:
            with self._begun(writes=True, durable=durable) as connection:
                yield connection
        finally:
            if self._writer:
                self._writer.release()

    @contextmanager
    def _begun(self, *, writes: bool, durable: bool = True) -> Iterator[Connection]:
        if self._file != _file_of(self.engine):
            # SQLite would go on in the old file, which nobody finds again, and acknowledge what is lost with this process.
            raise DatabaseDown(f"{shown(self.engine)} is gone, or another file than was opened; start the console again")
        try:
            engine = self.engine.execution_options(writes=writes, durable=durable)
            with engine.begin() as connection:
                if writes and not durable and engine.dialect.name == "postgresql":
                    connection.execute(text("SET LOCAL synchronous_commit TO OFF"))
                yield connection
        except (OperationalError, InterfaceError, PoolTimeout) as err:
            raise DatabaseDown(f"{shown(self.engine)} does not answer: {_said(err)}") from err

    def settle(self) -> None:
        """Take what was deleted out of SQLite's files, where it would be until so much more was written; PostgreSQL has a vacuum.

        Somebody who reads meanwhile keeps it there for longer, until the next call.
        """
        if self._writer:
            with self.engine.connect() as connection:
                raw: Any = connection.connection.driver_connection
                raw.rollback()  # a checkpoint is not of a transaction
                raw.execute(f"PRAGMA busy_timeout={SETTLE_MS}")
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                raw.execute(f"PRAGMA busy_timeout={BUSY_S * 1000:.0f}")

    def secret(self, name: str) -> bytes:
        """The database's own secret of this name, 32 bytes, the same in every process that has it open."""
        with self.writing() as connection:
            row = connection.execute(select(SECRETS.c.value).where(SECRETS.c.name == name)).scalar()
            return bytes.fromhex(row or "")


def lock(connection: Connection, digests: Iterable[str]) -> None:
    """Let no other transaction add or delete these pictures until this one ends; in one order, so that none waits for another.

    A row's lock would not do: a row that another transaction has just added cannot be seen yet. SQLite has one writer at a time.
    """
    if connection.dialect.name == "postgresql":
        for digest in sorted(set(digests)):
            number = int.from_bytes(bytes.fromhex(digest)[:8], signed=True)
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})


def make_engine(url: str, *, make: bool = True) -> Engine:
    """Make an engine whose transactions are durable, and which connects when it is first asked. Raises DatabaseUnusable.

    `make`: whether the folder of SQLite's file is made where it is not there.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() not in DIALECTS:
            raise DatabaseUnusable(f"a database of {parsed.get_backend_name()} is not read; give sqlite:/// or postgresql://")
        if parsed.get_backend_name() == "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise DatabaseUnusable("a database in memory is gone with its process; name a file, sqlite:///FILE")
            if make:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(parsed, pool_size=CONNECTIONS, max_overflow=MORE_CONNECTIONS, connect_args={"timeout": BUSY_S})
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        if "+" not in parsed.drivername:
            parsed = parsed.set(drivername="postgresql+psycopg2")  # the driver that the console's image has
        # Each connection is tried before its use, so that a database's restart is no error.
        return create_engine(parsed, pool_size=CONNECTIONS, max_overflow=MORE_CONNECTIONS, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ImportError) as err:
        raise DatabaseUnusable(f"the database's URL cannot be read: {err}") from err
    except OSError as err:
        raise DatabaseUnusable(f"the database's folder cannot be made: {err}") from err


def shown(engine: Engine) -> str:
    """The database's URL without its password."""
    return engine.url.render_as_string(hide_password=True)


def _file_of(engine: Engine) -> tuple[int, int] | None:
    """What tells the file of SQLite from another one of its name; None where there is none, and of other databases."""
    if engine.dialect.name != "sqlite":
        return None
    try:
        found = Path(str(engine.url.database)).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make_private(engine: Engine) -> None:
    """Make SQLite's file, if it is not there, for its owner alone; its log and its index get the file's rights."""
    name = str(engine.url.database)
    if engine.dialect.name == "sqlite" and not name.startswith("file:"):
        with suppress(OSError):  # which SQLite then tells in its own words
            os.close(os.open(name, os.O_RDWR | os.O_CREAT, 0o600))


def _prepare_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # this module begins transactions by itself, as sqlite3 begins them too late
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # readers do not wait for the writer
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten, and no free page has it
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    # With FULL a commit is on the disk; with NORMAL, in WAL, a power cut may take the last ones, and a kill takes none.
    connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if options.get('durable', True) else 'NORMAL'}")
    # A transaction that reads first and writes then would fail where another one has written in between.
    writes = options.get("writes", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(engine: Engine) -> None:
    """Bring the tables to this version, in one transaction, which other processes wait for."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    scripts = ScriptDirectory.from_config(config)

    def steps(revision: Any, _: Any) -> Any:
        return scripts._upgrade_revs("head", revision)

    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        with EnvironmentContext(config, scripts, fn=steps) as environment:
            environment.configure(connection=connection, transactional_ddl=True)
            environment.run_migrations()
        for name in ("draw", "pseudonym"):
            if connection.execute(select(SECRETS.c.name).where(SECRETS.c.name == name)).scalar() is None:
                connection.execute(insert(SECRETS).values(name=name, value=secrets.token_hex(32)))


def _said(err: SQLAlchemyError) -> str:
    """What the driver said, in one line and without the statement, whose values may be a person's."""
    cause = getattr(err, "orig", None) or err
    return str(cause).strip().partition("\n")[0]
