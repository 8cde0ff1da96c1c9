"""Transactions: one writer at a time, readers beside it, and errors that are the same for every database.

What several processes decide together (who leads, who gets the last card) is decided by reading and then writing in
one transaction that nobody else can write beside. SQLite has one writer by itself (BEGIN IMMEDIATE). On PostgreSQL an
advisory lock makes the writers queue: unlike SERIALIZABLE no work is done twice when many want the same thing at once,
and a reader never waits. All of this blocks: from an event loop call it in a thread (`asyncio.to_thread`).

A process that is stopped (SIGSTOP) between BEGIN and COMMIT keeps SQLite's other writers waiting until it goes on or
ends; PostgreSQL ends its transaction after some seconds.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from hub.db import plans, writing
from hub.db.engine import TURN, WAIT_S, WRITES, shown

__all__ = ["DatabaseAway", "read", "translated", "write"]

T = TypeVar("T")

_ATTEMPTS = 5
_LOOKS_FOR_S = 0.05
# PostgreSQL (Appendix A, error codes): serialization_failure, deadlock_detected. Both say: do it again.
_AGAIN = ("40001", "40P01", *plans.AGAIN)


class DatabaseAway(OSError):
    """The database did not do what was asked: not reached, locked too long, full, damaged, not upgraded.

    The text names the database and the cause, and holds no password.
    """


def write(engine: Engine, work: Callable[[Connection], T], *, wait_s: float = WAIT_S) -> T:
    """Run `work` in a transaction that nobody else writes beside, and return its result once that is durable.

    If `work` raises, nothing of it is written. It may be run again after a deadlock, so it must do nothing outside of
    the database.

    Parameters
    ----------
    wait_s
        How long to wait for other writers.

    Raises
    ------
    DatabaseAway
        Usually nothing was written. If the connection broke during the commit it is not known whether it was, so what
        is written should be safe to ask for twice.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with engine.connect() as connection:
                connection.execution_options(**{WRITES: True})
                if engine.dialect.name == "sqlite":
                    with _its_turn(engine, wait_s) as left_s, _begun(connection, left_s):
                        return work(connection)
                with writing.begin(connection, wait_s), connection.begin():
                    done = work(connection)
                    writing.end(connection)
                    return done
        except SQLAlchemyError as error:
            if attempt == _ATTEMPTS or not _again(error):
                raise translated(engine, error) from error
        # Those that met each other shall not meet again at the same moment.
        time.sleep(random.uniform(0.005, 0.02) * 2**attempt)  # noqa: S311
    raise AssertionError("unreachable")


def read(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Run `work` in a transaction that sees one state of the database; it must not write.

    Raises
    ------
    DatabaseAway
        The database did not answer.
    """
    try:
        return _read(engine, work)
    except SQLAlchemyError as error:
        if not _again(error):
            raise translated(engine, error) from error
    with _same_errors(engine):
        return _read(engine, work)


def _read(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin():
            return work(connection)


@contextmanager
def _same_errors(engine: Engine) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise translated(engine, error) from error


@contextmanager
def _its_turn(engine: Engine, wait_s: float) -> Iterator[float]:
    """Let the writers of this process pass one after the other, as they come; yields how long is left to wait.

    SQLite's own waiters look again after a pause, whoever has waited longest: beside a process that has many of them
    those of another one would hardly ever find it free.
    """
    began = time.monotonic()
    mine: threading.Lock = engine.get_execution_options()[TURN]
    if not mine.acquire(timeout=wait_s):
        raise DatabaseAway(f"{shown(engine)}: database is locked: this process has been writing for {wait_s:g} s")
    try:
        yield max(0.0, wait_s - (time.monotonic() - began))
    finally:
        mine.release()


@contextmanager
def _begun(connection: Connection, wait_s: float) -> Iterator[None]:
    """Begin as soon as no other process writes. SQLite's own pauses grow to 0.1 s; here they stay below 0.02 s, which
    one waiter in each process can afford."""
    deadline = time.monotonic() + wait_s
    transaction = None
    _patience(connection, _LOOKS_FOR_S)
    try:
        while transaction is None:
            try:
                transaction = connection.begin()
            except OperationalError as error:
                if _is_busy(error) and time.monotonic() < deadline:
                    continue
                raise
    finally:
        _patience(connection, WAIT_S)
    with transaction:
        yield


def _patience(connection: Connection, wait_s: float) -> None:
    """Set how long SQLite waits for a lock; on the bare connection, before there is a transaction."""
    bare = connection.connection.dbapi_connection
    if bare is not None:
        bare.cursor().execute(f"PRAGMA busy_timeout = {int(wait_s * 1000)}")


def _is_busy(error: OperationalError) -> bool:
    # The primary code is in the lowest byte (SQLite, "Result and Error Codes").
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _again(error: SQLAlchemyError) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _AGAIN


def translated(engine: Engine, error: SQLAlchemyError) -> Exception:
    """Return the error that callers see: their own mistakes as they are, all others as DatabaseAway."""
    if isinstance(error, PoolTimeoutError):
        return DatabaseAway(f"{shown(engine)}: all connections are busy")
    if isinstance(error, DBAPIError) and not isinstance(error, IntegrityError):
        said = " ".join(str(error.orig).split())
        return DatabaseAway(f"{shown(engine)}: {said}")
    return error
