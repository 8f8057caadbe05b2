"""The review queue's first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table("secrets", sa.Column("name", sa.String(40), primary_key=True), sa.Column("value", sa.Text, nullable=False))
    op.create_table(
        "pictures",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("came_s", sa.Double, nullable=False),
    )
    op.create_index("pictures_came_s", "pictures", ["came_s"])
    op.create_table(
        "items",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("digest", sa.String(64), sa.ForeignKey("pictures.digest")),
        sa.Column("came_s", sa.Double, nullable=False),
        sa.Column("source", sa.String(10), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("lane", sa.String(10), nullable=False),
        sa.Column("rank", sa.Double, nullable=False),
        sa.Column("chance", sa.Double),
        sa.Column("cost", sa.Double, nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("version", sa.String(40), nullable=False),
        sa.Column("archive", sa.String(64), nullable=False),
        sa.Column("track", sa.String(40), nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("positive", sa.JSON, nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("confidence", sa.Double),
        sa.Column("score", sa.Double),
        sa.Column("probabilities", sa.JSON),
        sa.Column("decision", sa.String(10), nullable=False),
        sa.Column("threshold", sa.Double),
        sa.Column("served", sa.Boolean, nullable=False),
        sa.Column("map", sa.JSON),
        sa.Column("holder", sa.String(100)),
        sa.Column("held_until_s", sa.Double),
    )
    _index_where("items_next", "items", ["lane", "rank", "id", "state"], "state = 'open'")
    _index_where("items_held", "items", ["holder"], "holder IS NOT NULL")
    op.create_index("items_digest_archive_once", "items", ["digest", "archive"], unique=True)
    op.create_table(
        "reviews",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("item", NUMBER, sa.ForeignKey("items.id"), nullable=False),
        sa.Column("reviewer", sa.String(32), nullable=False),
        sa.Column("holder", sa.String(100), nullable=False),
        sa.Column("label", sa.String(200)),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("undone_s", sa.Double),
    )
    op.create_index("reviews_item", "reviews", ["item"])
    _index_where("reviews_of_holder", "reviews", ["holder", "id"], "undone_s IS NULL")
    _index_where("reviews_passed_on", "reviews", ["item", "holder"], "label IS NULL AND undone_s IS NULL")
    _index_where("reviews_one_label", "reviews", ["item"], "label IS NOT NULL AND undone_s IS NULL", unique=True)
    op.create_table(
        "answered",
        sa.Column("model", sa.String(200), primary_key=True),
        sa.Column("version", sa.String(40), primary_key=True),
        sa.Column("archive", sa.String(64), primary_key=True),
        sa.Column("decision", sa.String(10), primary_key=True),
        sa.Column("pictures", sa.BigInteger, nullable=False),
        sa.Column("dropped", sa.BigInteger, nullable=False),
    )


def _index_where(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    """Make an index of the rows that fulfil a condition."""
    op.create_index(name, table, columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def downgrade() -> None:
    """Drop the tables, and every label with them."""
    for table in ("answered", "reviews", "items", "pictures", "secrets"):
        op.drop_table(table)
