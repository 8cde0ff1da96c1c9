"""Eight processes race for seven slices under the limits of two groups, and are killed at random: 10,000 requests."""

from __future__ import annotations

import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from hub.admission import reservations
from hub.controller.lease import Lease
from hub.controller.publish import publish
from hub.db.transaction import read, write
from hub.quotas import store as quotas_store
from hub.quotas.model import parse_field
from hub.usage import ledger
from spawner.capacity.model import Count, DeviceState, Fit, Snapshot
from spawner.reservation import Reservation
from tests.hub.race_worker import LIMITS, SLICES, SPENT, ask, main, store, wrong

pytestmark = [pytest.mark.hub, pytest.mark.timeout(1500)]

REQUESTS = 10_000
WORKERS = 8
KILLS = 30

_FORKS = multiprocessing.get_context("forkserver")
# A process that has loaded everything makes the workers, so that one that takes a dead one's place asks at once.
_FORKS.set_forkserver_preload(["tests.hub.race_worker"])


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where there is such a folder: they race for the database's lock, and no disk is waited for."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="armillary-race-", dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def site(database: Engine) -> Engine:
    """Seven slices, two groups with a limit each, and one whose budget is spent."""
    epoch = Lease(database, "test", 60).try_acquire() or 0
    room = (Fit(SLICES, 64_000, 1 << 40),)
    devices = tuple(DeviceState(f"SIMULATED-slice-{number}", "slice", simulated=True) for number in range(SLICES))
    count = Count(SLICES, SLICES, fits_now=room, fits_empty=room, simulated=True)
    publish(database, epoch, Snapshot("local", datetime.now(UTC), {"slice": count}, devices=devices))

    def limits(connection: Connection) -> None:
        for account, most in LIMITS.items():
            quotas_store.put(connection, account, parse_field("accelerators:slice"), Decimal(most), "user:admin")
        quotas_store.put(connection, SPENT, parse_field("hours:30d"), Decimal(1), "user:admin")
        _used_up(connection)

    write(database, limits)
    return database


def _used_up(connection: Connection) -> None:
    """A session of the group that ran two hours, written by way of a correction."""
    past = Reservation("past", "u3", "", "gpu", "slice", 1, account=SPENT, share=1 / 7)
    ledger.open(connection, past)
    ledger.close(connection, ["past"], "stopped")
    ledger.correct(connection, "past", 2 * 3600.0 * 7, "user:admin: for the test")


def test_grants_are_what_capacity_and_limits_permit_and_never_more(site: Engine, tmp_path: Path) -> None:
    race = _Race(site, tmp_path)
    race.run()
    outcomes = race.outcomes()
    assert [line for line in race.lines() if line.partition(" ")[2].strip()] == []
    assert sum(outcomes.values()) >= REQUESTS
    assert set(outcomes) == {"granted", "full", "quota-accelerators", "budget-spent"}, outcomes
    assert outcomes["granted"] * 10 <= sum(outcomes.values()), "demand is ten times what there is"
    assert race.killed >= KILLS // 2
    race.let_the_dead_run_out()
    assert _fill(site, "group:a") == Counter({"granted": LIMITS["group:a"], "quota-accelerators": 1})
    assert _fill(site, "group:b") == Counter({"granted": SLICES - LIMITS["group:a"], "full": 1})


class _Race:
    """The processes, who is killed when, and the controller's part: giving back what ran out."""

    def __init__(self, database: Engine, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._chance = random.Random(5)
        self._seed = 0
        self.killed = 0

    def run(self) -> None:
        """Until enough was asked; whoever is killed or done is replaced."""
        workers = [self._another() for _ in range(WORKERS)]
        next_kill = REQUESTS // KILLS
        try:
            while (done := len(self.lines())) < REQUESTS:
                for place, worker in enumerate(workers):
                    if worker.exitcode is not None:
                        assert worker.exitcode == 0, "a worker failed"
                        workers[place] = self._another()
                if done >= next_kill:
                    place = self._chance.randrange(WORKERS)
                    self._kill(workers[place])
                    workers[place] = self._another()
                    next_kill += REQUESTS // KILLS
                write(self._database, _give_back, wait_s=60.0)
                time.sleep(0.2)
        finally:
            for worker in workers:
                self._kill(worker)

    def let_the_dead_run_out(self) -> None:
        """Wait until nothing is held for those who were killed."""
        deadline = time.monotonic() + 120
        while read(self._database, reservations.all):
            assert time.monotonic() < deadline, "reservations of the dead do not run out"
            write(self._database, _give_back)
            time.sleep(0.5)

    def lines(self) -> list[str]:
        """Everything that the workers wrote down; the last line of a killed one may be cut off."""
        files = sorted(self._folder.glob("worker-*"))
        return [line for file in files for line in file.read_text(encoding="utf-8").split("\n")[:-1]]

    def outcomes(self) -> Counter[str]:
        """How often each outcome was met."""
        return Counter(line.partition(" ")[0] for line in self.lines())

    def _another(self) -> ForkServerProcess:
        self._seed += 1
        url = self._database.url.render_as_string(hide_password=False)
        file = self._folder / f"worker-{self._seed:03}"
        worker = _FORKS.Process(target=main, args=(url, file, self._seed, REQUESTS), daemon=True)
        worker.start()
        return worker

    def _kill(self, worker: ForkServerProcess) -> None:
        worker.kill()
        worker.join()
        self.killed += 1


def _give_back(connection: Connection) -> int:
    return reservations.delete(connection, reservations.expired(connection))


def _fill(database: Engine, account: str) -> Counter[str]:
    """Ask until the first no, one after the other; return the outcomes."""
    rules, user = store(), {"group:a": 0, "group:b": 2}[account]

    def once(connection: Connection) -> str:
        outcome, _ = ask(connection, rules, user, account)
        assert wrong(connection, outcome, account) == ""
        return outcome

    found: Counter[str] = Counter()
    while set(found) <= {"granted"}:
        found[write(database, once)] += 1
    return found
