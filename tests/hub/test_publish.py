"""What the controller publishes, and what that means for the reservations: all at once, or not at all."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError
from sqlalchemy import Connection, Engine, text, update

from hub.admission import reservations
from hub.controller.lease import Lease, StaleEpoch
from hub.controller.publish import latest, publish
from hub.db.tables import reservations as table
from hub.db.tables import snapshot
from hub.db.transaction import read, write
from spawner.capacity.model import Count, DeviceState, Fit, Snapshot
from spawner.reservation import Reservation

FULL = Snapshot(
    "local",
    datetime(2026, 11, 21, 15, 0, tzinfo=UTC),
    {
        "t4": Count(3, 1, 1, 1, 0, (("cordoned", 0),), (Fit(1, 14_000, 2**36),), (), "", True),
        "ü/odd.name": Count(unknown="it is not counted yet — why: »quoted«"),
    },
    blind_since=datetime(2026, 11, 21, 14, 0, tzinfo=UTC),
    versions={"pods": "123456789012345678901234567890"},
    devices=(DeviceState("SIMULATED-t4-0", "t4", 2, "broken", True),),
)


def hold(database: Engine, *ids: str, expires_in_s: float = 600) -> None:
    def work(connection: Connection) -> None:
        for one in ids:
            held = Reservation(one, "ann", "", "gpu", "t4", 1, 1000, 2**33, ("GPU-1", "GPU-2"))
            reservations.insert(connection, held, expires_in_s=expires_in_s)

    write(database, work)


def held(database: Engine) -> dict[str, bool]:
    """Ids of what is held, with whether it was seen."""
    return {one.id: one.seen for one in read(database, reservations.all)}


@pytest.fixture
def epoch(database: Engine) -> int:
    """Somebody leads."""
    return Lease(database, "me", 60).try_acquire() or 0


def test_there_is_none_at_first(database: Engine) -> None:
    assert latest(database) == (0, None, None)


def test_what_is_published_is_read_as_it_was_and_each_has_a_number(database: Engine, epoch: int) -> None:
    before = datetime.now(UTC).timestamp()
    assert publish(database, epoch, FULL) == 1
    assert publish(database, epoch, FULL) == 2
    sequence, found, published_at = latest(database)
    assert (sequence, found) == (2, FULL)
    assert published_at is not None
    assert published_at.tzinfo is UTC
    assert before - 1 < published_at.timestamp() < datetime.now(UTC).timestamp() + 1


def test_reservations_that_it_shows_are_seen_and_ended_ones_are_given_back(database: Engine, epoch: int) -> None:
    hold(database, "a", "b", "c", "d")
    publish(database, epoch, FULL, seen=["a", "b", "never heard of"], gone=["c", "neither of this"])
    assert held(database) == {"a": True, "b": True, "d": False}
    publish(database, epoch, FULL, seen=["a"], gone=["b"])
    assert held(database) == {"a": True, "d": False}


def test_ten_thousand_pods_are_no_problem(database: Engine, epoch: int) -> None:
    ids = [f"{number:032x}" for number in range(1200)]
    hold(database, *ids)
    others = [f"other-{number}" for number in range(10_000)]
    publish(database, epoch, FULL, seen=ids[:600] + others, gone=ids[600:] + others)
    assert held(database) == dict.fromkeys(ids[:600], True)


def test_expired_ones_are_given_back_unless_they_were_seen(database: Engine, epoch: int) -> None:
    hold(database, "seen", "late", expires_in_s=-1)
    hold(database, "young")
    publish(database, epoch, FULL, seen=["seen"])
    assert held(database) == {"seen": True, "young": False}


def test_expiry_is_by_the_databases_clock(database: Engine, epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    hold(database, "young", expires_in_s=60)
    monkeypatch.setattr(time, "time", lambda: 9e9)
    publish(database, epoch, FULL)
    assert held(database) == {"young": False}
    write(database, lambda connection: connection.execute(update(table).values(expires_at=table.c.expires_at - 60)))
    publish(database, epoch, FULL)
    assert held(database) == {}


def test_a_former_leader_publishes_nothing_and_gives_nothing_back(database: Engine, epoch: int) -> None:
    hold(database, "a", "b")
    hold(database, "late", expires_in_s=-1)
    with pytest.raises(StaleEpoch):
        publish(database, epoch - 1, FULL, seen=["a"], gone=["b"])
    assert held(database) == {"a": False, "b": False, "late": False}
    assert latest(database).sequence == 0


def test_a_reader_never_sees_half_of_it(database: Engine, epoch: int) -> None:
    """Each publication swaps which of two is held; a reader that saw half would see both or none."""
    hold(database, "even")
    stop = threading.Event()
    seen: set[frozenset[str]] = set()

    def look() -> None:
        while not stop.is_set():
            seen.add(frozenset(held(database)))

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for number in range(30):
            mine, other = ("odd", "even") if number % 2 == 0 else ("even", "odd")

            def swap(connection: Connection, mine: str = mine, other: str = other) -> None:
                reservations.insert(connection, Reservation(mine, "u", "", "p"), expires_in_s=60)
                reservations.delete(connection, [other])

            write(database, swap)
    finally:
        stop.set()
        reader.join()
    assert seen <= {frozenset({"odd"}), frozenset({"even"})}


def test_counts_of_another_version_are_an_error_of_their_own(database: Engine, epoch: int) -> None:
    publish(database, epoch, FULL)
    write(database, lambda connection: connection.execute(update(snapshot).values(document='{"engine": "quantum"}')))
    with pytest.raises(ValidationError):
        latest(database)


def test_a_reservation_comes_back_as_it_was(database: Engine) -> None:
    wanted = Reservation("i", "ä/b", "named", "p", None, 0, None, None, (), False)
    full = Reservation("j", "ben", "", "gpu", "a100-1g.5gb", 2, 14_500, 2**40, ("MIG-1", "MIG-2"), True)

    def insert_both(connection: Connection) -> None:
        reservations.insert(connection, wanted, expires_in_s=60)
        reservations.insert(connection, full, expires_in_s=60)

    write(database, insert_both)
    assert set(read(database, reservations.all)) == {wanted, full}
    assert read(database, lambda connection: reservations.find(connection, "j")) == full
    assert read(database, lambda connection: reservations.find(connection, "k")) is None
    assert (
        read(database, lambda c: c.scalar(text("SELECT count(*) FROM reservations WHERE expires_at > reserved_at")))
        == 2
    )
