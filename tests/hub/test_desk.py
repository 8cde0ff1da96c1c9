"""The desk: never promises anything twice, never makes anybody wait for a database that is away."""

from __future__ import annotations

import asyncio
import copy
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, update

from hub.admission import reservations
from hub.admission.desk import SqlDesk
from hub.admission.memory import Memory
from hub.admission.view import View
from hub.controller.lease import Lease
from hub.controller.publish import publish
from hub.db.engine import connect
from hub.db.tables import snapshot
from hub.db.transaction import read, write
from hub.db.upgrade import upgrade
from profiles.loader import load
from profiles.model import Catalogue
from profiles.model import Engine as EngineKind
from spawner.capacity.availability import Availability
from spawner.capacity.model import Count, DeviceState, Fit, Snapshot
from spawner.protocols import CapacityDesk
from spawner.refusal import Refusal
from spawner.reservation import Reservation
from tests.databases import program

TAKEN_AT = datetime(2026, 11, 21, 15, 0, tzinfo=UTC)
ROOM = (Fit(4, 64_000, 2**38),)
CARDS = Snapshot(
    "kubernetes",
    TAKEN_AT,
    {"card": Count(total=5, free=3, used_by_us=1, used_by_others=1, fits_now=ROOM, fits_empty=ROOM)},
)
DEVICES = Snapshot(
    "local",
    TAKEN_AT,
    {"card": Count(total=3, free=3, fits_now=ROOM, fits_empty=ROOM)},
    devices=tuple(DeviceState(f"GPU-{number}", "card") for number in range(3)),
)
CATALOGUE = """
accelerators:
  card: {title: Card, simulated: {count: 3}}
images:
  lab: {title: Lab, local: {}}
profiles:
  gpu: {title: GPU, options: {image: [lab], cpu: 1, accelerator: [card]}}
"""


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    file = tmp_path_factory.mktemp("catalogue") / "catalogue.yaml"
    file.write_text(CATALOGUE)
    return load(file)


class Counter:
    """Publishes as the controller that leads."""

    def __init__(self, database: Engine) -> None:
        self.database = database
        self.epoch = Lease(database, "counter", 60).try_acquire() or 0

    def publish(self, snapshot: Snapshot, **what: Any) -> None:
        publish(self.database, self.epoch, snapshot, **what)


@pytest.fixture
def counter(database: Engine) -> Counter:
    return Counter(database)


@pytest.fixture
def desk_of(catalogue: Catalogue) -> Callable[..., SqlDesk]:
    def make(database: Engine, kind: EngineKind = "kubernetes", **options: Any) -> SqlDesk:
        return SqlDesk(database, engine_kind=kind, catalogue=catalogue, **{"stale_after_s": 60, **options})

    return make


@pytest.fixture
def desk(database: Engine, desk_of: Callable[..., SqlDesk]) -> SqlDesk:
    return desk_of(database)


def wish(number: int = 0, user: str = "ann", count: int = 1) -> Reservation:
    return Reservation(f"start-{number}", user, "", "gpu", "card", count, 1000, 2**30)


def ids(database: Engine) -> list[str]:
    return sorted(held.id for held in read(database, reservations.all))


# --- what is free ------------------------------------------------------------------------------------------------


async def test_nothing_is_known_before_anything_was_counted(desk: SqlDesk) -> None:
    assert isinstance(desk, CapacityDesk)
    assert await desk.availability() == Availability()


async def test_what_was_counted_is_known_with_what_was_granted_since(desk: SqlDesk, counter: Counter) -> None:
    counter.publish(CARDS)
    await desk.reserve(wish(), expires_in_s=60)
    known = await desk.availability()
    assert known.fresh
    assert known.snapshot == CARDS
    assert known.as_of is not None
    free = known.free("card", "ann")
    assert (free.free, free.mine, free.others) == (2, 1, 2)
    counter.publish(CARDS, seen=["start-0"])
    later = await desk_again(desk)
    assert later.free("card", "ann").free == 3  # the snapshot counts it by itself now


async def desk_again(desk: SqlDesk) -> Availability:
    """What the desk says when what it knew has become too old to be repeated."""
    desk._known_until = 0.0
    return await desk.availability()


async def test_what_is_blind_is_not_fresh_and_as_of_the_last_sight(desk: SqlDesk, counter: Counter) -> None:
    since = datetime(2026, 11, 21, 14, 0, tzinfo=UTC)
    counter.publish(replace(CARDS, blind_since=since))
    known = await desk.availability()
    assert (known.fresh, known.as_of) == (False, since)
    assert known.free("card").free is None


async def test_counts_of_another_version_are_none(desk: SqlDesk, counter: Counter, database: Engine) -> None:
    counter.publish(CARDS)
    write(database, lambda connection: connection.execute(update(snapshot).values(document='{"odd": 1}')))
    known = await desk.availability()
    assert (known.snapshot, known.fresh) == (None, False)


