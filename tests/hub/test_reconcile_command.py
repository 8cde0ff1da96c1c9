"""`armillary reconcile`: says what is found, repairs under the lease of the controller that leads, and nothing in a dry run."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine, select

from hub.admission import reservations
from hub.cli import main
from hub.controller.lease import Lease
from hub.controller.status import Status
from hub.db.engine import connect
from hub.db.tables import ledger as ledger_table
from hub.db.tables import reservations as held_table
from hub.db.transaction import read, write
from hub.db.upgrade import upgrade
from hub.metrics import FINDINGS
from hub.reconcile import by_hand
from hub.reconcile.loop import follow
from hub.settings import load
from spawner.reservation import Reservation
from tests.hub.admission_world import CATALOGUE


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state of a site whose hub does not answer: nothing listens on its port."""
    monkeypatch.setattr(by_hand, "SOON_S", 0.01)
    folder = tmp_path / "state"
    (folder / "secrets").mkdir(parents=True)
    (folder / "secrets" / "service_token").write_text("0123456789abcdef0123456789abcdef")
    (tmp_path / "armillary.yaml").write_text(
        yaml.safe_dump({"state_dir": str(folder), "hub": {"bind_url": "http://127.0.0.1:9"}})
    )
    return folder


@pytest.fixture
def database(state: Path) -> Engine:
    engine = connect(f"sqlite:///{state / 'armillary.sqlite'}")
    upgrade(engine)
    return engine


@pytest.fixture
def lost(database: Engine) -> str:
    """A row of the ledger that nobody closed."""
    spawn_id = uuid.uuid4().hex
    held = Reservation(spawn_id, "ann", "", "lab", account="user:ann")
    write(database, lambda found: reservations.insert(found, held, expires_in_s=60))
    write(database, lambda found: found.execute(held_table.delete()))
    return spawn_id


def ended(database: Engine) -> list[str]:
    return list(read(database, lambda found: found.scalars(select(ledger_table.c.ended_as)).all()))


def run(state: Path, *words: str) -> int:
    return main(["reconcile", *words, str(state.parent / "armillary.yaml")], {})


def test_a_dry_run_needs_no_leader_and_changes_nothing(
    state: Path, database: Engine, lost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(state, "--dry-run") == 1
    said = capsys.readouterr().out
    assert f"row-without-hold {lost} of ann/" in said
    assert "Would be repaired: The row is closed at its last heartbeat." in said
    assert ended(database) == [""]


def test_without_a_leader_nothing_is_repaired(
    state: Path, database: Engine, lost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(state) == 1
    assert "no controller leads" in capsys.readouterr().out
    assert ended(database) == [""]


def test_under_the_leaders_lease_it_is_repaired_and_then_all_agree(
    state: Path, database: Engine, lost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Lease(database, "test", 60).try_acquire()
    assert run(state) == 1
    assert "Repaired: The row is closed at its last heartbeat." in capsys.readouterr().out
    assert ended(database) == ["reconciled"]
    assert run(state) == 0
    said = capsys.readouterr().out
    assert "Queue and ledger agree." in said
    assert "The hub does not answer; what it would tell was not compared." in said


def test_a_site_without_a_token_says_what_is_missing(
    state: Path, database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    (state / "secrets" / "service_token").unlink()
    assert run(state, "--dry-run") == 1
    assert "service_token" in capsys.readouterr().out


async def test_the_controllers_loop_repairs_when_it_takes_over_and_ends_when_told(
    state: Path, database: Engine, lost: str
) -> None:
    settings = load(state.parent / "armillary.yaml", {})
    epoch = Lease(database, "test", 60).try_acquire() or 0
    stop = asyncio.Event()
    work = asyncio.create_task(follow(database, settings, CATALOGUE, Status(60), epoch, stop))
    async with asyncio.timeout(30):
        while ended(database) != ["reconciled"]:  # the one who knows is the database
            await asyncio.sleep(0.02)
    stop.set()
    await asyncio.wait_for(work, 30)
    assert next(iter(FINDINGS.collect())).samples == []


async def test_without_a_token_the_loop_says_so_and_waits(state: Path, database: Engine) -> None:
    (state / "secrets" / "service_token").unlink()
    status, stop = Status(60), asyncio.Event()
    work = asyncio.create_task(follow(database, load(state.parent / "armillary.yaml", {}), CATALOGUE, status, 1, stop))
    async with asyncio.timeout(30):
        while not status.problem:
            await asyncio.sleep(0.02)
    assert "service_token" in status.problem
    assert not work.done()
    stop.set()
    await asyncio.wait_for(work, 30)
