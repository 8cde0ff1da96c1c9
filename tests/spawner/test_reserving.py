"""Holding before making, and giving back: what the engines ask of the desk."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from profiles.access import Person
from spawner.capacity.availability import Availability
from spawner.protocols import CapacityDesk
from spawner.refusal import Refusal
from spawner.request import Request
from spawner.reservation import Reservation
from tests.spawner.catalogues import catalogue
from tests.spawner.test_core import Idle

ASKED = Request("gpu", accelerator="t4", count=2)


class Desk:
    """A desk that remembers what it holds and can be away."""

    def __init__(self, *, away: bool = False, full: bool = False) -> None:
        self.held: dict[str, Reservation] = {}
        self.away, self.full = away, full

    def __deepcopy__(self, memo: object) -> Desk:
        return self

    async def availability(self) -> Availability:
        return Availability(reservations=tuple(self.held.values()))

    async def reserve(self, wanted: Reservation, *, expires_in_s: float, person: Person | None = None) -> Reservation:
        if self.full:
            raise Refusal("full", "All 2 T4 are in use: 2 by others.", status=409)
        assert expires_in_s > 0
        return self.held.setdefault(wanted.id, wanted)

    async def release(self, spawn_id: str) -> None:
        if self.away:
            raise OSError("the database does not answer")
        self.held.pop(spawn_id, None)


def at(desk: Desk | None) -> Any:
    user = SimpleNamespace(name="researcher", groups=[], admin=False)
    made: Any = Idle(catalogue=catalogue(), user=user, desk=desk)
    made.spawn_id = made.new_spawn_id()
    return made


def test_the_double_is_a_desk() -> None:
    assert isinstance(Desk(), CapacityDesk)


async def test_what_is_held_says_who_what_and_how_much() -> None:
    desk = Desk()
    made = at(desk)
    held = await made.reserve(ASKED, cpu=0.5, memory=2**30, expires_in_s=60)
    assert held is desk.held[made.spawn_id] is made.reservation
    assert (held.user, held.server, held.profile) == (made.user.name, made.name, "gpu")
    assert (held.accelerator, held.count, held.cpu_m, held.memory) == ("t4", 2, 500, 2**30)
    assert (await made.availability()).reservations == (held,)


@pytest.mark.parametrize(("cores", "thousandths"), [(0.1, 100), (0.0001, 1), (1 / 3, 334), (4, 4000), (None, None)])
async def test_cores_are_rounded_up_to_thousandths(cores: float | None, thousandths: int | None) -> None:
    made = at(Desk())
    held = await made.reserve(ASKED, cpu=cores, expires_in_s=60)
    assert held.cpu_m == thousandths


async def test_what_is_refused_is_not_held() -> None:
    made = at(Desk(full=True))
    with pytest.raises(Refusal, match="All 2 T4"):
        await made.reserve(ASKED, expires_in_s=60)
    assert made.reservation is None


async def test_without_a_desk_nothing_is_held_and_nothing_known() -> None:
    made = at(None)
    assert await made.reserve(ASKED, expires_in_s=60) is None
    assert await made.availability() is None
    await made.release()


async def test_giving_back_may_fail_without_harm_and_be_repeated() -> None:
    desk = Desk(away=True)
    made = at(desk)
    await made.reserve(ASKED, expires_in_s=60)
    await made.release()
    assert desk.held
    assert made.reservation is None
    desk.away = False
    await made.release()
    await made.release()
    assert not desk.held


async def test_a_start_of_another_time_is_given_back_by_its_own_name() -> None:
    desk = Desk()
    made = at(desk)
    held = await made.reserve(ASKED, expires_in_s=60)
    desk.held["earlier"] = held
    await made.release("earlier")
    assert desk.held == {made.spawn_id: held}
    assert made.reservation is held


async def test_a_reservation_without_a_start_is_a_mistake_of_ours() -> None:
    made = at(Desk())
    made.spawn_id = None
    with pytest.raises(ValueError, match="identity"):
        await made.reserve(ASKED, expires_in_s=60)


@pytest.mark.parametrize("full", [False, True])
async def test_a_start_that_is_stopped_while_it_is_decided_about_holds_nothing_afterwards(full: bool) -> None:
    """A decision is written in a thread, which goes on although nobody waits for it; and may have another name."""
    desk, decided = Desk(full=full), asyncio.Event()
    reserve = desk.reserve

    async def late(wanted: Reservation, **more: Any) -> Reservation:
        await decided.wait()
        return await reserve(replace(wanted, id="granted before"), **more)

    desk.reserve = late  # type: ignore[method-assign]
    made = at(desk)
    start = asyncio.create_task(made.reserve(ASKED, expires_in_s=60))
    await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    decided.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert desk.held == {}
    assert made.reservation is None
