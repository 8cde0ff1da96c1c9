"""SQLite's log: who copies it into the file, and that nobody waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, insert, select

from hub.db.checkpoint import checkpoint, follow
from hub.db.clock import Now
from hub.db.engine import connect
from hub.db.tables import audit
from hub.db.transaction import DatabaseAway, read, write
from hub.db.upgrade import upgrade

LONG = 6_000_000
"""Bytes of a log that SQLite would have copied by itself: it does so from 4 MB on."""


@pytest.fixture
def site(tmp_path: Path) -> Engine:
    engine = connect(f"sqlite:///{tmp_path / 'armillary.sqlite'}")
    upgrade(engine)
    checkpoint(engine)
    return engine


def file_of(site: Engine) -> Path:
    return Path(site.url.database or "")


def log_of(site: Engine) -> int:
    return file_of(site).with_name("armillary.sqlite-wal").stat().st_size


def fill(site: Engine) -> None:
    """Write until the log is long."""
    for number in range(200):
        row = {"at": Now(), "actor": "user:ann", "action": "test", "subject": f"{number}" * 10_000}
        write(site, lambda connection, row=row: connection.execute(insert(audit).values(**row)))  # type: ignore[misc]


def rows(site: Engine) -> int:
    return read(site, lambda connection: int(connection.scalar(select(func.count()).select_from(audit)) or 0))


def test_no_writer_copies_the_log_and_the_next_begins_it_anew(site: Engine) -> None:
    before = file_of(site).stat().st_size
    fill(site)
    long = log_of(site)
    assert long > LONG
    assert file_of(site).stat().st_size == before
    assert checkpoint(site) == 0
    assert file_of(site).stat().st_size > before + LONG // 2
    fill(site)
    assert log_of(site) < long * 1.1  # it was written over
    assert rows(site) == 400


def test_what_a_reader_needs_is_left_and_nobody_is_waited_for(site: Engine) -> None:
    with site.connect() as reader, reader.begin():
        seen = reader.scalar(select(func.count()).select_from(audit))
        fill(site)
        assert checkpoint(site) > LONG // 4096 // 2
        assert reader.scalar(select(func.count()).select_from(audit)) == seen
    assert checkpoint(site) == 0


def test_beside_a_writer_it_copies_what_is_durable(site: Engine) -> None:
    fill(site)

    def slowly(connection: object) -> int:
        return checkpoint(site)

    assert write(site, slowly) == 0


def test_the_controller_copies_it_until_it_is_told_to_stop(site: Engine) -> None:
    before = file_of(site).stat().st_size

    async def run() -> None:
        stop = asyncio.Event()
        following = asyncio.create_task(follow(site, 1, stop, 0.01))
        await asyncio.to_thread(fill, site)
        while file_of(site).stat().st_size < before + LONG // 2:
            await asyncio.sleep(0.01)
        stop.set()
        await following

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_file_that_is_none_is_said_and_does_not_end_the_controller(tmp_path: Path) -> None:
    (tmp_path / "armillary.sqlite").write_bytes(b"not a database " * 1000)
    engine = connect(f"sqlite:///{tmp_path / 'armillary.sqlite'}")
    with pytest.raises(DatabaseAway, match="not a database"):
        checkpoint(engine)

    async def run() -> None:
        stop = asyncio.Event()
        following = asyncio.create_task(follow(engine, 1, stop, 0.01))
        await asyncio.sleep(0.1)
        assert not following.done()
        stop.set()
        await following

    asyncio.run(asyncio.wait_for(run(), 30))


def test_on_postgresql_nothing_is_done(database: Engine) -> None:
    assert checkpoint(database) == 0
