"""One controller acts; another takes over when it is silent; what a former one writes is refused."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, insert, select, update

from hub.controller.lease import Lease, StaleEpoch, fenced
from hub.db.clock import Now
from hub.db.tables import lease, uids
from hub.db.transaction import DatabaseAway, read, write
from tests.databases import program


@dataclass
class Clock:
    """A clock that goes on when it is told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def two(database: Engine, clock: Clock) -> tuple[Lease, Lease]:
    """Two candidates for one lease of 10 s."""
    return Lease(database, "first", 10, clock=clock), Lease(database, "second", 10, clock=clock)


def note(connection: Connection, name: str) -> None:
    connection.execute(insert(uids).values(uid=len(noted(connection)) + 1, user_name=name, given_at=Now()))


def noted(connection: Connection) -> list[str]:
    return list(connection.scalars(select(uids.c.user_name).order_by(uids.c.uid)))


# --- who leads ---------------------------------------------------------------------------------------------------


def test_the_first_that_asks_leads_and_the_second_does_not(two: tuple[Lease, Lease]) -> None:
    first, second = two
    assert first.try_acquire() == 1
    assert (first.leading, first.epoch) == (True, 1)
    assert second.try_acquire() is None
    assert (second.leading, second.epoch) == (False, None)


def test_of_many_that_ask_at_once_one_leads(database: Engine) -> None:
    with ThreadPoolExecutor(20) as threads:
        asked = [threads.submit(Lease(database, f"number {number}", 10).try_acquire) for number in range(20)]
    assert sorted(str(done.result()) for done in asked) == ["1", *["None"] * 19]


def test_one_that_renews_is_never_taken_over(two: tuple[Lease, Lease], clock: Clock) -> None:
    first, second = two
    first.try_acquire()
    for _ in range(20):
        assert second.try_acquire() is None
        clock.now += 9
        first.renew()
    assert first.leading


def test_one_that_is_silent_is_taken_over_after_the_lease_and_not_before(
    two: tuple[Lease, Lease], clock: Clock
) -> None:
    first, second = two
    first.try_acquire()
    clock.now += 5
    assert second.try_acquire() is None  # the first look: silence is measured from here
    clock.now += 9.9
    assert second.try_acquire() is None
    clock.now += 0.1
    assert second.try_acquire() == 2
    assert not first.leading
    with pytest.raises(StaleEpoch, match="second leads under epoch 2"):
        first.renew()
    assert first.epoch is None
    with pytest.raises(StaleEpoch):
        first.renew()


def test_one_that_could_not_renew_in_time_knows_that_it_may_not_lead_any_more(
    two: tuple[Lease, Lease], clock: Clock
) -> None:
    first, _ = two
    first.try_acquire()
    clock.now += 10
    assert not first.leading
    first.renew()  # nobody took over meanwhile
    assert first.leading


def test_the_lead_that_was_given_back_is_taken_at_once(two: tuple[Lease, Lease]) -> None:
    first, second = two
    first.try_acquire()
    first.release()
    assert not first.leading
    assert second.try_acquire() == 2
    second.release()
    assert first.try_acquire() == 3


def test_giving_back_what_another_one_has_by_now_does_nothing(two: tuple[Lease, Lease], clock: Clock) -> None:
    first, second = two
    first.try_acquire()
    second.try_acquire()
    clock.now += 10
    assert second.try_acquire() == 2
    first.release()
    second.renew()
    assert second.leading
    first.release()


def test_one_that_leads_and_asks_again_renews(two: tuple[Lease, Lease], clock: Clock) -> None:
    first, second = two
    assert first.try_acquire() == 1
    assert second.try_acquire() is None
    clock.now += 9
    assert first.try_acquire() == 1
    clock.now += 9
    assert second.try_acquire() is None
    assert first.leading


def test_one_that_asks_again_after_it_was_taken_over_stands_by(two: tuple[Lease, Lease], clock: Clock) -> None:
    first, second = two
    first.try_acquire()
    second.try_acquire()
    clock.now += 10
    second.try_acquire()
    assert first.try_acquire() is None
    assert first.epoch is None


