"""The file of quotas: what it may say, and every mistake in it with its place; how the database follows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from hub.controller.lease import Lease, StaleEpoch
from hub.db.engine import connect
from hub.db.tables import lease as lease_table
from hub.db.transaction import read, write
from hub.quotas.declared import QuotaFileError, read_quotas, read_text
from hub.quotas.model import Quotas
from hub.quotas.store import load
from hub.quotas.takeover import follow, take_over
from hub.settings.quotas import QuotaSettings
from tests.hub.quota_world import quotas
from tests.hub.web_world import catalogue

GOOD = """\
default:
  servers: 3
  memory: 64Gi
  hours:week: 40
member:cms: {accelerators: 2, session_s: 12h}
group:cms: {hours:month: 2000, accelerators:t4: 8}
"user:ann": {servers: unlimited}
"""


def test_a_file_says_limits_as_the_page_does() -> None:
    assert read_text(GOOD, kinds=["t4"]) == Quotas(
        row
        for row in (
            *_declared({"default": {"servers": 3, "memory": "64Gi", "hours:week": 40}}),
            *_declared({"member:cms": {"accelerators": 2, "session_s": 43200}}),
            *_declared({"group:cms": {"hours:month": 2000, "accelerators:t4": 8}}),
            *_declared({"user:ann": {"servers": "unlimited"}}),
        )
    )


def _declared(limits: dict[str, dict[str, object]]) -> list[object]:
    from dataclasses import replace

    return [replace(row, declared=True) for row in quotas(limits).rows]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}"])
def test_an_empty_file_declares_nothing(text: str) -> None:
    assert read_text(text) == Quotas()


def test_every_problem_is_said_at_once_with_its_place_and_what_is_legal() -> None:
    text = """\
default:
  server: 3
  servers: many
  servers: 4
  hours:week:t5: 1
users:ann: {servers: 1}
group:cms:
member:cms: [servers]
user:ann: {cpu: 1, jobs: -1}
"""
    with pytest.raises(QuotaFileError) as refused:
        read_text(text, "site/quotas.yaml", kinds=["t4"])
    lines = str(refused.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "site/quotas.yaml:2:3 default server",
        "site/quotas.yaml:3:3 default servers",
        "site/quotas.yaml:4:3 default servers",
        "site/quotas.yaml:5:3 default hours:week:t5",
        "site/quotas.yaml:6:1 users:ann",
        "site/quotas.yaml:7:1 group:cms",
        "site/quotas.yaml:8:1 member:cms",
        "site/quotas.yaml:9:20 user:ann jobs",
    ]
    assert "(did you mean servers?)" in lines[0]
    assert "'many' is no value of servers: write a whole number; 0: nothing is allowed" in lines[1]
    assert "the key was given before, in line 3" in lines[2]
    assert "legal here: t4" in lines[3]
    assert "(did you mean user?)" in lines[4]
    assert "must be a mapping of limits to values, such as `servers: 3`" in lines[5]
    assert "'-1'" not in lines[7]
    assert "-1 is no value of jobs" in lines[7]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"- a\n", "quotas.yaml:1:1: must be a mapping of subjects"),
        (b"default: {servers: 1\n", "is no YAML"),
        (b"default:\n\tservers: 1\n", "quotas.yaml:2:1: a tab cannot indent"),
        (b"a: \xff\n", "quotas.yaml:1:4: is not UTF-8 text"),
        (b"a: 1\n---\nb: 1\n", "a file of quotas is one"),
        (b"#" * (5 * 2**20), "larger than"),
        (None, "quotas.yaml:1:1: cannot be read: No such file"),
    ],
    ids=["list", "broken", "tab", "not-text", "two", "large", "missing"],
)
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "quotas.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(QuotaFileError) as refused:
        read_quotas(file)
    assert said in str(refused.value)
    assert str(file) in str(refused.value)


# --- the database follows ----------------------------------------------------------------------------------------


def stored(database: Engine) -> dict[str, str]:
    """Who declared what: `default servers` to its value."""
    rows = read(database, load).rows
    assert all(row.declared for row in rows)
    return {f"{row.subject} {row.field}": str(row.value) for row in rows}


def test_a_process_takes_the_file_over_at_its_start(database: Engine, tmp_path: Path) -> None:
    file = tmp_path / "quotas.yaml"
    file.write_text("default: {servers: 3}\n")
    take_over(database, QuotaSettings(file=file), catalogue())
    assert stored(database) == {"default servers": "3"}
    take_over(database, QuotaSettings(), catalogue())
    assert stored(database) == {}


def test_a_file_with_problems_ends_the_start_and_changes_nothing(database: Engine, tmp_path: Path) -> None:
    file = tmp_path / "quotas.yaml"
    file.write_text("default: {servers: 3}\n")
    take_over(database, QuotaSettings(file=file), catalogue())
    file.write_text("default: {servers: 4, 'accelerators:rtx': 1}\n")
    with pytest.raises(QuotaFileError, match="there is no accelerator 'rtx'"):
        take_over(database, QuotaSettings(file=file), catalogue())
    assert stored(database) == {"default servers": "3"}


def test_a_database_that_is_away_does_not_end_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "quotas.yaml"
    file.write_text("default: {servers: 3}\n")
    away = connect(f"postgresql+psycopg://me:hunter2@/armillary?host={tmp_path}")
    with caplog.at_level(logging.WARNING):
        take_over(away, QuotaSettings(file=file), catalogue())
    assert "taken over later" in caplog.text
    assert "hunter2" not in caplog.text
    away.dispose()


@contextlib.asynccontextmanager
async def following(database: Engine, file: Path, epoch: int) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    work = follow(database, QuotaSettings(file=file), catalogue(), epoch, stop, look_s=0.02, again_s=0.02)
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        stop.set()
        with contextlib.suppress(StaleEpoch):
            await asyncio.wait_for(task, 20)


async def until(database: Engine, expected: dict[str, str]) -> None:
    async with asyncio.timeout(20):
        while await asyncio.to_thread(stored, database) != expected:
            await asyncio.sleep(0.02)


def replace_file(file: Path, text: str) -> None:
    """As Kubernetes changes a ConfigMap's files: another file takes the place."""
    beside = file.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, file)


async def test_the_leading_controller_follows_the_file(
    database: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    epoch = Lease(database, "one", 10).try_acquire()
    assert epoch is not None
    file = tmp_path / "quotas.yaml"
    file.write_text("default: {servers: 3}\n")
    async with following(database, file, epoch):
        await until(database, {"default servers": "3"})
        replace_file(file, "default: {servers: 4, jobs: 1}\n")
        await until(database, {"default servers": "4", "default jobs": "1"})
        replace_file(file, "default: {servers: nine}\n")
        async with asyncio.timeout(20):
            while "'nine' is no value of servers" not in caplog.text:
                await asyncio.sleep(0.02)
        assert stored(database) == {"default servers": "4", "default jobs": "1"}
        replace_file(file, "default: {jobs: 1}\n")
        await until(database, {"default jobs": "1"})
    assert caplog.text.count("'nine' is no value of servers") == 1


async def test_one_that_leads_no_longer_changes_nothing(database: Engine, tmp_path: Path) -> None:
    epoch = Lease(database, "one", 10).try_acquire()
    assert epoch is not None
    write(database, lambda connection: connection.execute(update(lease_table).values(epoch=epoch + 1)))
    file = tmp_path / "quotas.yaml"
    file.write_text("default: {servers: 3}\n")
    async with following(database, file, epoch) as task:
        with pytest.raises(StaleEpoch):
            await asyncio.wait_for(asyncio.shield(task), 20)
    assert stored(database) == {}
