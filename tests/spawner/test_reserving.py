"""Holding before making, and giving back: what the engines ask of the desk."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from profiles.access import Person
from spawner import reserving
from spawner.capacity.availability import Availability
from spawner.protocols import CapacityDesk, QueueDesk
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


async def stopped_while_decided(made: Any) -> None:
    """A start is stopped that the desk has not decided about yet."""
    start = asyncio.create_task(made.reserve(ASKED, expires_in_s=60))
    await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start


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
    await stopped_while_decided(made)
    decided.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert desk.held == {}
    assert made.reservation is None


class Waited(Desk):
    """A desk at which starts were waited for."""

    def __init__(self, *, away: bool = False) -> None:
        super().__init__(away=away)
        self.cut: list[str] = []

    async def unwanted(self, spawn_id: str) -> None:
        if self.away:
            raise OSError("the database does not answer")
        self.cut.append(spawn_id)


def stopped_by_somebody(made: Any) -> None:
    """As JupyterHub's `stop_single_user`."""
    made._stop_future = asyncio.get_running_loop().create_future()


async def test_who_waited_for_a_start_hears_that_it_was_stopped() -> None:
    desk = Waited()
    assert isinstance(desk, QueueDesk)
    made = at(desk)
    stopped_by_somebody(made)
    said: list[str] = []
    made.post_stop_hook = lambda spawner: said.append("the site's own hook")
    await made.run_post_stop_hook()
    assert desk.cut == [made.spawn_id]
    assert said == ["the site's own hook"]


@pytest.mark.parametrize("over", ["is cleaned up in it", "failed", "never begun: the hub is a new one"])
async def test_what_fails_or_was_broken_off_is_not_stopped_at_anybodys_wish(over: str) -> None:
    desk = Waited()
    made = at(desk)
    if "never" not in over:
        made._spawn_future = asyncio.get_running_loop().create_future()
    if over == "failed":
        made._spawn_future.set_exception(RuntimeError("it timed out"))
        made._spawn_future.exception()
    made._stop_future = None
    await made.run_post_stop_hook()
    assert desk.cut == []


async def test_a_stop_succeeds_although_the_desk_cannot_be_told() -> None:
    for desk in (Waited(away=True), Desk(), None):
        made = at(desk)
        stopped_by_somebody(made)
        await made.run_post_stop_hook()


async def test_a_start_that_is_stopped_while_it_is_decided_about_is_unwanted_by_the_name_that_it_gets() -> None:
    decided = asyncio.Event()

    class Slow(Waited):
        async def reserve(self, wanted: Reservation, **more: Any) -> Reservation:
            await decided.wait()
            held = replace(wanted, id="of-the-queue")
            self.held[held.id] = held
            return held

    desk = Slow()
    made = at(desk)
    await stopped_while_decided(made)
    stopped_by_somebody(made)
    stop = asyncio.ensure_future(made.run_post_stop_hook())
    await asyncio.sleep(0)
    decided.set()
    await stop
    assert set(desk.cut) == {made.spawn_id, "of-the-queue"}
    assert desk.held == {}


async def test_a_start_that_was_cancelled_is_not_ready_in_the_second_before_its_stop() -> None:
    made = at(None)
    made._server = SimpleNamespace(wait_up=None)
    assert made.ready
    made._start_pending = True  # and nothing else is pending, once the start's future was cancelled
    assert not made.ready
    made._stop_future = None  # a stop was tried, and the proxy was away: without this nobody could try again
    assert made.ready
    made.desk = Waited()
    await made.reserve(ASKED, expires_in_s=60)  # the next start
    assert not made.ready


async def test_a_stop_does_not_wait_for_a_desk_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Waited):
        async def unwanted(self, spawn_id: str) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(reserving, "_SAID_WITHIN_S", 0.05)
    made = at(Silent())
    stopped_by_somebody(made)
    async with asyncio.timeout(5):
        await made.run_post_stop_hook()


async def test_a_stop_goes_on_although_the_decision_about_the_start_fails() -> None:
    class Broken(Waited):
        async def reserve(self, wanted: Reservation, **more: Any) -> Reservation:
            await asyncio.sleep(0)
            raise ValueError("a fault of ours")

    desk = Broken()
    made = at(desk)
    await stopped_while_decided(made)
    stopped_by_somebody(made)
    await made.run_post_stop_hook()
    assert desk.cut == [made.spawn_id]
