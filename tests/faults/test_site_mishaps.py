"""A whole site while its database is locked, while its disk takes nothing, and when somebody starts it a second time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import Connection, Engine, event

from hub.admission import reservations
from hub.admission.doors import request
from hub.db.engine import connect
from hub.db.transaction import DatabaseAway, read, write
from hub.db.upgrade import upgrade
from hub.usage import ledger
from hub.usage.ledger import HEARTBEAT_S, Ran
from spawner.refusal import Refusal
from tests.faults.admission_site import NAME, OTHER, STEPS, Here, site_of
from tests.faults.killing import KillOrder
from tests.hub.admission_world import Site as Queue
from tests.hub.hub_double import HubDouble
from tests.hub.site import ROOT, alive, wait_for
from tests.hub.web_world import PREFIX
from tests.lab import postgres

pytestmark = [pytest.mark.hub, pytest.mark.timeout(400)]

LOCKED_S = 30.0


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    order = KillOrder(tmp_path_factory.mktemp("order"), STEPS)
    with contextlib.ExitStack() as stack:
        url = None
        if request.param == "postgresql":
            url = stack.enter_context(postgres.running()).fresh_database()
        made = Here(stack.enter_context(site_of(order, url)), order, url)
        yield made
        made.database.dispose()


@contextlib.contextmanager
def locked(database: Engine) -> Iterator[None]:
    """Nobody can write: somebody else holds what writers take."""
    if database.dialect.name == "sqlite":
        with contextlib.closing(sqlite3.connect(database.url.database or "", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield
    else:
        url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url) as other:
            other.execute("LOCK TABLE reservations, tickets, ledger, lease, sessions IN EXCLUSIVE MODE")
            yield


def ask(world: Here, name: str) -> httpx.Response:
    headers = {"Authorization": f"token {world.tokens[name]}"}
    url = f"{world.site.url}{PREFIX}/api/requests"
    return httpx.post(url, json={"options": {"accelerator": "card"}}, headers=headers, timeout=60)


def test_a_database_that_is_locked_for_half_a_minute_stops_starts_and_nothing_that_runs(world: Here) -> None:
    began = time.time()
    assert world.ask() in ("starting", "queued")
    wait_for(world.ready, "the server to be ready", 240)
    sessions = world.sessions(NAME)
    assert len(sessions) == 1
    hub, service = world.site.pid_of("hub"), world.site.pid_of("service")
    with locked(world.database):
        since = time.monotonic()
        said = ask(world, OTHER)
        assert said.status_code == 503, said.text
        assert said.json()["code"] == "database-away"
        assert httpx.get(f"{world.site.url}/hub/login", timeout=10).status_code < 400
        while time.monotonic() - since < LOCKED_S:
            assert world.ready()
            time.sleep(1.0)
    assert world.sessions(NAME) == sessions
    assert (world.site.pid_of("hub"), world.site.pid_of("service")) == (hub, service), "nobody died of it"
    assert world.ask(OTHER) == "queued"
    world.stop()
    wait_for(lambda: world.ready(OTHER), "the other's server to start by itself", 240)
    world.stop(OTHER)
    wait_for(world.settled, "nothing to be held by nobody", 240)
    first, second = world.rows(began - 1.0)
    assert first.seconds == pytest.approx(first.closed_at - first.opened_at, abs=0.01)
    assert first.seconds > LOCKED_S, "it ran on, and is charged for it"
    assert first.closed_at <= second.opened_at + 0.01
    assert first.seconds + second.seconds <= time.time() - began + HEARTBEAT_S


def test_a_second_launcher_and_a_second_hub_refuse_to_start_and_change_nothing(world: Here) -> None:
    assert world.ask() in ("starting", "queued")
    wait_for(world.ready, "the server to be ready", 240)
    sessions, held = world.sessions(NAME), read(world.database, reservations.all)
    site = world.site
    hub = site.pid_of("hub")
    launcher = subprocess.run(
        site.command(), cwd=ROOT, env=site.variables(), capture_output=True, text=True, check=False, timeout=100
    )
    assert launcher.returncode != 0
    assert "already" in launcher.stdout + launcher.stderr
    words = [word for word in Path(f"/proc/{hub}/cmdline").read_text().split("\0") if word]
    entries = Path(f"/proc/{hub}/environ").read_text().split("\0")
    environ = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    second = subprocess.run(
        words,
        cwd=os.readlink(f"/proc/{hub}/cwd"),
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert second.returncode != 0
    assert "another hub runs with" in second.stdout + second.stderr
    assert alive(hub)
    assert site.pid_of("hub") == hub
    assert world.ready()
    assert world.sessions(NAME) == sessions
    assert [one.id for one in read(world.database, reservations.all)] == [one.id for one in held]
    world.stop()
    wait_for(world.settled, "nothing to be held by nobody", 240)


async def test_a_disk_that_takes_nothing_any_more_refuses_starts_and_keeps_what_is_held(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'a.sqlite'}")
    upgrade(engine)
    hub = HubDouble()
    await hub.open()
    site = Queue(engine, hub)
    held = await site.at_the_hub("ann")
    broken = [True]

    @event.listens_for(engine, "checkout")
    def as_the_kernel_says(connection: sqlite3.Connection, *rest: object) -> None:
        # What SQLite says (SQLITE_READONLY) where a disk has been made read-only after an error.
        connection.execute(f"PRAGMA query_only = {'ON' if broken[0] else 'OFF'}")

    try:
        with pytest.raises(Refusal) as refused:
            await site.at_the_hub("bob")
        assert (refused.value.code, refused.value.status_code) == ("database-away", 503)
        for work in (
            lambda found: request(found, site.desk.store, site.wish("cleo")),
            lambda found: ledger.beat(found, {held.id: Ran()}),
            lambda found: reservations.delete(found, (held.id,)),
        ):
            with pytest.raises(DatabaseAway, match=r"a\.sqlite: attempt to write a readonly database"):
                write(engine, work)
        assert list(site.held()) == ["ann/"]
        broken[0] = False

        def seconds(connection: Connection) -> float:
            return float(connection.exec_driver_sql("SELECT seconds FROM ledger").scalar() or 0.0)

        assert write(engine, lambda found: ledger.beat(found, {held.id: Ran()})) == 1
        assert read(engine, seconds) > 0
        assert (await site.at_the_hub("bob")).accelerator == "card"
    finally:
        await hub.close()
        engine.dispose()
