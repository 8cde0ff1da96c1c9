"""JupyterHub's own database: the hub's loop waits for each of its statements, so each of them must end soon.

As SQLite comes, each commit waits two or three times until the disk has everything (rollback journal, `synchronous`
FULL): a third of the loop's time while 500 servers start. With a write-ahead log and `synchronous` NORMAL none of them
waits (SQLite, "Write-Ahead Logging"). The file stays whole whatever happens, and what was committed outlives the hub;
only a power cut may take the last moments with it, after which sessions on that machine have ended, too, and others are
found again by the reconciler.

As PostgreSQL's client comes, a network that swallows what is sent (a database's pod or machine that is gone with its
address) holds whoever connects for two minutes, and whoever is connected for a quarter of an hour: TCP tries so long.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import URL, make_url

from hub.db.engine import network_limits

__all__ = ["QuickConnection", "engine_arguments"]

_CONNECT_S = 3
_UNHEARD_S = 5.0
_PAUSE = 4
# After an attempt nobody tries again for so many times as long as it took: the loop is held a fifth of the time.


class QuickConnection(sqlite3.Connection):
    """A connection whose commits do not wait for the disk."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        # Where there can be no such log (some network file systems), the answer names the journal that stays.
        self.execute("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = NORMAL")


def engine_arguments(url: str) -> dict[str, Any]:
    """Return what JupyterHub shall give SQLAlchemy's `create_engine` for this database (`JupyterHub.db_kwargs`)."""
    if url.startswith("sqlite"):
        return {"connect_args": {"check_same_thread": False, "factory": QuickConnection}}
    parsed = make_url(url)
    return {"creator": _connector(parsed)} if parsed.get_backend_name() == "postgresql" else {}


def _connector(url: URL) -> Callable[[], Any]:
    """Return what connects to PostgreSQL, within limits; what the operator wrote into the URL wins."""
    dialect = url.get_dialect()()
    driver: Any = url.get_dialect().import_dbapi()
    given, more = dialect.create_connect_args(url)
    not_before = 0.0

    def connect() -> Any:
        nonlocal not_before
        began = time.monotonic()
        if began < not_before:
            raise driver.OperationalError("the database did not answer a moment ago; it is soon tried again")
        try:
            return driver.connect(*given, **{**network_limits(_CONNECT_S, _UNHEARD_S), **more})
        except driver.OperationalError:
            now = time.monotonic()
            not_before = now + _PAUSE * (now - began)
            raise

    return connect