def test_wall_clocks_that_jump_change_nothing(
    two: tuple[Lease, Lease], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    first.try_acquire()
    assert second.try_acquire() is None
    for jump in (86_400 * 365, -86_400 * 365):
        monkeypatch.setattr(time, "time", lambda jump=jump: 1.8e9 + jump)
        assert second.try_acquire() is None
        assert first.leading
    clock.now += 10
    assert second.try_acquire() == 2


# --- what a former leader writes ---------------------------------------------------------------------------------


def test_who_leads_may_write_and_a_former_one_may_not(database: Engine, two: tuple[Lease, Lease], clock: Clock) -> None:
    first, second = two
    old = first.try_acquire() or 0
    fenced(database, old, lambda connection: note(connection, "by the first"))
    second.try_acquire()
    clock.now += 10
    new = second.try_acquire() or 0
    with pytest.raises(StaleEpoch, match="epoch 1 is over"):
        fenced(database, old, lambda connection: note(connection, "too late"))
    fenced(database, new, lambda connection: note(connection, "by the second"))
    assert read(database, noted) == ["by the first", "by the second"]


def test_nobody_writes_under_a_lead_that_was_given_back_or_never_was(
    database: Engine, two: tuple[Lease, Lease]
) -> None:
    first, _ = two
    with pytest.raises(StaleEpoch, match="nobody leads"):
        fenced(database, 1, lambda connection: note(connection, "never led"))
    first.try_acquire()
    first.release()
    with pytest.raises(StaleEpoch, match="nobody leads"):
        fenced(database, 1, lambda connection: note(connection, "given back"))
    assert read(database, noted) == []


def test_a_take_over_waits_for_a_write_that_has_begun(database: Engine, two: tuple[Lease, Lease], clock: Clock) -> None:
    first, second = two
    epoch = first.try_acquire() or 0
    second.try_acquire()
    clock.now += 10
    with ThreadPoolExecutor(1) as threads:
        taking = []

        def work(connection: Connection) -> None:
            taking.append(threads.submit(second.try_acquire))
            note(connection, "begun before")
            assert not taking[0].done()

        fenced(database, epoch, work)
        assert taking[0].result() == 2
    assert read(database, noted) == ["begun before"]


# --- processes ---------------------------------------------------------------------------------------------------

# Leads when it can, and writes one row under its epoch whenever it is told to; says what happens.
CANDIDATE = """
import os, sys, threading, time
from sqlalchemy import func, insert, select
from hub.controller.lease import Lease, StaleEpoch, fenced
from hub.db.clock import Now
from hub.db.engine import connect
from hub.db.tables import uids

engine = connect(sys.argv[1])
lease = Lease(engine, sys.argv[2], float(sys.argv[3]))

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # a line at once: two threads speak

def note(connection):
    highest = connection.scalar(select(func.max(uids.c.uid))) or 0
    connection.execute(insert(uids).values(uid=highest + 1, user_name=f"{sys.argv[2]} {highest + 1}", given_at=Now()))

while lease.try_acquire() is None:
    time.sleep(0.05)
say("leads", lease.epoch)
epoch = lease.epoch
def orders():
    for line in sys.stdin:
        try:
            fenced(engine, epoch, note)
            say("wrote")
        except StaleEpoch:
            say("refused")
threading.Thread(target=orders, daemon=True).start()
try:
    while True:
        time.sleep(float(sys.argv[3]) / 5)
        lease.renew()
except StaleEpoch:
    say("lost")
    time.sleep(60)
"""


class Candidate:
    """A process that wants to lead."""

    def __init__(self, url: str, name: str, lease_s: float) -> None:
        self.process = program(CANDIDATE, url, name, str(lease_s))

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def write(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def stop(self, database: Engine) -> None:
        """Stop it between two of its transactions; within one it would hold SQLite's lock for as long as it stands."""
        while True:
            self.process.send_signal(signal.SIGSTOP)
            while "State:\tT" not in Path(f"/proc/{self.process.pid}/status").read_text():
                time.sleep(0.005)
            with contextlib.suppress(DatabaseAway):
                write(database, noted, wait_s=0.05)
                return
            self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def candidate(database: Engine, database_url: str) -> Iterator[Callable[..., Candidate]]:
    made: list[Candidate] = []

    def make(name: str, lease_s: float = 2.0) -> Candidate:
        made.append(Candidate(database_url, name, lease_s))
        return made[-1]

    yield make
    for one in made:
        one.end()


def test_another_process_takes_over_from_one_that_was_killed(candidate: Callable[..., Candidate]) -> None:
    first = candidate("first")
    assert first.says() == "leads 1"
    second = candidate("second")
    first.process.kill()
    assert second.says() == "leads 2"
    second.write()
    assert second.says() == "wrote"


def test_one_that_was_stopped_too_long_can_do_no_harm_when_it_goes_on(
    candidate: Callable[..., Candidate], database: Engine
) -> None:
    first = candidate("first")
    assert first.says() == "leads 1"
    first.write()
    assert first.says() == "wrote"
    second = candidate("second")
    first.stop(database)
    first.write()  # it will find this order when it goes on, and still believes that it leads
    assert second.says() == "leads 2"
    first.process.send_signal(signal.SIGCONT)
    assert {first.says(), first.says()} == {"refused", "lost"}
    second.write()
    assert second.says() == "wrote"
    assert read(database, noted) == ["first 1", "second 2"]


def test_the_default_lease_is_taken_over_within_15_seconds(two: tuple[Lease, Lease], clock: Clock) -> None:
    """What is promised of the shipped settings: 10 s of silence and looks that are 2 s apart."""
    from hub.settings.background import ControllerSettings

    first, second = two
    first.lease_s = second.lease_s = ControllerSettings().lease_s
    first.try_acquire()
    assert second.try_acquire() is None
    first.renew()  # its last one, and the second has just looked: the worst moment to die
    killed_at = clock.now
    while second.try_acquire() is None:
        clock.now += 2.0
    assert clock.now - killed_at <= 15


def test_the_lease_of_a_former_database_goes_on_where_it_was(database: Engine, clock: Clock) -> None:
    write(database, lambda c: c.execute(insert(lease).values(name="controller", epoch=41, renewals=7, holder=None)))
    assert Lease(database, "first", 10, clock=clock).try_acquire() == 42
    write(database, lambda c: c.execute(update(lease).values(holder="somebody")))
    assert Lease(database, "second", 10, clock=clock).try_acquire() is None


@pytest.mark.parametrize(("holder", "lease_s"), [("", 10), ("me", 0), ("me", -1)])
def test_a_lease_without_holder_or_time_is_a_mistake(holder: str, lease_s: float, database: Engine) -> None:
    with pytest.raises(ValueError, match="lease"):
        Lease(database, holder, lease_s)
