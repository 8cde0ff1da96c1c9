"""SQLite's log: who copies it into the file, and that nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, insert, select

from hub.db.checkpoint import copying, follow
from hub.db.clock import Now
from hub.db.engine import connect
from hub.db.tables import audit
from hub.db.transaction import DatabaseAway, read, write
from hub.db.upgrade import upgrade
from tests.databases import LazyServer
from tests.hub.statements import statements

LONG = 6_000_000
"""Bytes of a log that SQLite would have copied by itself: it does so from 4 MB on."""

BOUND = 45_000_000
"""Bytes of the longest log: 10,000 pages, and a transaction."""

Copy = Callable[[], bool]


@pytest.fixture
def site(tmp_path: Path) -> Engine:
    engine = connect(f"sqlite:///{tmp_path / 'armillary.sqlite'}")
    upgrade(engine)
    engine.dispose()  # the last one to go copies everything
    return engine


@pytest.fixture
def copy(site: Engine) -> Iterator[Copy]:
    with copying(site) as found:
        yield found


def size_of(site: Engine) -> int:
    return Path(site.url.database or "").stat().st_size


def log_of(site: Engine) -> int:
    return Path(f"{site.url.database}-wal").stat().st_size


def fill(site: Engine, times: int = 200, length: int = 30_000) -> None:
    """Write until the log is long."""
    for _ in range(times):
        row = {"at": Now(), "actor": "user:ann", "action": "test", "subject": "x" * length}
        write(site, lambda connection, row=row: connection.execute(insert(audit).values(**row)))  # type: ignore[misc]


def rows(site: Engine) -> int:
    return read(site, lambda connection: int(connection.scalar(select(func.count()).select_from(audit)) or 0))


def test_no_writer_copies_the_log_and_the_next_begins_it_anew(site: Engine, copy: Copy) -> None:
    before = size_of(site)
    fill(site)
    long = log_of(site)
    assert long > LONG
    assert size_of(site) == before
    assert copy()
    assert size_of(site) > before + LONG // 2
    fill(site)
    assert log_of(site) < long * 1.1  # it was written over
    assert rows(site) == 400


def test_a_log_that_is_copied_is_left_alone_until_somebody_commits(site: Engine, copy: Copy) -> None:
    def sent() -> list[str]:
        with statements(site) as heard:
            for _ in range(3):
                with copying(site) as another:
                    assert another()
                assert copy()
        return [text for text in heard if "wal_checkpoint" in text]

    assert sent() == []
    fill(site, 1)
    assert copy()
    assert sent() == []


def test_what_a_reader_needs_is_left_and_nobody_is_waited_for(site: Engine, copy: Copy) -> None:
    with site.connect() as reader, reader.begin():
        seen = reader.scalar(select(func.count()).select_from(audit))
        fill(site)
        assert not copy()
        assert reader.scalar(select(func.count()).select_from(audit)) == seen
    assert copy()


def test_beside_a_writer_it_copies_what_is_durable(site: Engine, copy: Copy) -> None:
    before = size_of(site)
    fill(site)
    assert write(site, lambda connection: copy())
    assert size_of(site) > before + LONG // 2


def test_where_nobody_copies_it_the_log_is_bounded(site: Engine) -> None:
    fill(site, 150, 1_000_000)
    assert log_of(site) < BOUND
    assert rows(site) == 150


def test_the_controller_copies_it_until_it_is_told_to_stop(site: Engine) -> None:
    before = size_of(site)

    async def run() -> None:
        stop = asyncio.Event()
        following = asyncio.create_task(follow(site, 1, stop, 0.01))
        await asyncio.to_thread(fill, site)
        while size_of(site) < before + LONG // 2:
            await asyncio.sleep(0.01)
        stop.set()
        await following

    asyncio.run(asyncio.wait_for(run(), 30))
    assert site.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_a_file_that_is_none_is_said_and_does_not_end_the_controller(tmp_path: Path) -> None:
    (tmp_path / "armillary.sqlite").write_bytes(b"not a database " * 1000)
    engine = connect(f"sqlite:///{tmp_path / 'armillary.sqlite'}")
    with pytest.raises(DatabaseAway, match="not a database"), copying(engine):
        pass

    async def run() -> None:
        stop = asyncio.Event()
        following = asyncio.create_task(follow(engine, 1, stop, 0.01))
        await asyncio.sleep(0.1)
        assert not following.done()
        stop.set()
        await following

    asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.hub
def test_on_postgresql_nothing_is_done(postgres_server: LazyServer) -> None:
    engine = connect(postgres_server.get().fresh_database())
    with statements(engine) as heard, copying(engine) as copy:
        assert copy()
    assert heard == []
