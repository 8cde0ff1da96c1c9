"""JupyterHub's own database: commits that do not wait, in a file that stays whole; PostgreSQL that holds nobody long."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from jupyterhub import orm
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from hub.db.jupyterhub import QuickConnection, engine_arguments
from tests.databases import LazyServer

# Commits one user after the other, and says so; killed by the test in the middle.
WRITER = """
import sys
from jupyterhub import orm
from hub.db.jupyterhub import engine_arguments
url = sys.argv[1]
db = orm.new_session_factory(url, **engine_arguments(url))()
n = 0
while True:
    n += 1
    db.add(orm.User(name=f"user-{n}"))
    db.commit()
    print(n, flush=True)
"""


def test_jupyterhub_opens_its_database_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.sqlite"
    with orm.new_session_factory(url, **engine_arguments(url))() as session:
        assert session.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert session.execute(text("PRAGMA synchronous")).scalar() == 1
        assert session.execute(text("PRAGMA foreign_keys")).scalar() == 1
        session.add(orm.User(name="ada"))
        session.commit()
    with orm.new_session_factory(url, **engine_arguments(url))() as session:
        assert [user.name for user in session.query(orm.User)] == ["ada"]


def test_an_older_file_is_taken_over(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.sqlite"
    with orm.new_session_factory(url)() as session:
        session.add(orm.User(name="ada"))
        session.commit()
    with orm.new_session_factory(url, **engine_arguments(url))() as session:
        assert [user.name for user in session.query(orm.User)] == ["ada"]


def test_what_was_committed_outlives_a_hub_that_is_killed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.sqlite"
    said = 0
    with subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            said = int(line)
            if said == 50:
                writer.send_signal(signal.SIGKILL)

    with closing(sqlite3.connect(tmp_path / "hub.sqlite", factory=QuickConnection)) as found:
        assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        [number] = found.execute("SELECT count(*) FROM users").fetchone()
    assert number in (said, said + 1)


@contextmanager
def swallowing() -> Iterator[int]:
    """A port at which everything that is sent is lost: nobody takes what waits there, and more has no room."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):  # Linux drops whoever comes to a full queue
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.timeout(60)  # TCP itself would try for over two minutes
def test_a_network_that_swallows_everything_holds_the_hub_for_seconds_and_not_at_each_question() -> None:
    with swallowing() as port:
        url = f"postgresql+psycopg://hub:secret@127.0.0.1:{port}/jupyterhub?connect_timeout=2"
        engine = create_engine(url, **engine_arguments(url))
        with pytest.raises(OperationalError, match="timeout"):
            engine.connect()
        with pytest.raises(OperationalError, match="soon tried again"):
            engine.connect()
    while True:  # it answers again, here by refusing
        with pytest.raises(OperationalError, match=r"soon tried again|refused") as said:
            engine.connect()
        if "refused" in str(said.value):
            break
        time.sleep(0.5)


def test_a_database_that_refuses_at_once_is_asked_each_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    url = f"postgresql+psycopg://hub@127.0.0.1:{port}/jupyterhub"
    engine = create_engine(url, **engine_arguments(url))
    for _ in range(3):
        with pytest.raises(OperationalError, match="refused"):
            engine.connect()
        time.sleep(0.2)


@pytest.fixture
def postgres_url(postgres_server: LazyServer) -> Iterator[str]:
    server = postgres_server.get()
    url = server.fresh_database()
    yield url
    server.drop(url)


@pytest.mark.hub
def test_jupyterhub_uses_postgresql_within_limits(postgres_url: str) -> None:
    sessions = orm.new_session_factory(postgres_url, **engine_arguments(postgres_url))
    with sessions() as session:
        session.add(orm.User(name="ada"))
        session.commit()
        limits = session.connection().connection.driver_connection.info.get_parameters()
        engine = session.get_bind().engine
    engine.dispose()
    assert {name: limits[name] for name in ("connect_timeout", "tcp_user_timeout", "keepalives_idle")} == {
        "connect_timeout": "3",
        "tcp_user_timeout": "5000",
        "keepalives_idle": "5",
    }


@pytest.mark.hub
def test_what_the_url_says_of_limits_wins(postgres_url: str) -> None:
    url = f"{postgres_url}&connect_timeout=20"
    engine = create_engine(url, **engine_arguments(url))
    with engine.connect() as connection:
        assert connection.connection.driver_connection.info.get_parameters()["connect_timeout"] == "20"  # type: ignore[union-attr]
    engine.dispose()
