"""The database's versions, each a step from the one before it; Alembic runs them."""
