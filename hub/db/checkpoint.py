"""SQLite's write-ahead log, copied into the file beside the writers.

By itself SQLite lets the writer whose commit makes the log long copy it (its documentation, "Write-Ahead Logging",
section 3.1): one commit in some dozens takes several times as long, and somebody waits for it. The controller does it
instead, every second; should there be none, writers do when the log is ten times as long as by SQLite's default.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from hub.db.engine import sqlite_file
from hub.db.transaction import translated

__all__ = ["EVERY_S", "checkpoint", "follow"]

EVERY_S = 1.0
"""How often, in seconds: of a second's decisions at full speed the log has some 10 MB."""

_COPY = "PRAGMA wal_checkpoint(PASSIVE)"


def checkpoint(engine: Engine) -> int:
    """Copy what can be copied without waiting for anybody, and return how many pages of the log are left to copy.

    Those that a reader or a writer still needs are left. On PostgreSQL, which does so itself, nothing is done.

    Raises
    ------
    DatabaseAway
        The file cannot be opened or written.
    """
    if sqlite_file(engine) is None:
        return 0
    try:
        # One of SQLAlchemy's connections would begin a transaction.
        with contextlib.closing(engine.raw_connection()) as connection:
            cursor: Any = connection.cursor()
            cursor.execute(_COPY)
            _, pages, copied = cursor.fetchone()
    except engine.dialect.loaded_dbapi.Error as error:
        raise translated(engine, DBAPIError(_COPY, None, error)) from error
    except SQLAlchemyError as error:
        raise translated(engine, error) from error
    return int(pages) - int(copied)


async def follow(engine: Engine, epoch: int, stop: asyncio.Event, every_s: float = EVERY_S) -> None:
    """Copy again and again until `stop` is set; a disk that fails is said by whoever wants to write."""
    while not stop.is_set():
        with contextlib.suppress(OSError):
            await asyncio.to_thread(checkpoint, engine)
        with contextlib.suppress(TimeoutError):
            # Only a SQLite file has anything to copy.
            await asyncio.wait_for(stop.wait(), every_s if sqlite_file(engine) else None)
