"""The controller of one machine: devices counted, held while anything of a session lives, and free again after that."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from hub.admission import reservations
from hub.controller.lease import Lease, StaleEpoch
from hub.controller.local import Ours, Outcome, Watch, run
from hub.controller.loop import Publisher
from hub.controller.publish import latest
from hub.controller.status import Status
from hub.db.tables import reservations as table
from hub.db.transaction import read, write
from hub.db.upgrade import upgrade
from profiles.model import Catalogue
from spawner.capacity.model import Count
from spawner.devices.reader import Reader
from spawner.refusal import Refusal
from spawner.reservation import Reservation
from tests.hub.device_hub import DeviceHub, catalogue, database_of, settings_of
from tests.spawner.nvml_double import T4, FakeCard, FakeNvml

real = pytest.mark.hub  # real processes under accounts of their own: needs root


async def until(condition: Callable[[], object], within_s: float = 60) -> None:
    """Wait until a condition about the database or the machine holds."""
    async with asyncio.timeout(within_s):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


@dataclass
class Place:
    """The installation under test."""

    folder: Path
    engine: Engine
    status: Status = field(default_factory=lambda: Status(10))
    lease: Lease | None = None

    @asynccontextmanager
    async def counting(self, offered: Catalogue | None = None, reader: Reader | None = None) -> AsyncIterator[None]:
        """Let a controller lead and count; it has published when this begins."""
        lease = Lease(self.engine, "test", 0.05)
        self.lease = lease
        epoch = None
        while epoch is None:
            epoch = await asyncio.to_thread(lease.try_acquire)
            await asyncio.sleep(0.06)
        before = latest(self.engine).sequence
        stop = asyncio.Event()
        publisher = Publisher(self.engine, epoch, self.status)
        counting = asyncio.create_task(
            run(settings_of(self.folder), offered or catalogue(self.folder), publisher, stop, reader=reader)
        )
        try:
            await until(lambda: latest(self.engine).sequence > before or counting.done())
            yield
        finally:
            stop.set()
            await counting

    def count(self, key: str = "toy") -> Count:
        """Return the published count."""
        snapshot = latest(self.engine).snapshot
        assert snapshot is not None
        return snapshot.accelerators[key]

    def held(self) -> dict[str, bool]:
        """Return the ids of what is held, with whether it was seen."""
        return {one.id: one.seen for one in read(self.engine, reservations.all)}

    def hold(self, spawn_id: str, *devices: str, accelerator: str = "toy", expires_in_s: float = 600) -> None:
        """Put a reservation into the database, as a desk does."""
        one = Reservation(spawn_id, "ann", "", "server", accelerator, len(devices), devices=devices)
        write(self.engine, lambda connection: reservations.insert(connection, one, expires_in_s=expires_in_s))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "state").mkdir()
    engine = database_of(tmp_path)
    upgrade(engine)
    return Place(tmp_path, engine)


@pytest.fixture
async def hub(place: Place) -> AsyncIterator[DeviceHub]:
    hub = DeviceHub(place.folder)
    yield hub
    await hub.clear()


# --- what is counted and what is given back, on a clock of the test's own ------------------------------------------


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def one(spawn_id: str, *, seen: bool) -> Reservation:
    return Reservation(spawn_id, "ann", "", "server", "toy", 1, devices=("D",), seen=seen)


def test_what_never_ran_is_neither_counted_nor_given_back() -> None:
    clock = Clock()
    watch = Watch(clock)
    for clock.now in (0, 10, 10_000):
        assert watch.look({}, [one("a", seen=False)]) == Outcome()


def test_what_ran_is_given_back_when_nothing_of_it_ran_for_a_while() -> None:
    clock = Clock()
    watch = Watch(clock)
    a = one("a", seen=True)
    assert watch.look({"a": ("D",)}, [a]) == Outcome((a,))
    for clock.now in (1.0, 3.9):
        assert watch.look({}, [a]) == Outcome((a,))
    assert watch.look({"a": ("D",)}, [a]) == Outcome((a,))  # it began again under the same id
    for clock.now in (5.0, 7.9):
        assert watch.look({}, [a]) == Outcome((a,))
    clock.now = 8.0
    assert watch.look({}, [a]) == Outcome(gone=frozenset({"a"}))


def test_a_session_without_a_reservation_keeps_its_devices() -> None:
    watch = Watch(Clock())
    assert watch.look({"a": ("D", "E")}, []) == Outcome(stray=frozenset({"D", "E"}))
    assert watch.look({}, []) == Outcome()


def test_a_device_is_ours_until_a_look_that_began_after_it_was_let_go() -> None:
    ours = Ours()
    ours.look_begins()
    ours.look_ended()
    ours.hold(["D"])
    ours.hold([])
    assert ours.since_look == {"D"}
    ours.look_begins()
    ours.hold(["E"])
    ours.look_ended()
    assert ours.since_look == {"E"}
    ours.look_begins()  # it sees what runs on E, which is let go while the driver is slow
    ours.hold([])
    ours.look_ended()
    assert ours.since_look == {"E"}
    ours.look_begins()
    ours.look_ended()
    assert ours.since_look == set()


# --- the loop ----------------------------------------------------------------------------------------------------


async def test_imagined_devices_are_published_and_kept_fresh(place: Place) -> None:
    async with place.counting():
        assert (place.count().total, place.count().free, place.count().simulated) == (2, 2, True)
        first = latest(place.engine).sequence
        await until(lambda: latest(place.engine).sequence > first)  # although nothing changes
    assert place.status.problem == place.status.blind_because == ""


async def test_a_reservation_that_expired_without_ever_running_is_given_back(place: Place) -> None:
    place.hold("a" * 32, "SIMULATED-toy-0", expires_in_s=0)
    place.hold("b" * 32, "SIMULATED-toy-1")
    async with place.counting():
        await until(lambda: place.held() == {"b" * 32: False})


async def test_a_loop_whose_lease_is_lost_ends_with_that(place: Place) -> None:
    epoch = Lease(place.engine, "first", 0.01).try_acquire()
    assert epoch is not None
    publisher = Publisher(place.engine, epoch, place.status)
    counting = asyncio.create_task(run(settings_of(place.folder), catalogue(place.folder), publisher, asyncio.Event()))
    await until(lambda: latest(place.engine).sequence > 0)
    usurper = Lease(place.engine, "second", 0.01)
    await until(lambda: usurper.try_acquire() is not None)
    with pytest.raises(StaleEpoch):
        await asyncio.wait_for(counting, 60)


def cards(*names: str) -> Catalogue:
    """Return a catalogue with real T4 and an imagined device."""
    accelerators = {
        "t4": {"title": "T4", "local": {"product": T4}},
        "toy": {"title": "Toy", "simulated": {"count": 1}},
    }
    return Catalogue.model_validate({"accelerators": accelerators, "profiles": {"cpu": {"title": "CPU"}}})


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.controller.local._DEVICES_S", 0.05)


@pytest.mark.usefixtures("often")
async def test_a_card_that_breaks_is_held_back_and_comes_back_when_it_is_mended(place: Place) -> None:
    first, second = FakeCard("GPU-1"), FakeCard("GPU-2", minor=1)
    async with place.counting(cards(), Reader(FakeNvml(first, second))):
        assert place.count("t4").free == 2
        first.uncorrected = 1
        await until(lambda: place.count("t4").held_back == 1)
        assert place.count("t4").held_because == (("memory errors that could not be corrected: 1", 1),)
        first.uncorrected = 0
        await until(lambda: place.count("t4").free == 2)


async def test_a_card_is_free_at_once_when_its_session_ends_although_it_was_seen_to_compute(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What computes is seen at each look at the cards only, of which there is but one here."""
    monkeypatch.setattr("hub.controller.local._DEVICES_S", 3600)
    running = {"a" * 32: ("GPU-1",)}
    monkeypatch.setattr("hub.controller.local.holders", lambda launches: dict(running))
    place.hold("a" * 32, "GPU-1", accelerator="t4")
    async with place.counting(cards(), Reader(FakeNvml(FakeCard("GPU-1", pids=(4711,))))):
        assert place.count("t4").used_by_us == 1
        running.clear()
        write(place.engine, _lose_all)  # as its hub does
        await until(lambda: place.count("t4").used_by_us == 0)
        assert (place.count("t4").free, place.count("t4").used_by_others) == (1, 0)