class Clock:
    """A clock that goes on when it is told to."""

    now = 500.0

    def __call__(self) -> float:
        return self.now


def seen(database: Engine, view: View) -> Availability:
    return read(database, lambda connection: view.of(connection, Memory().look(connection)))


def test_counts_become_stale_unless_new_ones_come(database: Engine, counter: Counter) -> None:
    clock = Clock()
    view = View(15, clock=clock)
    counter.publish(CARDS)
    assert seen(database, view).fresh
    clock.now += 14
    assert seen(database, view).fresh
    clock.now += 2
    assert not seen(database, view).fresh
    counter.publish(CARDS)
    assert seen(database, view).fresh


def test_counts_that_were_old_when_first_met_are_stale_and_stay_so(database: Engine, counter: Counter) -> None:
    counter.publish(CARDS)
    write(
        database,
        lambda connection: connection.execute(update(snapshot).values(published_at=snapshot.c.published_at - 16)),
    )
    assert not seen(database, View(15)).fresh


def test_a_clock_that_was_set_back_makes_nothing_young_again(database: Engine, counter: Counter) -> None:
    """The database's clock says that they are of tomorrow: they count from their first sight, no longer."""
    clock = Clock()
    view = View(15, clock=clock)
    counter.publish(CARDS)
    write(
        database,
        lambda connection: connection.execute(update(snapshot).values(published_at=snapshot.c.published_at + 86_400)),
    )
    assert seen(database, view).fresh
    clock.now += 16
    assert not seen(database, view).fresh


async def test_a_thousand_who_look_at_once_ask_the_database_once(
    desk_of: Callable[..., SqlDesk], database: Engine
) -> None:
    desk, asked = desk_of(database, clock=lambda: 1.0), []

    @event.listens_for(database, "begin")
    def count(connection: object) -> None:
        asked.append(connection)

    await asyncio.gather(*(desk.availability() for _ in range(1000)))
    assert len(asked) == 1
    await asyncio.gather(*(desk.availability() for _ in range(1000)))
    assert len(asked) == 1
    await desk_again(desk)
    assert len(asked) == 2


async def test_one_who_gives_up_does_not_end_it_for_the_others(desk: SqlDesk, counter: Counter) -> None:
    counter.publish(CARDS)
    impatient = asyncio.create_task(desk.availability())
    patient = asyncio.create_task(desk.availability())
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).fresh


def test_other_event_loops_of_the_process_may_ask_too(desk: SqlDesk, counter: Counter) -> None:
    counter.publish(CARDS)
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(asyncio.run, desk_again(desk)) for _ in range(4)]
    assert all(done.result().fresh for done in asked)


def test_configuration_copies_keep_one_desk(desk: SqlDesk) -> None:
    assert copy.deepcopy({"desk": desk})["desk"] is desk


# --- handing out -------------------------------------------------------------------------------------------------


async def test_a_reservation_is_made_once_for_one_start(desk: SqlDesk, counter: Counter, database: Engine) -> None:
    counter.publish(CARDS)
    first = await desk.reserve(wish(1, count=3), expires_in_s=60)
    assert await desk.reserve(wish(1, count=3), expires_in_s=60) == first
    assert ids(database) == ["start-1"]
    with pytest.raises(Refusal) as refused:
        await desk.reserve(wish(2), expires_in_s=60)
    assert (refused.value.code, refused.value.status_code) == ("queued", 409)
    assert ids(database) == ["start-1"]


async def test_what_was_given_back_may_be_had_again(desk: SqlDesk, counter: Counter, database: Engine) -> None:
    counter.publish(CARDS)
    await desk.reserve(wish(1, count=3), expires_in_s=60)
    await desk.release("start-1")
    await desk.release("start-1")
    await desk.release("never was")
    await desk.reserve(wish(2, count=3), expires_in_s=60)
    assert ids(database) == ["start-2"]


async def test_fifty_at_once_get_the_last_three(desk: SqlDesk, counter: Counter, database: Engine) -> None:
    counter.publish(CARDS)
    answers = await asyncio.gather(
        *(desk.reserve(wish(number, f"user{number}"), expires_in_s=60) for number in range(50)), return_exceptions=True
    )
    granted = [answer for answer in answers if isinstance(answer, Reservation)]
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert (len(granted), len(refused)) == (3, 47)
    assert {answer.code for answer in refused} == {"queued"}
    assert ids(database) == sorted(answer.id for answer in granted)


