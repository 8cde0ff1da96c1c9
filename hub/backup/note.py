"""That a copy was made, written into the audit trail: there operators see it, and the controller tells its age."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from hub.audit import record
from hub.db.transaction import write

__all__ = ["MADE", "SUBJECT", "note"]

MADE = "backup.made"
SUBJECT = "installation"


def note(database: Engine, file: Path, size: int) -> str:
    """Write down that this copy was made and checked; return why that could not be done, empty: it was.

    A copy is as good without: before an upgrade the database may lack the table, and it may be away by now.
    """
    try:
        write(database, lambda found: record(found, "backup", MADE, SUBJECT, after={"file": file.name, "bytes": size}))
    except (SQLAlchemyError, OSError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return ""
