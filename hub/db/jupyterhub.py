"""JupyterHub's own database where it is SQLite: its commits, some tens for each start of a server, hold the hub's loop.

As SQLite comes, each of them waits two or three times until the disk has everything (rollback journal, `synchronous`
FULL): a third of the loop's time while 500 servers start. With a write-ahead log and `synchronous` NORMAL none of them
waits (SQLite, "Write-Ahead Logging"). The file stays whole whatever happens, and what was committed outlives the hub;
only a power cut may take the last moments with it, after which sessions on that machine have ended, too, and others are
found again by the reconciler.
"""

from __future__ import annotations

import sqlite3
from typing import Any

__all__ = ["QuickConnection", "engine_arguments"]


class QuickConnection(sqlite3.Connection):
    """A connection whose commits do not wait for the disk."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        # Where there can be no such log (some network file systems), the answer names the journal that stays.
        self.execute("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = NORMAL")


def engine_arguments(url: str) -> dict[str, Any]:
    """Return what JupyterHub shall give SQLAlchemy's `create_engine` for this database (`JupyterHub.db_kwargs`)."""
    if not url.startswith("sqlite"):
        return {}
    return {"connect_args": {"check_same_thread": False, "factory": QuickConnection}}
