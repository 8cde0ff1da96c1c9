"""Connections to the database, with limits on every wait.

SQLite on one machine, PostgreSQL where several machines take part. On both, a transaction is what its begin says:
Python's sqlite3 begins one late and silently unless it is told not to (SQLAlchemy's documentation of pysqlite,
"Enabling Non-Legacy SQLite Transactional Modes"), so it is kept from doing that, and BEGIN is said here.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from hub.db import writing
from hub.db.address import KINDS, AddressError

__all__ = ["TURN", "WAIT_S", "WRITES", "connect", "network_limits", "shown", "sqlite_file"]

WAIT_S = 10.0
"""How long a writer waits for the others, in seconds; one transaction takes some milliseconds."""

WRITES = "armillary_writes"
"""Execution option: the transaction that begins is going to write."""

TURN = "armillary_turn"
"""Execution option of a SQLite engine: a lock that its writers in this process take, one after the other."""

_LOG_PAGES = 10_000
"""When a SQLite writer copies the log itself, in pages of 4 KiB: not before `hub.db.checkpoint` has had its chance."""

_STATEMENT_S = 15.0
_IDLE_S = 5.0
_CONNECT_S = 5
_BY_ITSELF = 1 << 31


def connect(url: str) -> Engine:
    """Return an engine for this database; nothing is opened before the first transaction.

    It may be used by many threads, and in a forked child. A SQLite file and its folder are made at the first use,
    readable by their owner only.

    Raises
    ------
    AddressError
        It is none that can be used; the text does not repeat it, because it may hold a password.
    """
    parsed = _parse(url)
    engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)
    _forget_in_children(engine)
    return engine


def sqlite_file(engine: Engine) -> Path | None:
    """Return the file of a SQLite database; None for PostgreSQL."""
    return Path(engine.url.database or "") if engine.dialect.name == "sqlite" else None


def shown(engine: Engine) -> str:
    """Return a name of the database for people, without user or password."""
    url = engine.url
    if engine.dialect.name == "sqlite":
        return f"the SQLite file {url.database}"
    host = url.host or url.query.get("host") or "this machine"
    port = f":{url.port}" if url.port else ""
    return f"the PostgreSQL database {url.database} at {host}{port}"


def _parse(url: str) -> URL:
    if not url.startswith(KINDS):
        raise AddressError(f"the database's URL must begin with {' or '.join(KINDS)}")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise AddressError(
            "the database's URL cannot be read; special characters in user and password are written as %XX"
        ) from None
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or not Path(parsed.database).is_absolute():
            raise AddressError(
                "a SQLite database is named by its absolute path, sqlite:////with/four/slashes.sqlite: several "
                "processes open it, from different folders"
            )
    elif not parsed.database:
        raise AddressError("the URL of a PostgreSQL database ends with the database's name: …//USER:PASSWORD@HOST/NAME")
    return parsed


def _sqlite(url: URL) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": WAIT_S, "isolation_level": None},
        pool_timeout=WAIT_S,
        execution_options={TURN: threading.Lock()},
    )

    @event.listens_for(engine, "do_connect")
    def _private(dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
        file = Path(url.database or "")
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives the files beside it (-wal, -shm) the same mode.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, record: Any) -> None:
        _use_wal(connection)
        connection.execute("PRAGMA foreign_keys = ON")
        # What was promised (a uid, a reservation) must still be promised after a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _use_wal(connection: sqlite3.Connection) -> None:
    """Let readers and the writer work side by side; kept in the file, so only the first ever has to change it.

    While two do so at once SQLite says "locked" to one of them at once, whatever its timeout is.
    """
    deadline = time.monotonic() + WAIT_S
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _postgresql(url: URL) -> Engine:
    limits = {
        "statement_timeout": f"{_STATEMENT_S:.0f}s",
        "lock_timeout": f"{WAIT_S:.0f}s",
        # A writer that was stopped in the middle, or whose machine has gone, must not keep the others waiting.
        "idle_in_transaction_session_timeout": f"{_IDLE_S:.0f}s",
        # A writer has to see what those before it have written: each statement what there is when it begins.
        "default_transaction_isolation": r"read\ committed",
        "timezone": "UTC",
    }
    own = url.query.get("options", "")
    words = [f"-c {name}={value}" for name, value in limits.items()]
    arguments: dict[str, Any] = {
        "application_name": "armillary",
        "client_encoding": "utf8",
        **network_limits(_CONNECT_S, _STATEMENT_S),
    }
    # What the operator wrote into the URL wins.
    arguments = {name: value for name, value in arguments.items() if name not in url.query}
    arguments["options"] = " ".join([*words, own if isinstance(own, str) else " ".join(own)]).strip()
    arguments["prepare_threshold"] = _threshold(url)
    engine = create_engine(
        url.difference_update_query(["prepare_threshold"]),
        connect_args=arguments,
        pool_pre_ping=True,
        pool_timeout=WAIT_S,
        pool_recycle=1800,
    )
    writing.see_to(engine)
    return engine


def _threshold(url: URL) -> int | None:
    """Return after how many times psycopg prepares a statement on the server; None: it never does.

    By itself it prepares none, only `hub.db.prepared` does: the others are asked seldom, and some differ each time.
    """
    asked = url.query.get("prepare_threshold")
    if asked is None:
        return _BY_ITSELF
    if asked != "none":
        raise AddressError("prepare_threshold in the database's URL can only be none: prepare nothing")
    return None


def network_limits(connect_s: int, unheard_s: float) -> dict[str, int]:
    """Return how long PostgreSQL's client waits for a network that swallows what is sent, as libpq calls it.

    Parameters
    ----------
    connect_s
        For a connection to be made, in seconds; at least 2.
    unheard_s
        For what was sent to be heard of, in seconds.
    """
    return {
        "connect_timeout": connect_s,
        "tcp_user_timeout": int(unheard_s * 1000),
        "keepalives_idle": 5,
        "keepalives_interval": 5,
        "keepalives_count": 2,
    }


def _forget_in_children(engine: Engine) -> None:
    """See that a forked child opens connections of its own: two processes cannot share one."""
    known = weakref.ref(engine)

    def forget() -> None:
        alive = known()
        if alive is not None:
            alive.dispose(close=False)
            alive.update_execution_options(**{TURN: threading.Lock()})  # a thread that is not here may have held it

    os.register_at_fork(after_in_child=forget)
