"""SQLite's write-ahead log, copied into the file beside the writers.

By itself SQLite lets the writer whose commit makes the log long copy it (its documentation, "Write-Ahead Logging",
section 3.1): one commit in some dozens takes several times as long, and somebody waits for it. The controller does it
instead, every second; without one, and where nobody ever pauses, writers do when the log is ten times as long as by
SQLite's default.

Only what is new is copied: SQLite before 3.51.3 may lose commits when a log that is wholly copied already is to be
copied in the moment in which a writer begins it anew (same page, "The WAL-Reset Bug"). While something is left to copy,
no writer does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from hub.db.engine import sqlite_file
from hub.db.transaction import translated

__all__ = ["EVERY_S", "copying", "follow"]

EVERY_S = 1.0
"""How often, in seconds: of a second's decisions at full speed the log has some 10 MB."""

_COPY = "PRAGMA wal_checkpoint(PASSIVE)"
_VERSION = "PRAGMA data_version"


@contextlib.contextmanager
def copying(engine: Engine) -> Iterator[Callable[[], bool]]:
    """Yield what copies all that was committed since it last did, without waiting for anybody.

    It returns whether nothing is left: what a reader still needs is. On PostgreSQL, which does so itself, there never
    is. It may be called from any thread, but from one at a time.

    Raises
    ------
    DatabaseAway
        The file cannot be opened, read or written; also when what is yielded is called.
    """
    if sqlite_file(engine) is None:
        yield lambda: True
        return
    with _told(engine):
        connection = engine.raw_connection()  # one of SQLAlchemy's would begin a transaction
    try:
        cursor: Any = connection.cursor()

        def version() -> int:
            """Return a number that every commit of another connection changes, and nothing else."""
            return int(cursor.execute(_VERSION).fetchone()[0])

        with _told(engine):
            known: int | None = version()

        def copy() -> bool:
            nonlocal known
            with _told(engine):
                if known == version():
                    return True
                busy, pages, copied = cursor.execute(_COPY).fetchone()
                known = version() if busy or pages == copied else None
                return known is not None

        yield copy
    finally:
        connection.close()


async def follow(engine: Engine, epoch: int, stop: asyncio.Event, every_s: float = EVERY_S) -> None:
    """Copy again and again until `stop` is set; a disk that fails is said by whoever wants to write."""
    while not stop.is_set():
        with contextlib.suppress(OSError):
            await _follow(engine, stop, every_s)
        await _pause(stop, every_s)


async def _follow(engine: Engine, stop: asyncio.Event, every_s: float) -> None:
    with contextlib.ExitStack() as stack:
        copy = await asyncio.to_thread(stack.enter_context, copying(engine))
        while not stop.is_set():
            await asyncio.to_thread(copy)
            # Only a SQLite file has anything to copy.
            await _pause(stop, every_s if sqlite_file(engine) else None)


async def _pause(stop: asyncio.Event, seconds: float | None) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


@contextlib.contextmanager
def _told(engine: Engine) -> Iterator[None]:
    """Let errors of the driver be told as those of every other use of the database."""
    try:
        yield
    except engine.dialect.loaded_dbapi.Error as error:
        raise translated(engine, DBAPIError(_COPY, None, error)) from error
    except SQLAlchemyError as error:
        raise translated(engine, error) from error
