"""One hub for one database: a second one refuses to start, and one that was killed is replaced."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from hub.controller.lease import Lease
from hub.db.tables import lease as table
from hub.db.transaction import DatabaseAway, read, write
from hub.one_hub import HUB, be_the_hub
from tests.databases import program
from tests.hub.bare import BareHub

HUB_PROCESS = """\
import sys
from hub.db.engine import connect
from hub.one_hub import AnotherHub, be_the_hub

try:
    be_the_hub(connect(sys.argv[1]), lease_s=float(sys.argv[2]))
except AnotherHub as error:
    print("refused:", error, flush=True)
    sys.exit(3)
print("is the hub", flush=True)
sys.stdin.readline()
"""
ELSEWHERE = "hub-2 1 100 00000000-0000-0000-0000-000000000000 pid:[1]"
"""A hub on another machine."""


class Hubs:
    """Processes that want to be the hub."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._all: list[subprocess.Popen[str]] = []

    def start(self, lease_s: float = 60) -> subprocess.Popen[str]:
        self._all.append(program(HUB_PROCESS, self._url, str(lease_s)))
        return self._all[-1]

    def end(self) -> None:
        for one in self._all:
            one.send_signal(signal.SIGCONT)
            one.kill()
            one.communicate()


@contextlib.contextmanager
def renewing(database: Engine) -> Iterator[None]:
    """Let whoever is the hub say that it lives."""
    ended = threading.Event()
    more = update(table).values(renewals=table.c.renewals + 1)

    def renew() -> None:
        while not ended.wait(0.3):
            write(database, lambda connection: connection.execute(more))

    thread = threading.Thread(target=renew)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.fixture
def hubs(database: Engine, database_url: str) -> Iterator[Hubs]:
    started = Hubs(database_url)
    yield started
    started.end()


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def holder(database: Engine) -> str | None:
    return read(database, lambda connection: connection.execute(select(table.c.holder)).scalar())


def test_a_second_one_is_refused_and_told_which_process_is_the_hub(hubs: Hubs) -> None:
    first = hubs.start(1.5)
    assert says(first) == "is the hub"
    second = hubs.start(1.5)
    said = says(second)
    assert said.startswith("refused: another hub runs with the ")
    assert f"process {first.pid} on " in said
    assert "`database.url`" in said
    assert second.wait(30) == 3
    assert first.poll() is None


def test_one_that_was_killed_is_replaced_at_once(hubs: Hubs, database: Engine) -> None:
    first = hubs.start()
    assert says(first) == "is the hub"
    first.kill()
    first.wait(30)
    assert holder(database) is not None
    began = time.monotonic()
    assert says(hubs.start()) == "is the hub"
    assert time.monotonic() - began < 60, "it waited until the first one's time ran out"


def test_one_that_ended_has_given_its_place_back(hubs: Hubs, database: Engine) -> None:
    first = hubs.start()
    assert says(first) == "is the hub"
    first.communicate("end\n", timeout=30)
    assert first.returncode == 0
    assert holder(database) is None
    assert says(hubs.start()) == "is the hub"


def test_one_on_another_machine_is_waited_for_until_it_has_been_silent(database: Engine, hubs: Hubs) -> None:
    assert Lease(database, ELSEWHERE, 60, name=HUB).try_acquire() is not None
    began = time.monotonic()
    assert says(hubs.start(2)) == "is the hub"
    assert time.monotonic() - began >= 2


@pytest.mark.parametrize("name", ["", "hub-2 x y z 1"])
def test_a_name_that_cannot_be_read_is_not_taken_for_dead(database: Engine, hubs: Hubs, name: str) -> None:
    Lease(database, "somebody", 60, name=HUB).try_acquire()
    write(database, lambda connection: connection.execute(update(table).values(holder=name)))
    with renewing(database):
        hub = hubs.start(2)
        assert says(hub).startswith("refused: another hub runs with the ")
        assert hub.wait(30) == 3


def test_one_that_was_stopped_and_goes_on_after_another_took_over_ends(hubs: Hubs, database: Engine) -> None:
    first = hubs.start(1.5)
    assert says(first) == "is the hub"
    while True:  # between two of its transactions: within one it would hold SQLite's lock
        first.send_signal(signal.SIGSTOP)
        while "State:\tT" not in Path(f"/proc/{first.pid}/status").read_text():
            time.sleep(0.005)
        with contextlib.suppress(DatabaseAway):
            write(database, lambda connection: connection.execute(select(table.c.holder)).all(), wait_s=0.05)
            break
        first.send_signal(signal.SIGCONT)
    second = hubs.start(1.5)
    assert says(second) == "is the hub"
    first.send_signal(signal.SIGCONT)
    assert first.wait(30) == -signal.SIGTERM
    assert second.poll() is None


def test_one_whose_database_is_read_again_stays_the_hub(database: Engine) -> None:
    """A configuration may be read twice in one process."""
    leave = be_the_hub(database, lease_s=60, lost=lambda: None)
    mine = holder(database)
    assert be_the_hub(database, lease_s=60, lost=lambda: None) is leave
    assert holder(database) == mine is not None
    leave()
    assert holder(database) is None


@pytest.mark.hub
def test_a_second_hub_of_a_site_does_not_start(tmp_path: Path) -> None:
    """With JupyterHub's own command, and the settings of the first. Nothing of the first one's changes."""
    hub = BareHub(tmp_path, "http://127.0.0.1:1/nobody")
    with hub.running():
        environ = {"ARMILLARY_SETTINGS": str(hub.settings), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        second = subprocess.run(
            [sys.executable, "-m", "jupyterhub", "-f", str(hub.config), "--JupyterHub.hub_port=0"],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "TEST_ENVIRONMENTS": str(tmp_path), **environ},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert second.returncode != 0
        assert "another hub runs with the SQLite file" in second.stderr
        assert hub.healthy()
