"""What runs here as the launch records and the kernel tell it, and its end; and what a watch has seen of a cluster."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.admission.hub_api import HubServers
from hub.reconcile.engines import LocalEngine
from hub.reconcile.hub_servers import HubList
from hub.reconcile.picture import HubServer, Running
from spawner.processes import records
from spawner.processes.identity import boot_id, look
from spawner.processes.records import Record


def record(user: str = "ann", server: str = "") -> Record:
    return Record(uuid.uuid4().hex, user, server, 8888, None, False, boot_id(), "2026-01-01T00:00:00+00:00")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[tuple[Record, subprocess.Popen[bytes]]]:
    """A process with a launch record, as a session has one."""
    mine = record("ann", "two")
    planned = records.plan(tmp_path, mine)
    environment = {"ARMILLARY_SPAWN_ID": mine.spawn_id}
    process = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environment, start_new_session=True
    )
    stat = look(process.pid)
    assert stat is not None
    planned.rename(tmp_path / f"{mine.stem}.{process.pid}-{stat.started}.json")
    yield mine, process
    if process.poll() is None:
        process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()


async def test_what_runs_is_told_with_its_owner_and_what_is_only_planned_is_not(
    tmp_path: Path, session: tuple[Record, subprocess.Popen[bytes]]
) -> None:
    mine, process = session
    other = record("bob")
    records.plan(tmp_path, other)
    engine = LocalEngine(tmp_path)
    assert await engine.running() == {mine.spawn_id: Running(mine.spawn_id, f"process {process.pid}", "ann", "two")}
    assert await engine.planned() == frozenset({other.spawn_id})


async def test_what_is_ended_is_gone_with_its_record_and_may_be_ended_again(
    tmp_path: Path, session: tuple[Record, subprocess.Popen[bytes]]
) -> None:
    mine, process = session
    engine = LocalEngine(tmp_path)
    running = await engine.running()
    assert running is not None
    assert await engine.end(running[mine.spawn_id])
    assert process.wait(20) in (-signal.SIGTERM, -signal.SIGKILL)
    assert (await engine.running(), list(tmp_path.iterdir())) == ({}, [])
    assert await engine.end(running[mine.spawn_id])


async def test_one_that_has_ended_by_itself_runs_no_more(
    tmp_path: Path, session: tuple[Record, subprocess.Popen[bytes]]
) -> None:
    _, process = session
    process.kill()
    process.wait()
    engine = LocalEngine(tmp_path)
    assert (await engine.running(), await engine.planned()) == ({}, frozenset())


async def test_without_a_folder_nothing_runs(tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path / "none")
    assert (await engine.running(), await engine.planned(), await engine.claims()) == ({}, frozenset(), {})


class Scripted(HubList):
    """The hub's list of users, page by page, as JupyterHub 6.1 gives it."""

    def __init__(self, pages: list[tuple[int, object]]) -> None:
        super().__init__("http://hub.example.org/hub/api", "token")
        self.pages = pages
        self.asked: list[str] = []

    async def _ask(self, method, path, within_s, **more):  # type: ignore[no-untyped-def]
        self.asked.append(path)
        status, said = self.pages.pop(0)
        return status, {}, said


def page(*users: object, after: int | None = None) -> tuple[int, object]:
    return 200, {"items": list(users), "_pagination": {"next": {"offset": after} if after is not None else None}}


async def test_active_servers_are_read_from_all_pages_with_what_was_asked_for() -> None:
    ann = {"name": "ann", "servers": {"": {"ready": True, "user_options": {"profile": "gpu"}}, "two": {"ready": False}}}
    hub = Scripted([page(ann, {"name": "bob", "servers": {}}, after=50), page({"name": "cleo"}, {"x": 1})])
    assert await hub.active() == {
        ("ann", ""): HubServer("ann", "", True, {"profile": "gpu"}),
        ("ann", "two"): HubServer("ann", "two", False),
    }
    assert ["offset=0" in hub.asked[0], "offset=50" in hub.asked[1], "state=active" in hub.asked[0]] == [True] * 3
    assert isinstance(hub, HubServers)


@pytest.mark.parametrize("bad", [(0, None), (403, {"message": "no"}), (200, {"items": None}), (200, None)])
async def test_a_list_that_is_not_whole_is_none(bad: tuple[int, object]) -> None:
    hub = Scripted([page({"name": "ann", "servers": {"": {"ready": True}}}, after=50), bad])
    assert await hub.active() is None
