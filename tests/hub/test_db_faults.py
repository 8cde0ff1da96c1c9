"""The database is killed, cut off, full, damaged or locked: nothing is half written, and it goes on by itself."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, insert, select, text

from hub.db.clock import Now
from hub.db.engine import connect
from hub.db.tables import uids
from hub.db.transaction import DatabaseAway, read, write
from hub.db.upgrade import upgrade
from tests.databases import LazyServer, program

# Writes a row and stays in the middle of the transaction.
STAYS = """
import sys, time
from sqlalchemy import insert
from hub.db.clock import Now
from hub.db.engine import connect
from hub.db.tables import uids
from hub.db.transaction import write
def work(connection):
    connection.execute(insert(uids).values(uid=1, user_name="half", given_at=Now()))
    print("inside", flush=True)
    sys.stdin.readline()
write(connect(sys.argv[1]), work)
print("written", flush=True)
"""


def give(connection: Connection, name: str, uid: int) -> None:
    connection.execute(insert(uids).values(uid=uid, user_name=name, given_at=Now()))


def names(engine: Engine) -> set[str]:
    return set(read(engine, lambda connection: connection.scalars(select(uids.c.user_name)).all()))


def in_the_middle(url: str) -> subprocess.Popen[str]:
    process = program(STAYS, url)
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate()


# --- both --------------------------------------------------------------------------------------------------------


def test_a_writer_that_is_killed_in_the_middle_leaves_nothing(database: Engine, database_url: str) -> None:
    process = in_the_middle(database_url)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    write(database, lambda connection: give(connection, "next", 1))
    assert names(database) == {"next"}


def test_a_writer_that_takes_long_holds_the_others_off_and_then_they_go_on(database: Engine, database_url: str) -> None:
    process = in_the_middle(database_url)
    with pytest.raises(DatabaseAway):
        write(database, lambda connection: give(connection, "next", 2), wait_s=0.2)
    assert names(database) == set()  # who only reads does not wait
    assert process.communicate("\n", timeout=60)[0] == "written\n"
    write(database, lambda connection: give(connection, "next", 2))
    assert names(database) == {"half", "next"}


def test_tables_that_are_not_there_are_said_in_words(database_url: str) -> None:
    engine = connect(database_url)
    with pytest.raises(DatabaseAway, match="uids"):
        names(engine)
    engine.dispose()


# --- SQLite ------------------------------------------------------------------------------------------------------


def test_a_full_disk_writes_nothing_and_room_again_lets_it_go_on(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'a.sqlite'}")
    upgrade(engine)
    engine.dispose()
    pages = read(engine, lambda connection: connection.scalar(text("PRAGMA page_count"))) or 0
    engine.dispose()
    limit = [pages + 2]

    @event.listens_for(engine, "checkout")
    def small(connection: Any, *rest: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {limit[0]}")

    def much(connection: Connection) -> None:
        for uid in range(1, 60):
            give(connection, f"{uid}".rjust(500, "x"), uid)

    with pytest.raises(DatabaseAway, match=r"a\.sqlite: database or disk is full"):
        write(engine, much)
    assert names(engine) == set()
    limit[0] = 10_000
    write(engine, much)
    assert len(names(engine)) == 59
    engine.dispose()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_bytes(b"not a database" * 1000)
    engine = connect(f"sqlite:///{tmp_path / 'a.sqlite'}")
    with pytest.raises(DatabaseAway, match=r"a\.sqlite: file is not a database"):
        names(engine)
    engine.dispose()


def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    engine = connect(f"sqlite:///{tmp_path / 'state' / 'a.sqlite'}")
    with pytest.raises(OSError, match="state"):
        names(engine)


# --- PostgreSQL --------------------------------------------------------------------------------------------------


@pytest.fixture
def url(postgres_server: LazyServer) -> Any:
    server = postgres_server.get()
    url = server.fresh_database()
    yield url
    server.drop(url)


@pytest.mark.hub
def test_connections_that_were_cut_off_are_made_anew(url: str, postgres_server: LazyServer) -> None:
    engine = connect(url)
    upgrade(engine)

    def cut_off(connection: Connection) -> None:
        give(connection, "ann", 1)
        postgres_server.get().cut_off(url)
        give(connection, "ben", 2)

    with pytest.raises(DatabaseAway, match="terminat"):
        write(engine, cut_off)
    assert names(engine) == set()
    write(engine, lambda connection: give(connection, "ann", 1))
    assert names(engine) == {"ann"}
    engine.dispose()


@pytest.mark.hub
def test_a_server_that_goes_and_comes_back_is_used_again(url: str, postgres_server: LazyServer) -> None:
    engine = connect(url)
    upgrade(engine)
    write(engine, lambda connection: give(connection, "ann", 1))
    server = postgres_server.get()
    server.stop()
    try:
        with pytest.raises(DatabaseAway, match="PostgreSQL database test_"):
            names(engine)
        with pytest.raises(DatabaseAway):
            write(engine, lambda connection: give(connection, "ben", 2))
    finally:
        server.start()
    write(engine, lambda connection: give(connection, "ben", 2))
    assert names(engine) == {"ann", "ben"}
    engine.dispose()


@pytest.mark.hub
@pytest.mark.parametrize("state", ["serialization_failure", "deadlock_detected"])
def test_work_that_the_server_asks_to_repeat_is_repeated(state: str, url: str) -> None:
    engine = connect(url)
    upgrade(engine)
    complaint = text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")
    tried = []

    def work(connection: Connection) -> None:
        tried.append(1)
        give(connection, "ann", 1)
        if len(tried) < 3:
            connection.execute(complaint)

    write(engine, work)
    assert len(tried) == 3
    assert names(engine) == {"ann"}
    tried.clear()

    def never(connection: Connection) -> None:
        tried.append(1)
        connection.execute(complaint)

    with pytest.raises(DatabaseAway):
        write(engine, never)
    assert len(tried) == 5
    engine.dispose()


@pytest.mark.hub
def test_a_writer_that_is_stopped_in_the_middle_does_not_hold_the_others_for_good(url: str) -> None:
    engine = connect(url)
    upgrade(engine)
    # the operator's own options win over ours
    process = in_the_middle(f"{url}&options=-c%20idle_in_transaction_session_timeout%3D300ms")
    try:
        process.send_signal(signal.SIGSTOP)
        write(engine, lambda connection: give(connection, "next", 1))
        assert names(engine) == {"next"}
    finally:
        process.send_signal(signal.SIGCONT)
        end(process)
    engine.dispose()


@pytest.mark.hub
def test_no_error_repeats_the_password(tmp_path: Path) -> None:
    engine = connect(f"postgresql+psycopg://me:hunter2@/armillary?host={tmp_path}")
    with pytest.raises(DatabaseAway) as away:
        names(engine)
    assert "hunter2" not in str(away.value)
    assert str(tmp_path) in str(away.value)