async def test_fifty_at_once_get_three_devices_one_each(
    desk_of: Callable[..., SqlDesk], counter: Counter, database: Engine
) -> None:
    desk = desk_of(database, "local")
    counter.publish(DEVICES)
    answers = await asyncio.gather(
        *(desk.reserve(wish(number), expires_in_s=60) for number in range(50)), return_exceptions=True
    )
    granted = [answer.devices for answer in answers if isinstance(answer, Reservation)]
    assert sorted(itertools.chain(*granted)) == ["GPU-0", "GPU-1", "GPU-2"]
    assert sum(isinstance(answer, Refusal) for answer in answers) == 47


# Waits for a word, then asks for ten cards at once; says how many it got.
GREEDY = """
import asyncio, sys
from pathlib import Path
from hub.admission.desk import SqlDesk
from hub.db.engine import connect
from profiles.loader import load
from spawner.refusal import Refusal
from spawner.reservation import Reservation

url, name, file = sys.argv[1:]
desk = SqlDesk(connect(url), engine_kind="kubernetes", catalogue=load(Path(file)), stale_after_s=600)

async def main():
    await desk.availability()
    print("ready", flush=True)
    sys.stdin.readline()
    wishes = [Reservation(f"{name}-{n}", name, "", "gpu", "card", 1, 1000, 2**30) for n in range(10)]
    answers = await asyncio.gather(*(desk.reserve(w, expires_in_s=60) for w in wishes), return_exceptions=True)
    print(sum(isinstance(a, Reservation) for a in answers), sum(isinstance(a, Refusal) for a in answers))

asyncio.run(main())
"""


def test_processes_that_ask_at_once_get_the_last_three(
    counter: Counter, database: Engine, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "catalogue.yaml").write_text(CATALOGUE)
    counter.publish(CARDS)
    processes = [program(GREEDY, database_url, f"p{n}", str(tmp_path / "catalogue.yaml")) for n in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sum(int(granted) for granted, _ in answers) == 3
    assert sum(int(refused) for _, refused in answers) == 37
    assert len(ids(database)) == 3


# --- the database is away ----------------------------------------------------------------------------------------


@pytest.fixture
def broken(database: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While this is set the database is not reached: its file's folder, or the server, is not there."""
    away = threading.Event()

    @event.listens_for(database, "do_connect")
    def refuse(*arguments: object) -> None:
        if away.is_set():
            raise ConnectionRefusedError("nobody listens")

    yield away
    event.remove(database, "do_connect", refuse)


async def test_while_the_database_is_away_the_old_counts_are_shown_as_old(
    desk: SqlDesk, counter: Counter, database: Engine, broken: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    counter.publish(CARDS)
    assert (await desk.availability()).fresh
    database.dispose()
    broken.set()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            known = await desk_again(desk)
            assert (known.snapshot, known.fresh) == (CARDS, False)
    assert len([record for record in caplog.records if "cannot be read" in record.message]) == 1
    broken.clear()
    assert (await desk_again(desk)).fresh


async def test_while_the_database_is_away_nothing_is_handed_out(
    desk: SqlDesk, counter: Counter, database: Engine, broken: threading.Event
) -> None:
    counter.publish(CARDS)
    database.dispose()
    broken.set()
    with pytest.raises(Refusal) as refused:
        await desk.reserve(wish(), expires_in_s=60)
    assert (refused.value.code, refused.value.status_code) == ("database-away", 503)
    assert "Try again" in refused.value.text
    assert refused.value.headers["Retry-After"]
    with pytest.raises(OSError, match="nobody listens"):
        await desk.release("start-0")
    broken.clear()
    await desk.reserve(wish(), expires_in_s=60)
    assert ids(database) == ["start-0"]


async def test_tables_that_are_missing_are_an_answer_too(database_url: str, desk_of: Callable[..., SqlDesk]) -> None:
    engine = connect(database_url)
    desk = desk_of(engine)
    assert await desk.availability() == Availability()
    with pytest.raises(Refusal) as refused:
        await desk.reserve(wish(), expires_in_s=60)
    assert refused.value.code == "database-away"
    said = str(refused.value.log_message)
    assert "no such table" in said or "does not exist" in said
    upgrade(engine)
    assert await desk.reserve(wish(), expires_in_s=60) == replace(wish(), account="user:ann", share=1.0)
    engine.dispose()


async def test_nobody_waits_long_for_a_database_that_does_not_answer(
    desk: SqlDesk, counter: Counter, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter.publish(CARDS)
    assert (await desk.availability()).fresh
    monkeypatch.setattr("hub.admission.desk._ANSWER_S", 0.05)
    answer = threading.Event()

    @event.listens_for(database, "begin")
    def hang(connection: object) -> None:
        answer.wait(30)

    known = await asyncio.gather(*(desk_again(desk) for _ in range(20)))
    assert [(one.snapshot, one.fresh) for one in known] == [(CARDS, False)] * 20
    answer.set()
    while not (await desk.availability()).fresh:
        await asyncio.sleep(0.01)
