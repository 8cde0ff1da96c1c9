"""JupyterHub's tables are brought to what it needs before its hub starts: by one at a time, and never by half."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.runtime.environment import EnvironmentContext
from jupyterhub import orm
from jupyterhub.dbutil import ALEMBIC_DIR
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from hub.config import _database
from hub.db import jupyterhub_tables, steps
from hub.db.installation import refuse_newer_jupyterhub
from hub.db.jupyterhub_tables import problem, upgrade
from hub.db.transaction import DatabaseAway
from hub.db.upgrade import UpgradeError
from hub.secret import ConfigError
from hub.settings import load
from tests.databases import LazyServer, program
from tests.hub.site import wait_for
from tests.hub.test_db_command import db

OLD = "3c2384c5aae1"
"""The version of the tables of JupyterHub 4."""

HEAD = "f460b0348206"
"""The newest version whose steps were read: each leaves the hub of before able to go on, as CONTRIBUTING.md asks."""

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    op.add_column("users", sa.Column("note{revision}", sa.Text()))
    {then}
"""


def make(engine: Engine, revision: str) -> None:
    """Make the tables as JupyterHub did at this version, with Ann and her server in them."""
    plan = steps.plan(Path(ALEMBIC_DIR))
    with engine.begin() as connection:
        orm.Base.metadata.create_all(connection)
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": plan.get_current_head()})

    def back(found: Any, context: Any) -> Any:
        return plan._downgrade_revs(revision, found)

    with (
        engine.connect() as connection,
        EnvironmentContext(steps.config(Path(plan.dir)), plan, fn=back, destination_rev=revision) as run,
    ):
        run.configure(connection=connection, transaction_per_migration=True)
        with run.begin_transaction():
            run.run_migrations()
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO users (id, name, admin, cookie_id) VALUES (1, 'ann', false, 'x')"))
        connection.execute(text("INSERT INTO spawners (id, user_id, name) VALUES (1, 1, 'work')"))


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    yield engine
    engine.dispose()


def columns(url: str, table: str = "users") -> set[str]:
    with opened(url) as engine:
        return {str(one["name"]) for one in inspect(engine).get_columns(table)}


def version(url: str) -> str | None:
    with opened(url) as engine, engine.connect() as connection:
        return steps.version(connection)


def people(url: str) -> list[tuple[str, str]]:
    rows = text("SELECT users.name, spawners.name FROM users JOIN spawners ON spawners.user_id = users.id")
    with opened(url) as engine, engine.connect() as connection:
        return [(str(one), str(other)) for one, other in connection.execute(rows)]


