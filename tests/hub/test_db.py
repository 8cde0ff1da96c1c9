"""The database: one writer at a time, nothing half written, and words instead of tracebacks when it is not there."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from hub.db.address import AddressError
from hub.db.address import database_url as address_of
from hub.db.clock import Now
from hub.db.engine import connect, shown
from hub.db.tables import lease, uids
from hub.db.transaction import DatabaseAway, read, write
from hub.settings import load
from tests.databases import program


def give(name: str, uid: int) -> Callable[[Connection], None]:
    """Work that writes one row."""

    def work(connection: Connection) -> None:
        connection.execute(insert(uids).values(uid=uid, user_name=name, given_at=Now()))

    return work


def names(engine: Engine) -> set[str]:
    return set(read(engine, lambda connection: connection.scalars(select(uids.c.user_name)).all()))


# --- transactions ------------------------------------------------------------------------------------------------


def test_what_was_written_is_there_for_others(database: Engine, database_url: str) -> None:
    write(database, give("ann", 1))
    other = connect(database_url)
    assert names(other) == {"ann"}
    other.dispose()


def test_nothing_is_written_when_the_work_fails(database: Engine) -> None:
    def work(connection: Connection) -> None:
        give("ann", 1)(connection)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        write(database, work)
    assert names(database) == set()


def test_a_mistake_of_the_work_is_not_taken_for_a_database_that_is_away(database: Engine) -> None:
    write(database, give("ann", 1))
    with pytest.raises(IntegrityError):
        write(database, give("ann", 2))


def test_work_that_reads_and_then_writes_is_never_interleaved(database: Engine) -> None:
    write(database, lambda c: c.execute(insert(lease).values(name="n", epoch=0, renewals=0)))

    def raise_it(connection: Connection) -> None:
        seen = connection.scalar(select(lease.c.epoch)) or 0
        connection.execute(update(lease).values(epoch=seen + 1))

    with ThreadPoolExecutor(20) as threads:
        for done in [threads.submit(write, database, raise_it) for _ in range(100)]:
            done.result()
    assert read(database, lambda c: c.scalar(select(lease.c.epoch))) == 100


def test_a_reader_sees_one_state_and_does_not_wait_for_the_writer(database: Engine) -> None:
    def reading(connection: Connection) -> tuple[int, int]:
        before = len(connection.execute(select(uids)).all())
        write(database, give("ann", 1))
        return before, len(connection.execute(select(uids)).all())

    assert read(database, reading) == (0, 0)
    assert names(database) == {"ann"}


def test_a_second_writer_waits_and_then_says_that_the_database_is_busy(database: Engine) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        give("ann", 1)(connection)
        inside.set()
        go_on.wait(30)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(write, database, slow)
        assert inside.wait(30)
        with pytest.raises(DatabaseAway, match="lock"):
            write(database, give("ben", 2), wait_s=0.2)
        second = threads.submit(write, database, give("ben", 2))
        go_on.set()
        first.result()
        second.result()
    assert names(database) == {"ann", "ben"}


MANY_WRITERS = """
import sys, threading, time
from hub.db.engine import connect
from hub.db.transaction import write
engine = connect(sys.argv[1])
until = time.monotonic() + 8
def work(connection):
    time.sleep(0.02)
def writes():
    while time.monotonic() < until:
        write(engine, work, wait_s=30)
threads = [threading.Thread(target=writes) for _ in range(12)]
[thread.start() for thread in threads]
print("writing", flush=True)
"""


def test_beside_a_process_with_many_writers_others_find_their_turn(database: Engine, database_url: str) -> None:
    many = program(MANY_WRITERS, database_url)
    assert many.stdout is not None
    many.stdout.readline()
    for uid in range(10):
        write(database, give(f"user-{uid}", uid), wait_s=4)
    many.communicate(timeout=60)
    assert len(names(database)) == 10


FORK = """
import os, sys
from sqlalchemy import insert
from hub.db.clock import Now
from hub.db.engine import connect
from hub.db.tables import uids
from hub.db.transaction import write
def give(uid):
    write(engine, lambda c: c.execute(insert(uids).values(uid=uid, user_name=str(uid), given_at=Now())))