@pytest.mark.usefixtures("often")
async def test_what_still_computes_at_the_next_look_is_somebody_elses(place: Place) -> None:
    place.hold("a" * 32, "GPU-1", accelerator="t4")
    async with place.counting(cards(), Reader(FakeNvml(FakeCard("GPU-1", pids=(4711,))))):
        assert place.count("t4").used_by_others == 0
        write(place.engine, _lose_all)
        await until(lambda: place.count("t4").used_by_others == 1)


@pytest.mark.usefixtures("often")
async def test_a_driver_that_hangs_makes_real_cards_unknown_and_nothing_else(place: Place) -> None:
    driver = FakeNvml(FakeCard("GPU-1"))
    async with place.counting(cards(), Reader(driver, timeout_s=0.2)):
        assert place.count("t4").free == 1
        driver.hangs = threading.Event()
        await until(lambda: place.count("t4") == Count(unknown="the NVIDIA driver does not answer"))
        assert place.count("toy").free == 1
        assert place.status.blind_because.startswith("The NVIDIA driver does not answer. A question to it is open for")
        driver.hangs.set()
        await until(lambda: place.count("t4").free == 1)
        assert place.status.blind_because == ""


async def test_without_a_driver_the_counts_say_so_and_the_log_says_what_to_do(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """The real library, on this machine without one."""
    async with place.counting(cards(), Reader()):
        assert place.count("t4") == Count(unknown="this machine has no NVIDIA driver")
    (said,) = [record.getMessage() for record in caplog.records if record.name == "hub.controller.local"]
    assert "install their driver" in said


# --- with real sessions --------------------------------------------------------------------------------------------


@real
async def test_each_device_goes_to_one_session_and_is_free_at_once_when_that_ends(place: Place, hub: DeviceHub) -> None:
    async with place.counting():
        await asyncio.gather(hub.ask_for(name="ann"), hub.ask_for(name="ben"))
        given = {claim.record.user: claim.record.devices for claim in hub.claims()}
        assert sorted(given.values()) == [("SIMULATED-toy-0",), ("SIMULATED-toy-1",)]
        await until(lambda: place.count().used_by_us == 2)
        with pytest.raises(Refusal, match="in use") as caught:
            await hub.ask_for(name="eve")
        assert caught.value.code == "full"
        assert sorted(place.held().values()) == [True, True]
        os.kill(next(claim.process.pid for claim in hub.claims() if claim.process), signal.SIGKILL)
        await until(lambda: len(place.held()) == 1)
        await until(lambda: place.count().free == 1)
        await hub.ask_for(name="eve")
        assert len(place.held()) == 2


def kill_hub(place: Place, step: str) -> None:
    """Let a hub start a session with both devices and be killed at this step."""
    argv = [sys.executable, "-m", "tests.hub.device_hub", str(place.folder), step]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL, done.stderr


@real
async def test_what_a_killed_hub_handed_out_is_held_until_the_last_process_is_gone(
    place: Place, hub: DeviceHub
) -> None:
    async with place.counting():
        await asyncio.to_thread(kill_hub, place, "started")
        await until(lambda: list(place.held().values()) == [True])
        assert (place.count().used_by_us, place.count().free) == (2, 0)
        (claim,) = hub.claims()
        assert claim.process is not None
        (left,) = set(hub.sessions()) - {claim.process.pid}
        os.kill(claim.process.pid, signal.SIGKILL)
    async with place.counting():  # another controller, which remembers nothing
        first = latest(place.engine).sequence
        await until(lambda: latest(place.engine).sequence > first + 2)
        assert list(place.held().values()) == [True]  # the daemon still has the devices
        os.kill(left, signal.SIGKILL)
        await until(lambda: place.held() == {})
        await until(lambda: place.count().free == 2)


@real
@pytest.mark.parametrize("step", ["reserved", "planned"])
async def test_what_a_hub_held_that_was_killed_before_anything_ran_is_given_back_at_its_next_start(
    place: Place, hub: DeviceHub, step: str
) -> None:
    async with place.counting():
        await asyncio.to_thread(kill_hub, place, step)
        assert list(place.held().values()) == [False]
        write(place.engine, _let_expire)
        await until(lambda: place.held() == {})
        await hub.ask_for(2)
        assert len(place.held()) == 1


def _let_expire(connection: Connection) -> None:
    connection.execute(table.update().values(expires_at=0))


@real
async def test_a_restarted_hub_finds_its_session_and_what_it_holds(place: Place, hub: DeviceHub) -> None:
    async with place.counting():
        await asyncio.to_thread(kill_hub, place, "started")
        await until(lambda: list(place.held().values()) == [True])
        spawner = hub.spawner()
        assert await spawner.poll() is None
        await spawner.stop(now=True)
        assert place.held() == {}


@real
async def test_a_session_whose_reservation_is_lost_keeps_its_device(place: Place, hub: DeviceHub) -> None:
    async with place.counting():
        await hub.ask_for()
        await until(lambda: list(place.held().values()) == [True])
        write(place.engine, _lose_all)
        await until(lambda: any(state.problem for state in latest(place.engine).snapshot.devices))  # type: ignore[union-attr]
        assert (place.count().used_by_us, place.count().free) == (1, 1)
        await hub.ask_for(name="ben")
        used = [claim.record.devices for claim in hub.claims()]
        assert sorted(used) == [("SIMULATED-toy-0",), ("SIMULATED-toy-1",)]


def _lose_all(connection: Connection) -> None:
    connection.execute(table.delete())
