"""The tables are brought to what a version needs: once, by one at a time, all or nothing, and never backwards."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, insert, inspect, select, text

from hub.db.clock import Now
from hub.db.engine import connect
from hub.db.tables import metadata, uids
from hub.db.transaction import DatabaseAway, read, write
from hub.db.upgrade import SCRIPTS, UpgradeError, problem, upgrade
from tests.databases import LazyServer, program

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    op.add_column("uids", sa.Column("note{revision}", sa.Text()))
    op.execute("{then}")
"""


HEAD = sorted(step.name for step in (SCRIPTS / "versions").glob("0*.py"))[-1][:4]
"""The newest version there is."""


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The migrations of a later version, with one step more."""
    scripts = tmp_path / "100% later"
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    add_step(scripts, "9001", HEAD)
    return scripts


def add_step(scripts: Path, revision: str, before: str, then: str = "UPDATE uids SET uid = uid") -> None:
    step = NEXT.format(revision=revision, before=before, then=then)
    (scripts / "versions" / f"{revision}_next.py").write_text(step)


def columns(engine: Engine) -> set[str]:
    return read(engine, lambda connection: {str(column["name"]) for column in inspect(connection).get_columns("uids")})


def give_ann(connection: Connection) -> None:
    connection.execute(insert(uids).values(uid=1, user_name="ann", given_at=Now()))


def test_the_migrations_make_exactly_the_tables_that_the_program_uses(database: Engine) -> None:
    def compare(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    assert read(database, compare) == []
    constraints = {
        name: {str(check["name"]) for check in read(database, lambda c, n=name: inspect(c).get_check_constraints(n))}
        for name in metadata.tables
    }
    assert constraints["reservations"] == {"ck_reservations_count_not_negative"}


def test_an_upgrade_is_said_once_and_may_be_asked_for_again(database_url: str) -> None:
    engine = connect(database_url)
    assert "armillary db upgrade" in (problem(engine) or "")
    first = upgrade(engine)
    assert (first.before, first.changed, first.backup) == (None, True, None)
    assert problem(engine) is None
    write(engine, give_ann)
    again = upgrade(engine)
    assert (again.before, again.after, again.changed) == (first.after, first.after, False)
    assert read(engine, lambda connection: connection.scalars(select(uids.c.user_name)).all()) == ["ann"]
    engine.dispose()


def test_several_processes_upgrade_at_once(database_url: str) -> None:
    text = (
        "import sys; from hub.db.engine import connect; from hub.db.upgrade import upgrade\n"
        "print('ready', flush=True); sys.stdin.readline(); print(upgrade(connect(sys.argv[1])).changed)"
    )
    processes = [program(text, database_url) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = sorted(process.communicate(timeout=60)[0] for process in processes)
    assert answers == ["False\n", "False\n", "False\n", "True\n"]
    engine = connect(database_url)
    assert problem(engine) is None
    engine.dispose()


def test_a_step_of_a_later_version_keeps_what_is_there(database: Engine, later: Path) -> None:
    write(database, give_ann)
    assert f"of version {HEAD}, and this program needs 9001" in (problem(database, scripts=later) or "")
    done = upgrade(database, scripts=later)
    assert (done.before, done.after) == (HEAD, "9001")
    assert "note9001" in columns(database)
    assert read(database, lambda connection: connection.scalars(select(uids.c.user_name)).all()) == ["ann"]


def test_a_database_of_a_later_version_is_refused_and_left_alone(database: Engine, later: Path) -> None:
    upgrade(database, scripts=later)
    with pytest.raises(UpgradeError, match="of version 9001, which this program does not know"):
        upgrade(database)
    said = problem(database) or ""
    assert "a newer Armillary made them" in said
    assert "restore a backup" in said
    assert "note9001" in columns(database)


def test_a_step_that_fails_leaves_everything_as_it_was(database: Engine, later: Path) -> None:
    write(database, give_ann)
    add_step(later, "9002", "9001", then="UPDATE no_such_table SET x = 1")
    with pytest.raises(DatabaseAway, match="no_such_table"):
        upgrade(database, scripts=later)
    assert problem(database) is None  # still what the present version needs
    assert "note9001" not in columns(database)
    (later / "versions" / "9002_next.py").unlink()
    assert upgrade(database, scripts=later).after == "9001"


def test_a_sqlite_file_is_kept_as_it_was_beside_the_changed_one(tmp_path: Path, later: Path) -> None:
    file = tmp_path / "state" / "armillary.sqlite"
    engine = connect(f"sqlite:///{file}")
    upgrade(engine)
    write(engine, give_ann)
    backup = upgrade(engine, scripts=later).backup
    engine.dispose()
    assert backup == file.with_name(f"armillary.sqlite.before-upgrade-from-{HEAD}")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with closing(sqlite3.connect(backup)) as kept:
        assert kept.execute("SELECT user_name FROM uids").fetchall() == [("ann",)]
        assert "note9001" not in [row[1] for row in kept.execute("PRAGMA table_info(uids)")]
    restored = connect(f"sqlite:///{backup}")
    assert problem(restored) is None
    restored.dispose()
    assert not list(file.parent.glob("*.partial*"))


def test_a_file_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'state' / 'a.sqlite'}")
    assert problem(engine) == (
        f"There is no database yet at {tmp_path}/state/a.sqlite. Make it with `armillary db upgrade`."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_a_problem_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_bytes(b"not a database" * 1000)
    assert "file is not a database" in (problem(connect(f"sqlite:///{tmp_path / 'a.sqlite'}")) or "")


@pytest.mark.hub
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_postgresql_database_that_is_not_unicode_is_refused(encoding: str, postgres_server: LazyServer) -> None:
    server = postgres_server.get()
    url = server.fresh_database(f"TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
    engine = connect(url)
    with pytest.raises(UpgradeError, match=encoding):
        upgrade(engine)
    assert read(engine, lambda connection: inspect(connection).get_table_names()) == []
    engine.dispose()
    server.drop(url)


@pytest.mark.hub
def test_a_long_step_is_not_ended_by_the_limits_of_daily_work(postgres_server: LazyServer, later: Path) -> None:
    server = postgres_server.get()
    url = server.fresh_database()
    engine = connect(f"{url}&options=-c%20statement_timeout%3D300ms")
    add_step(later, "9002", "9001", then="SELECT pg_sleep(0.5)")
    assert upgrade(engine, scripts=later).after == "9002"
    with pytest.raises(DatabaseAway, match="timeout"):
        read(engine, lambda connection: connection.execute(text("SELECT pg_sleep(0.5)")))
    engine.dispose()
    server.drop(url)
