"""An insert of a row that may be there already, which each kind of database says in its own words."""

from __future__ import annotations

from sqlalchemy import Insert, Table
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["insert_unless_there"]


def insert_unless_there(table: Table, dialect: str) -> Insert:
    """Return an insert that does nothing where the table has a row with this key.

    Parameters
    ----------
    dialect
        SQLAlchemy's name of the kind of database.
    """
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()