engine = connect(sys.argv[1])
give(1)
child = os.fork()
if not child:
    give(2)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
give(3)
"""


def test_a_fork_opens_connections_of_its_own(database: Engine, database_url: str) -> None:
    forking = program(FORK, database_url)
    forking.communicate(timeout=60)
    assert forking.returncode == 0
    assert names(database) == {"1", "2", "3"}


def test_the_databases_clock_counts_seconds_since_1970(database: Engine) -> None:
    before = time.time()
    now = read(database, lambda connection: connection.scalar(select(Now())))
    assert isinstance(now, float)
    assert before - 1 < now < time.time() + 1  # SQLite's counts in thousandths, by way of days


# --- which database, and its files -------------------------------------------------------------------------------


def test_sqlite_lies_in_the_state_folder_unless_said_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "armillary.yaml"
    file.write_text("state_dir: state\n")
    assert address_of(load(file, {})) == f"sqlite:///{tmp_path}/state/armillary.sqlite"
    url = "postgresql+psycopg://me:secret@db/armillary"
    assert address_of(load(file, {"ARMILLARY_DATABASE__URL": url})) == url
    (tmp_path / "url").write_text(f"{url}\n")
    file.write_text("database: {url_file: url}\n")
    assert address_of(load(file, {})) == url


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"mysql://me:hunter2@db/x", "must hold one URL that begins with sqlite:/// or postgresql"),
        (b"", "must hold one URL"),
        (b"\xff", "not text"),
        (None, "No such file"),
    ],
    ids=["other-kind", "empty", "not-text", "missing"],
)
def test_a_file_that_holds_no_url_is_named_and_not_repeated(content: bytes | None, said: str, tmp_path: Path) -> None:
    (tmp_path / "armillary.yaml").write_text("database: {url_file: url}\n")
    if content is not None:
        (tmp_path / "url").write_bytes(content)
    with pytest.raises(AddressError, match=said) as refused:
        address_of(load(tmp_path / "armillary.yaml", {}))
    assert str(tmp_path / "url") in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:///relative.sqlite", "absolute path"),
        ("sqlite:///:memory:", "absolute path"),
        ("sqlite:///", "absolute path"),
        ("postgresql+psycopg://me:hunter2@db", "ends with the database's name"),
        ("postgresql+psycopg://me:hunter2@db:port/name", "cannot be read"),
        ("postgresql://me:hunter2@db/name", "must begin with"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str, said: str) -> None:
    with pytest.raises(AddressError, match=said) as refused:
        connect(url)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_name_for_people_holds_neither_user_nor_password() -> None:
    engine = connect("postgresql+psycopg://me:hunter2@db.example.org:5433/armillary?application_name=mine")
    assert shown(engine) == "the PostgreSQL database armillary at db.example.org:5433"
    assert shown(connect("sqlite:////var/lib/a.sqlite")) == "the SQLite file /var/lib/a.sqlite"


def test_the_sqlite_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        engine = connect(f"sqlite:///{tmp_path / 'state' / 'a.sqlite'}")
        write(engine, lambda connection: connection.execute(text("CREATE TABLE t (x)")))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
    finally:
        os.umask(umask)
    assert modes == {"a.sqlite": 0o600, "a.sqlite-wal": 0o600, "a.sqlite-shm": 0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    engine.dispose()


def test_nothing_is_made_before_the_first_use(tmp_path: Path) -> None:
    connect(f"sqlite:///{tmp_path / 'state' / 'a.sqlite'}").dispose()
    assert list(tmp_path.iterdir()) == []


def test_sqlite_promises_durability_and_keeps_readers_going(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'a.sqlite'}")
    pragmas = ("journal_mode", "synchronous", "foreign_keys")
    found = read(engine, lambda c: [c.scalar(text(f"PRAGMA {name}")) for name in pragmas])
    assert found == ["wal", 2, 1]
    engine.dispose()
