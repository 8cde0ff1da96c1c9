"""Armillary's database for tests: the same test on SQLite and on PostgreSQL.

A folder's conftest.py takes the fixtures by name:

    from tests.databases import database, database_url, postgres_server

`database_url` names an empty database of the test's own, `database` is an engine of one with its tables made. The
PostgreSQL half of a test is in the tier `hub`, since it needs Debian's package.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from hub.db.engine import WAIT_S, connect
from hub.db.upgrade import upgrade
from tests.lab import postgres

__all__ = ["LazyServer", "database", "database_url", "postgres_server", "program"]

ROOT = Path(__file__).resolve().parents[1]


class LazyServer:
    """The session's PostgreSQL: started when the first test needs it."""

    def __init__(self) -> None:
        self._running = postgres.running()
        self._server: postgres.Server | None = None

    def get(self) -> postgres.Server:
        """The server, running."""
        if self._server is None:
            self._server = self._running.__enter__()
        return self._server

    def end(self) -> None:
        """Ends it, if it was ever started."""
        if self._server is not None:
            self._running.__exit__(None, None, None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[LazyServer]:
    """The session's PostgreSQL; `.get()` starts it at the first call."""
    lazy = LazyServer()
    yield lazy
    lazy.end()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.hub)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path, postgres_server: LazyServer) -> Iterator[str]:
    """The URL of an empty database of this test's own, once SQLite, once PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'state' / 'armillary.sqlite'}"
        return
    server = postgres_server.get()
    url = server.fresh_database()
    yield url
    server.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    """An engine of a database with its tables made."""
    engine = connect(database_url)
    upgrade(engine)
    yield engine
    # A thread that a test has left may not be done; what it gives back to a pool after its end is never closed.
    deadline = time.monotonic() + WAIT_S
    while engine.pool.checkedout() and time.monotonic() < deadline:  # type: ignore[attr-defined]
        time.sleep(0.01)
    event.listen(engine, "checkin", _closed)  # one that comes later still
    engine.dispose()


def _closed(connection: object, record: ConnectionPoolEntry) -> None:
    """Closed as SQLAlchemy closes it: the thread may come once more, and must not get a closed one."""
    if connection is not None:
        record.invalidate()


def program(text: str, *arguments: str) -> subprocess.Popen[str]:
    """Starts a Python process that runs `text` with our packages in reach; its words are in sys.argv[1:]."""
    return subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