@pytest.fixture
def old(database_url: str) -> str:
    """The URL of a database that an older JupyterHub has left."""
    if database_url.startswith("sqlite"):
        Path(database_url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    with opened(database_url) as engine:
        make(engine, OLD)
    assert "user_info" not in columns(database_url)
    return database_url


def later(folder: Path, *then: str) -> Path:
    """The steps of a JupyterHub that is not there yet, with some more than today's."""
    scripts = folder / "later"
    shutil.copytree(ALEMBIC_DIR, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    before = HEAD
    for number, does in enumerate(then or ("pass",)):
        revision = f"900{number}"
        (scripts / "versions" / f"{revision}.py").write_text(NEXT.format(revision=revision, before=before, then=does))
        before = revision
    return scripts


def test_every_step_of_jupyterhub_was_read() -> None:
    """A newer JupyterHub may bring a step that the hub of before cannot live with: read it, then write its name here."""
    assert steps.newest(steps.plan(Path(ALEMBIC_DIR))) == HEAD


def test_tables_of_an_older_jupyterhub_are_those_of_now_and_keep_their_rows(old: str) -> None:
    said = problem(old) or ""
    assert f"of version {OLD}, and the one that is installed needs {HEAD}" in said
    done = upgrade(old)
    assert done is not None
    assert (done.before, done.after, version(old)) == (OLD, HEAD, HEAD)
    for name, table in orm.Base.metadata.tables.items():
        assert set(table.columns.keys()) == columns(old, name), name
    assert people(old) == [("ann", "work")]
    assert problem(old) is None
    again = upgrade(old)
    assert again is not None
    assert not again.changed


def test_the_old_file_is_kept_beside_the_changed_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.sqlite"
    with opened(url) as engine:
        make(engine, OLD)
    done = upgrade(url)
    assert done is not None
    assert done.backup == tmp_path / f"hub.sqlite.before-upgrade-from-{OLD}"
    with closing(sqlite3.connect(done.backup)) as kept:
        assert kept.execute("SELECT version_num FROM alembic_version").fetchall() == [(OLD,)]
        assert kept.execute("SELECT name FROM users").fetchall() == [("ann",)]


def test_what_jupyterhub_makes_itself_is_left_to_it(database_url: str) -> None:
    assert (upgrade(database_url), problem(database_url)) == (None, None)
    if database_url.startswith("sqlite"):
        assert not Path(database_url.removeprefix("sqlite:///")).exists()


def test_tables_of_a_newer_jupyterhub_are_refused_and_left_alone(old: str, tmp_path: Path) -> None:
    upgrade(old, scripts=later(tmp_path))
    with pytest.raises(UpgradeError, match=r"of version 9000, which JupyterHub .* does not know") as refused:
        upgrade(old)
    assert "armillary backup restore" in str(refused.value)
    assert (problem(old), jupyterhub_tables.newer(old)) == (str(refused.value), str(refused.value))
    assert version(old) == "9000"
    assert "note9000" in columns(old)


def stays_and_the_next_goes_on(old: str, scripts: Path) -> None:
    """Assert that step 9001 has left nothing, and is done by the next upgrade once it can be."""
    assert version(old) == "9000"
    assert "note9001" not in columns(old)
    (scripts / "versions" / "9001.py").write_text(NEXT.format(revision="9001", before="9000", then="pass"))
    done = upgrade(old, scripts=scripts)
    assert done is not None
    assert (done.before, done.after) == ("9000", "9001")
    assert people(old) == [("ann", "work")]


def test_a_step_that_fails_is_not_done_by_half(old: str, tmp_path: Path) -> None:
    scripts = later(tmp_path, "pass", "op.execute('UPDATE no_such_table SET x = 1')")
    with pytest.raises(DatabaseAway, match="no_such_table"):
        upgrade(old, scripts=scripts)
    stays_and_the_next_goes_on(old, scripts)


UPGRADE = (
    "import sys; from pathlib import Path; from hub.db.jupyterhub_tables import upgrade\n"
    "print('ready', flush=True); sys.stdin.readline()\n"
    "print(upgrade(sys.argv[1], scripts=Path(sys.argv[2])).changed)"
)


def start(url: str, scripts: Path) -> subprocess.Popen[str]:
    process = program(UPGRADE, url, str(scripts))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_of_several_at_once_one_does_it(old: str) -> None:
    processes = [start(old, Path(ALEMBIC_DIR)) for _ in range(2)]
    for process in processes:
        go(process)
    assert sorted(process.communicate(timeout=60)[0] for process in processes) == ["False\n", "True\n"]
    assert people(old) == [("ann", "work")]


def test_one_that_is_killed_in_a_step_leaves_it_to_the_next(old: str, tmp_path: Path) -> None:
    reached = tmp_path / "reached"
    wait = f"import pathlib, time; pathlib.Path({str(reached)!r}).touch(); time.sleep(600)"
    scripts = later(tmp_path, "pass", wait)
    process = start(old, scripts)
    go(process)
    wait_for(reached.exists, "the step", 60, 0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    stays_and_the_next_goes_on(old, scripts)


@contextmanager
def in_use(url: str) -> Iterator[Connection]:
    """Read the table of people in a transaction that stays open, as a hub may."""
    with opened(url) as engine, engine.connect() as connection:
        connection.execute(text("SELECT * FROM users")).all()
        yield connection


@pytest.mark.hub
def test_a_hub_that_reads_the_tables_goes_on_and_the_steps_wait(postgres_server: LazyServer) -> None:
    server = postgres_server.get()
    url = server.fresh_database()
    with opened(url) as engine:
        make(engine, OLD)
    with in_use(url):
        with pytest.raises(DatabaseAway, match="Stop the hub"):
            upgrade(url, wait_s=0.0)
        process = start(url, Path(ALEMBIC_DIR))
        go(process)
        waiting = text(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
            "WHERE datname = current_database() AND NOT granted AND mode = 'AccessExclusiveLock'"
        )
        with opened(url) as other, other.connect() as connection:
            for _ in range(2):  # it gives way, and tries again
                wait_for(lambda: _count(connection, waiting) == 1, "a step to wait", 60, 0.02)
                began = time.monotonic()
                connection.execute(text("SELECT * FROM users")).all()
                connection.rollback()
                print(f"a reader waited for {time.monotonic() - began:.1f} s", flush=True)
        assert process.poll() is None
    assert process.communicate(timeout=60)[0] == "True\n"
    assert (version(url), people(url)) == (HEAD, [("ann", "work")])
    server.drop(url)


def _count(connection: Connection, question: Any) -> int:
    found = int(connection.scalar(question) or 0)
    connection.rollback()
    return found


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("postgresql://me:se%40cret@db/hub", "postgresql+psycopg://me:se%40cret@db/hub"),
        ("sqlite:////srv/hub.sqlite", "sqlite:////srv/hub.sqlite"),
        ("sqlite://", None),
        ("mysql+pymysql://me@db/hub", None),
    ],
)
def test_which_database_is_meant(given: str, address: str | None, tmp_path: Path) -> None:
    settings = load(None, {"ARMILLARY_HUB__DATABASE_URL": given, "ARMILLARY_STATE_DIR": str(tmp_path)})
    assert jupyterhub_tables.address(settings) == address


def test_the_command_does_both_databases_and_refuses_before_it_changes_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hub.sqlite"
    environ = {"ARMILLARY_HUB__DATABASE_URL": url, "ARMILLARY_STATE_DIR": str(tmp_path / "own")}
    with opened(url) as engine:
        make(engine, OLD)
    done = db("upgrade", folder=tmp_path, **environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Made the tables in the SQLite file" in done.stdout
    assert f"Brought JupyterHub's tables from version {OLD} to {HEAD}." in done.stdout

    with opened(url) as engine, engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'ffff'"))
    shutil.rmtree(tmp_path / "own")
    for action in ("check", "upgrade"):
        refused = db(action, folder=tmp_path, **environ)
        assert (refused.returncode, refused.stderr) == (1, "")
        assert "of version ffff" in refused.stdout
    assert not (tmp_path / "own" / "armillary.sqlite").exists(), "nothing was changed"


def test_a_hub_does_not_start_on_tables_of_a_newer_one(tmp_path: Path) -> None:
    environ = {"ARMILLARY_STATE_DIR": str(tmp_path), "ARMILLARY_HUB__DATABASE_URL": f"sqlite:///{tmp_path}/hub.sqlite"}
    with opened(f"sqlite:///{tmp_path}/hub.sqlite") as engine:
        make(engine, OLD)
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = 'ffff'"))
    settings = load(None, environ)
    with pytest.raises(UpgradeError, match=r"of version ffff.*a newer one made them"):
        refuse_newer_jupyterhub(settings)
    with pytest.raises(ConfigError, match="a newer one made them"):
        _database(settings)
    assert not settings.paths.database.exists(), "nothing was changed"
