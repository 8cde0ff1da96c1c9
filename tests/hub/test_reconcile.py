"""What hub, engine, queue and ledger say of the same sessions is compared, and what cannot be is repaired, once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, Engine, select, update

from hub import audit
from hub.admission import reservations, tickets
from hub.admission.store import Rules
from hub.admission.tickets import Ticket
from hub.controller.lease import Lease, StaleEpoch, fenced
from hub.db.clock import Now
from hub.db.tables import ledger as ledger_table
from hub.db.tables import reservations as held_table
from hub.db.tables import tickets as ticket_table
from hub.db.transaction import read, write
from hub.metrics import REPAIRS
from hub.quotas import store as quotas_store
from hub.quotas.model import Field
from hub.reconcile.by_hand import report
from hub.reconcile.compare import KINDS, Finding, Kind
from hub.reconcile.loop import Reconciler, keep_looking
from hub.reconcile.repair import IN_DATABASE, left
from hub.usage import ledger
from spawner.reservation import Reservation
from tests.hub.admission_world import CATALOGUE
from tests.hub.reconcile_world import FakeEngine, FakeServers

T = TypeVar("T")


class World:
    """A database with what tests put into it, an engine, a hub, and a clock that tests move."""

    def __init__(self, database: Engine) -> None:
        self.database = database
        self.engine = FakeEngine()
        self.hub = FakeServers()
        self.time = 0.0
        self.epoch = Lease(database, "test", 60).try_acquire() or 0
        self.reconciler = self.another(self.epoch)

    def another(self, epoch: int) -> Reconciler:
        write_fenced = partial(fenced, self.database, epoch)
        rules = Rules(CATALOGUE, "local")
        return Reconciler(self.database, write_fenced, rules, self.engine, self.hub, clock=lambda: self.time)

    def write(self, work: Callable[[Connection], T]) -> T:
        return write(self.database, work)

    def hold(self, user: str = "ann", seen: bool = True, **more: Any) -> str:
        spawn_id = uuid.uuid4().hex
        values: dict[str, Any] = {"accelerator": "card", "count": 1, "account": f"user:{user}", "share": 1.0, **more}
        held = Reservation(spawn_id, user, values.pop("server", ""), "gpu", seen=seen, **values)
        self.write(lambda found: reservations.insert(found, held, expires_in_s=600))
        return spawn_id

    def session(self, user: str = "ann", **more: Any) -> str:
        """One that all agree about."""
        spawn_id = self.hold(user, **more)
        self.engine.run(spawn_id, user, more.get("server", ""))
        self.hub.up(user, more.get("server", ""))
        return spawn_id

    def ticket(self, user: str = "ann", **more: Any) -> str:
        ticket = Ticket(uuid.uuid4().hex, user, "", "gpu", account=f"user:{user}", accelerator="card", count=1, **more)
        self.write(lambda found: tickets.insert(found, ticket))
        return ticket.id

    def change(self, table: Any, row_id: str, **values: Any) -> None:
        self.write(lambda found: found.execute(update(table).where(table.c.id == row_id).values(**values)))

    def held(self) -> dict[str, Reservation]:
        return {one.id: one for one in read(self.database, reservations.all)}

    def rows(self) -> dict[str, float | None]:
        table = ledger_table.c
        rows = read(self.database, lambda found: found.execute(select(table.id, table.closed_at)).all())
        return {row.id: row.closed_at for row in rows}

    async def look(self, after_s: float = 0.0) -> tuple[list[Kind], list[Kind]]:
        """Look once, so many seconds later: the kinds that were found, and those that were repaired."""
        self.time += after_s
        found, repaired = await self.reconciler.once()
        return [one.kind for one in found], [one.kind for one in repaired]

    def trail(self) -> list[str]:
        return [entry.action for entry in read(self.database, audit.recent)]


@pytest.fixture
def world(database: Engine) -> World:
    return World(database)


async def test_where_all_agree_nothing_is_found_and_nothing_is_touched(world: World) -> None:
    world.session()
    world.session("bob", server="two")
    world.hold("cleo", seen=False, state="granted", ticket=world.ticket("cleo"))
    before = world.held(), world.rows()
    assert await world.look() == ([], [])
    assert await world.look(1000) == ([], [])
    assert (world.held(), world.rows()) == before
    assert world.trail() == []


async def test_a_row_without_a_hold_is_closed_at_its_last_heartbeat_and_charged_nothing_more(world: World) -> None:
    spawn_id = world.hold()
    world.change(ledger_table, spawn_id, beat_at=Now() - 500.0, opened_at=Now() - 900.0, seconds=400.0)
    world.write(lambda found: found.execute(held_table.delete()))
    assert await world.look() == (["row-without-hold"], ["row-without-hold"])
    [row] = world.write(lambda found: found.execute(ledger_table.select()).all())
    assert row.closed_at == row.beat_at
    assert (row.seconds, row.ended_as) == (400.0, "reconciled")
    assert await world.look() == ([], [])
    assert world.trail() == ["reconcile.row-without-hold"]


async def test_a_hold_without_a_row_gets_one(world: World) -> None:
    spawn_id = world.session()
    world.write(lambda found: found.execute(ledger_table.delete()))
    assert await world.look() == (["hold-without-row"], ["hold-without-row"])
    assert world.rows() == {spawn_id: None}


async def test_a_session_whose_row_was_closed_is_charged_by_counter_rows_and_no_second_twice(world: World) -> None:
    spawn_id = world.session()
    world.change(ledger_table, spawn_id, opened_at=Now() - 1000.0, beat_at=Now() - 1000.0)
    world.write(lambda found: ledger.close(found, [spawn_id], "gone", ledger.LAST_BEAT))
    assert await world.look() == (["hold-with-closed-row"], [])
    assert await world.look(10) == (["hold-with-closed-row"], ["hold-with-closed-row"])
    assert await world.look(60) == (["hold-with-closed-row"], ["hold-with-closed-row"])
    rows = world.write(lambda found: found.execute(ledger_table.select()).all())
    assert sum(row.seconds for row in rows) == pytest.approx(1000.0, abs=30.0)
    assert {row.corrects for row in rows} == {None, spawn_id}


async def test_after_a_clock_that_jumped_a_session_whose_row_was_closed_is_charged_once(world: World) -> None:
    spawn_id = world.session()
    # It has been charged for 100 s; the clock of its row went an hour further.
    world.change(ledger_table, spawn_id, opened_at=Now() - 4000.0, beat_at=Now() - 60.0, seconds=100.0)
    world.write(lambda found: ledger.close(found, [spawn_id], "gone", ledger.LAST_BEAT))
    await world.look()
    for _ in range(5):
        await world.look(60)
    rows = world.write(lambda found: found.execute(ledger_table.select()).all())
    assert sum(row.seconds for row in rows) == pytest.approx(160.0, abs=30.0)


async def test_what_is_held_for_nothing_is_given_back_when_it_lasts(world: World) -> None:
    spawn_id = world.hold()
    assert await world.look() == (["hold-of-nothing"], [])
    assert await world.look(10) == (["hold-of-nothing"], ["hold-of-nothing"])
    assert world.held() == {}
    assert world.rows()[spawn_id] is not None


@pytest.mark.parametrize("who", ["hub", "engine"])
async def test_nothing_is_given_back_while_somebody_does_not_tell(world: World, who: str) -> None:
    world.hold()
    world.hub.away, world.engine.blind = who == "hub", who == "engine"
    for _ in range(5):
        assert await world.look(60) == ([], [])


async def test_what_passes_between_two_looks_is_not_acted_on(world: World) -> None:
    spawn_id = world.hold()
    assert await world.look() == (["hold-of-nothing"], [])
    world.engine.run(spawn_id, "ann")
    world.hub.up("ann")
    assert await world.look(10) == ([], [])
    del world.engine.runs[spawn_id]
    world.hub.servers.clear()
    assert await world.look(10) == (["hold-of-nothing"], []), "it begins anew"


@pytest.mark.parametrize("plans", ["any", "this", "none"])
async def test_what_may_still_appear_by_itself_is_left_to_its_expiry(world: World, plans: str) -> None:
    spawn_id = world.hold(seen=False)
    world.engine.plans = {"any": None, "this": frozenset({spawn_id}), "none": frozenset()}[plans]
    found = ["hold-of-nothing"] if plans == "none" else []
    assert await world.look() == (found, [])
    assert await world.look(60) == (found, found)


@pytest.mark.parametrize("ended", [True, False])
async def test_what_is_kept_for_a_ticket_is_given_back_when_that_has_ended(world: World, ended: bool) -> None:
    ticket = world.ticket()
    world.hold(seen=False, state="granted", ticket=ticket)
    if ended:
        world.write(lambda found: tickets.end(found, ticket, "left", ""))
    await world.look()
    assert await world.look(10) == ((["hold-of-ended-ticket"],) * 2 if ended else ([], []))
    assert bool(world.held()) is not ended


def left_start(world: World, **more: Any) -> str:
    """A start that has begun in the hub, of a ticket that was left; returns its spawn id."""
    ticket = world.ticket(state="starting")
    spawn_id = world.session(ticket=ticket, **more)
    world.change(ticket_table, ticket, spawn_id=spawn_id)
    world.write(lambda found: tickets.end(found, ticket, "left", ""))
    return spawn_id


@pytest.mark.parametrize("ready", [True, False])
async def test_a_start_that_was_left_while_the_hub_was_away_is_stopped_once_it_is_back(
    world: World, ready: bool
) -> None:
    left_start(world, seen=ready)
    world.hub.up("ann", ready=ready)
    world.hub.away = True
    assert await world.look() == ([], [])
    assert await world.look(600) == ([], [])
    world.hub.away = False
    assert await world.look(10) == (["start-of-left-ticket"], [])
    assert await world.look(10) == (["start-of-left-ticket"],) * 2
    assert world.hub.stopped == [("ann", "")]
    assert world.trail() == ["reconcile.start-of-left-ticket"]


async def test_what_was_started_since_is_not_stopped_for_a_start_that_was_left(world: World) -> None:
    left_start(world)
    world.hold(seen=False)
    await world.look()
    assert await world.look(10) == ([], [])


async def test_what_is_asked_for_again_is_not_stopped_although_it_was_left_before(world: World) -> None:
    spawn_id = left_start(world)
    world.ticket(state="starting", spawn_id=spawn_id)
    await world.look()
    assert await world.look(10) == ([], [])


@pytest.mark.parametrize("what", ["started", "newer", "again"])
def test_a_start_that_is_wanted_by_now_is_not_noted_as_left(world: World, what: str) -> None:
    spawn_id = left_start(world)
    if what == "started":
        world.write(lambda found: found.execute(update(ticket_table).values(ended_as="started")))
    elif what == "newer":
        world.hold(seen=False)
    else:
        world.ticket(state="starting", spawn_id=spawn_id)
    finding = Finding("start-of-left-ticket", spawn_id, "ann", "")
    assert world.write(lambda found: left(found, finding)) is False
    assert world.trail() == []


async def test_what_a_switched_session_held_is_kept_when_only_the_reconciler_sees_its_end(world: World) -> None:
    old = world.hold(options={"accelerator": "card"})
    ticket = world.ticket(state="starting", replaces=old)
    await world.look()
    assert await world.look(10) == (["hold-of-nothing"],) * 2
    [kept] = world.held().values()
    assert (kept.state, kept.ticket, kept.accelerator) == ("granted", ticket, "card")


async def test_a_session_that_is_found_running_is_held_and_charged_again(world: World) -> None:
    world.engine.run("f" * 32, "ann", devices=("slice-0", "slice-1"))
    world.hub.up("ann", options={"accelerator": "slice", "count": "2", "profile": "gpu"})
    assert await world.look() == (["session-without-hold"], [])
    assert await world.look(10) == (["session-without-hold"], ["session-without-hold"])
    [held] = world.held().values()
    assert (held.id, held.accelerator, held.count, held.share) == ("f" * 32, "slice", 2, 1.0)
    assert (held.seen, held.state, held.account) == (True, "begun", "user:ann")
    assert held.devices == ("slice-0", "slice-1"), "nobody else gets them"
    assert world.rows() == {"f" * 32: None}
    assert await world.look(60) == ([], [])


async def test_what_a_session_had_before_is_what_it_has_when_it_is_found_again(world: World) -> None:
    spawn_id = world.session(account="group:cms", accelerator="card", count=2, share=2.0)
    world.hub.up("ann", options={"profile": "gpu", "image": "lab", "cpu": "1", "accelerator": "card", "count": "2"})
    for subject, seconds in (("default", 7200), ("group:cms", 3600)):
        row = (subject, Field("session_s"), Decimal(seconds), "user:admin")
        world.write(lambda found, row=row: quotas_store.put(found, *row))  # type: ignore[misc]
    world.write(lambda found: reservations.delete(found, [spawn_id], "expired"))
    await world.look()
    assert (await world.look(10))[1] == ["session-without-hold"]
    [held] = world.held().values()
    assert (held.account, held.accelerator, held.count, held.share) == ("group:cms", "card", 2, 2.0)
    assert dict(held.options) == {"profile": "gpu", "image": "lab", "cpu": "1", "accelerator": "card", "count": "2"}
    assert held.session_s == 3600, "its time is still limited"
    await world.look(10)
    assert "hold-with-closed-row" in (await world.look(10))[1], "its time since is charged too"


@pytest.mark.parametrize(
    "options", [{}, {"profile": "gone", "accelerator": "gone"}, {"accelerator": "card", "count": "x"}]
)
async def test_options_that_the_catalogue_does_not_take_any_more_keep_nobody_from_being_held(
    world: World, options: dict[str, str]
) -> None:
    world.engine.run("f" * 32, "ann")
    world.hub.up("ann", options=options)
    await world.look()
    assert (await world.look(10))[1] == ["session-without-hold"]
    assert set(world.held()) == {"f" * 32}


async def test_what_runs_for_no_server_is_ended_after_two_minutes_and_not_before(world: World) -> None:
    spawn_id = world.session()
    world.hub.servers.clear()
    assert await world.look() == (["session-without-server"], [])
    assert await world.look(60) == (["session-without-server"], [])
    assert world.engine.ended == []
    assert (await world.look(61))[1] == ["session-without-server"]
    assert world.engine.ended == [spawn_id]
    assert await world.look(10) == (["hold-of-nothing"], [])
    assert (await world.look(10))[1] == ["hold-of-nothing"]
    assert world.held() == {}


async def test_what_cannot_be_ended_is_tried_again_each_two_minutes_and_is_no_repair(world: World) -> None:
    world.session()
    world.hub.servers.clear()
    world.engine.immortal = True
    for _ in range(25):
        assert (await world.look(20))[1] == []
    assert len(world.engine.ended) == 3
    assert world.trail() == ["reconcile.session-without-server"] * 3


async def test_a_server_that_the_hubs_list_has_missed_is_not_ended(world: World) -> None:
    world.session()
    world.hub.servers.clear()
    world.hub.missed.add(("ann", ""))
    for _ in range(5):
        assert await world.look(60) == (["session-without-server"], [])
    assert (world.engine.ended, world.trail()) == ([], [])


async def test_a_leftover_beside_the_present_session_is_ended(world: World) -> None:
    present = world.session()
    world.engine.run("f" * 32, "ann")
    await world.look()
    assert (await world.look(121))[1] == ["session-without-server"]
    assert world.engine.ended == ["f" * 32]
    assert set(world.held()) == {present}


async def test_a_server_of_which_nothing_runs_is_stopped(world: World) -> None:
    world.hub.up("ann")
    assert await world.look() == (["server-of-nothing"], [])
    assert await world.look(121) == (["server-of-nothing"], ["server-of-nothing"])
    assert world.hub.stopped == [("ann", "")]


async def test_a_server_that_is_being_started_is_left_alone(world: World) -> None:
    world.hub.up("ann", ready=False)
    world.hub.up("bob")
    world.hold("bob", seen=False)
    await world.look()
    assert await world.look(121) == ([], [])


async def test_a_starting_ticket_that_nobody_sees_to_waits_again_in_its_place(world: World) -> None:
    ticket = world.ticket(state="starting", spawn_id="lost")
    assert await world.look() == ([], []), "whoever leads takes it over at once"
    world.change(ticket_table, ticket, not_before=Now() - 100.0)
    rank = read(world.database, lambda found: tickets.find(found, ticket)).rank  # type: ignore[union-attr]
    assert await world.look() == (["ticket-without-hold"], ["ticket-without-hold"])
    found = read(world.database, lambda connection: tickets.find(connection, ticket))
    assert found is not None
    assert (found.state, found.spawn_id, found.rank) == ("waiting", None, rank)


async def test_a_ticket_for_a_server_that_runs_ends_unless_it_is_a_switch(world: World) -> None:
    spawn_id = world.session()
    ticket = world.ticket()
    world.session("bob")
    switch = world.ticket("bob", replaces=spawn_id)
    await world.look()
    assert await world.look(10) == (["ticket-of-running-server"], ["ticket-of-running-server"])
    said = {one.id: one.ended_as for one in read(world.database, lambda found: tickets.of_ids(found, [ticket, switch]))}
    assert said == {ticket: "left", switch: None}


async def test_of_two_places_of_a_server_the_later_one_ends(world: World) -> None:
    first, second = world.ticket(), world.ticket()
    assert await world.look() == (["ticket-twice"], ["ticket-twice"])
    assert [one.id for one in read(world.database, tickets.open_ones)] == [first]
    assert second not in {one.id for one in read(world.database, tickets.open_ones)}


async def test_a_claim_whose_pod_is_gone_is_deleted(world: World) -> None:
    world.engine.orphans["default/claim"] = "its pods are gone"
    assert await world.look() == (["claim-without-pod"], [])
    assert await world.look(121) == (["claim-without-pod"], ["claim-without-pod"])
    assert world.engine.orphans == {}


async def test_a_dry_run_changes_nothing_and_says_what_would_be_done(world: World) -> None:
    spawn_id = world.hold()
    world.write(lambda found: found.execute(ledger_table.delete()))
    for _ in range(3):
        world.time += 200
        found, repaired = await world.reconciler.once(dry_run=True)
        assert {one.kind for one in found} == {"hold-without-row", "hold-of-nothing"}
        assert repaired == ()
    assert (set(world.held()), world.rows(), world.trail()) == ({spawn_id}, {}, [])
    lines = report(found, (), dry_run=True)
    assert all("Would be repaired" in line and spawn_id in line for line in lines)
    assert report((), (), dry_run=True) == ["Hub, engine, queue and ledger agree."]


async def test_one_that_leads_no_more_repairs_nothing_and_ends(world: World) -> None:
    world.write(lambda found: found.execute(ledger_table.delete()))
    world.session()
    world.write(lambda found: found.execute(ledger_table.delete()))
    with pytest.raises(StaleEpoch):
        await asyncio.wait_for(keep_looking(world.another(world.epoch + 1), asyncio.Event()), 30)
    assert (world.rows(), world.trail()) == ({}, [])


async def test_a_repair_is_counted_and_written_into_the_audit_trail_once(world: World) -> None:
    def counted() -> float:
        return float(REPAIRS.labels("hold-without-row")._value.get())

    before = counted()
    spawn_id = world.session()
    world.write(lambda found: found.execute(ledger_table.delete()))
    found, _ = await world.reconciler.once()
    assert counted() == before + 1
    rules = Rules(CATALOGUE, "local")
    again = [world.write(partial(IN_DATABASE[one.kind], finding=one, rules=rules)) for one in found]
    assert again == [False]
    [entry] = read(world.database, audit.recent)
    assert (entry.actor, entry.subject, entry.before["user"]) == ("controller", spawn_id, "ann")


@pytest.mark.parametrize("kind", KINDS)
async def test_repairs_of_what_is_not_there_do_nothing(world: World, kind: Kind) -> None:
    def work(connection: Connection) -> bool:
        return kind in IN_DATABASE and IN_DATABASE[kind](
            connection, Finding(kind, "nothing"), Rules(CATALOGUE, "local")
        )

    assert world.write(work) is False
