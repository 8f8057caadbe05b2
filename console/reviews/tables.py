"""The tables of the review queue. `console.reviews.database` opens them, and `migrations` makes them in any database.

Times are seconds since 1970, which both databases compare alike. `holder` is who looks at an item now: a key and a session of it;
`reviewer` is the pseudonym of a key, which alone is kept with labels.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    literal_column,
    text,
)

METADATA = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_once",
        "fk": "%(table_name)s_%(column_0_name)s_of_%(referred_table_name)s",
        "pk": "%(table_name)s_key",
    }
)
NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""A row's number; SQLite counts up an INTEGER alone."""


def _index_where(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index of the rows that fulfil a condition."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


SECRETS = Table("secrets", METADATA, Column("name", String(40), primary_key=True), Column("value", Text, nullable=False))
"""What the database's own draws and pseudonyms are made with."""

PICTURES = Table(
    "pictures",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("came_s", Double, nullable=False, index=True),
)
"""Pictures that are kept, by the SHA-256 of their bytes. A row is written after its picture and deleted with it."""

ITEMS = Table(
    "items",
    METADATA,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("digest", String(64), ForeignKey("pictures.digest")),
    Column("came_s", Double, nullable=False),
    Column("source", String(10), nullable=False),
    Column("state", String(10), nullable=False),
    Column("lane", String(10), nullable=False),
    Column("rank", Double, nullable=False),
    Column("chance", Double),
    Column("cost", Double, nullable=False),
    Column("model", String(200), nullable=False),
    Column("version", String(40), nullable=False),
    Column("archive", String(64), nullable=False),
    Column("track", String(40), nullable=False),
    Column("labels", JSON(none_as_null=True), nullable=False),
    Column("positive", JSON(none_as_null=True), nullable=False),
    Column("label", String(200), nullable=False),
    Column("confidence", Double),
    Column("score", Double),
    Column("probabilities", JSON(none_as_null=True)),
    Column("decision", String(10), nullable=False),
    Column("threshold", Double),
    Column("served", Boolean, nullable=False),
    Column("map", JSON(none_as_null=True)),
    Column("holder", String(100)),
    Column("held_until_s", Double),
    _index_where("items_next", "lane", "rank", "id", "state", where="state = 'open'"),  # with the state SQLite counts by it alone
    _index_where("items_held", "holder", where="holder IS NOT NULL"),
    Index("items_digest_archive_once", "digest", "archive", unique=True),
)
"""Answers that wait for a person, or had one. Each picture is there once for each archive that answered it, the first time.

`state`: open, labelled, or erased: its picture was deleted before it had a label, so that `digest`, `probabilities` and `map` are
empty. `lane`: audit, of those that were drawn at random, else review or drift. `rank`: the order within a lane, least first.
`chance`: the share of all answers that were drawn when it came, empty where it is no traffic: uploaded for the queue, or decided
by a request's own threshold. `served`: whether it is traffic that the archive's own rule decided, no group's. `map`: the fields
of the answer that draw its heat map, if that was asked for. `holder`: of an open item alone.
"""
OPEN = ITEMS.c.state == literal_column("'open'")
"""That an item waits, as the index of what waits says it: with a parameter, SQLite would not know that it may use that."""

REVIEWS = Table(
    "reviews",
    METADATA,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("item", NUMBER, ForeignKey("items.id"), nullable=False, index=True),
    Column("reviewer", String(32), nullable=False),
    Column("holder", String(100), nullable=False),
    Column("label", String(200)),
    Column("at_s", Double, nullable=False),
    Column("undone_s", Double),
    _index_where("reviews_of_holder", "holder", "id", where="undone_s IS NULL"),
    _index_where("reviews_passed_on", "item", "holder", where="label IS NULL AND undone_s IS NULL"),
    _index_where("reviews_one_label", "item", where="label IS NOT NULL AND undone_s IS NULL", unique=True),
)
"""What people did: gave a label, or passed an item on (`label` is empty then). Undone rows stay, with the time."""

ANSWERED = Table(
    "answered",
    METADATA,
    Column("model", String(200), primary_key=True),
    Column("version", String(40), primary_key=True),
    Column("archive", String(64), primary_key=True),
    Column("decision", String(10), primary_key=True),
    Column("pictures", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
)
"""How many pictures were answered, of which items are some. `dropped`: how many were to become items, and found no room."""
