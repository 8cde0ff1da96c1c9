"""JupyterHub's own SQLite: commits that do not wait, in a file that stays whole."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from jupyterhub import orm
from sqlalchemy import text

from hub.db.jupyterhub import QuickConnection, engine_arguments

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


def test_other_databases_are_opened_as_they_come() -> None:
    assert engine_arguments("postgresql+psycopg://hub@db/jupyterhub") == {}
