"""A switch that is taken back, that fails late, or that many ask for at once: no session is lost, no stop is undone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy import Engine, select, update

from hub import notices
from hub.admission import changes, outcome, promote, reservations, starter, tickets
from hub.admission.doors import Starts
from hub.admission.hub_api import Answer, HubServers
from hub.admission.outcome import STAYED, TURNED_BACK, settle
from hub.admission.starter import Starter
from hub.admission.tickets import Ticket
from hub.controller.publish import publish
from hub.db.clock import Now
from hub.db.tables import ledger as ledger_table
from hub.db.tables import reservations as held_table
from hub.db.tables import tickets as ticket_table
from hub.idle import sessions
from spawner.refusal import Refusal
from tests.hub.admission_world import Site, snapshot, until
from tests.hub.hub_double import TOKEN, HubDouble


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(starter, "_LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(starter, "_LOOK_S", 0.02)
    monkeypatch.setattr(starter, "_RENEW_S", 0.1)
    monkeypatch.setattr(promote, "_LOOK_S", 0.05)
    monkeypatch.setattr(outcome, "_AGAIN_S", 60.0)


@pytest.fixture
def site(database: Engine, hub: HubDouble) -> Site:
    return Site(database, hub, switch_grace_s=0)


@pytest.fixture
async def sees_to(site: Site, servers: HubServers) -> AsyncIterator[Starter]:
    found = site.starter(servers)
    yield found
    await found.close()


def runs(site: Site, user: str, accelerator: str = "card", count: int = 1) -> str:
    """Somebody's session runs and is counted, as far as the database knows; returns its spawn id."""
    answer = site.ask(user, accelerator, count)
    assert isinstance(answer, Starts)
    held = site.read(lambda found: reservations.find(found, answer.ticket.spawn_id or ""))
    assert held is not None
    site.write(lambda found: reservations.begin(found, replace(held, state="begun"), expires_in_s=600))
    assert site.write(lambda found: settle(found, answer.ticket, Answer("ready"), site.queue))
    site.write(lambda found: reservations.mark_seen(found, [held.id]))
    site.write(lambda found: sessions.begin(found, [(held.id, user, "")]))
    return held.id


async def started(site: Site, sees_to: Starter, user: str, accelerator: str = "card") -> str:
    """Somebody's session runs, and the hub knows it; returns its spawn id."""
    answer = site.ask(user, accelerator)
    sees_to.see_to(answer.ticket)
    await until(lambda: site.ticket(answer.ticket.id).state == "ended")
    spawn_id = answer.ticket.spawn_id or ""
    site.write(lambda found: reservations.mark_seen(found, [spawn_id]))
    return spawn_id


def stay(site: Site, ticket: Ticket) -> Ticket | None:
    return site.write(lambda found: changes.leave(found, ticket.id, "left", "You stayed with what you had."))


def slow_stop(site: Site) -> asyncio.Event:
    """Let stops take until this is set."""
    go, stopped = asyncio.Event(), site.stopped

    async def slow(user: str, server: str) -> None:
        await go.wait()
        await stopped(user, server)

    site.hub.on_stop = slow
    return go


def nobody_has_seen_to_it(site: Site) -> None:
    site.write(lambda found: found.execute(update(ticket_table).values(not_before=Now() - 1.0)))


def has_come_back(site: Site, ticket: Ticket) -> bool:
    """The first session runs again with what it had, nothing else is held, and its owner has heard why."""
    ended = site.ticket(ticket.id)
    if ended.state != "ended":
        return False
    assert (ended.said, ended.ended_as) == (STAYED, "started")
    assert site.hub.server(ticket.user).state == "ready"
    assert site.hub.server(ticket.user).options["accelerator"] == "card"
    assert site.held() == {f"{ticket.user}/": ("begun", "card")}
    assert any(STAYED in one.text for one in site.read(lambda found: notices.of_user(found, ticket.user)))
    return True


# --- a stop that is announced for another reason -------------------------------------------------------------------


@pytest.mark.parametrize("because", ["budget", "limit", "idle", "admin"])
def test_staying_takes_no_other_announced_stop_back(database: Engine, because: str) -> None:
    site = Site(database, HubDouble(), switch_grace_s=90)
    old, stop_at = runs(site, "bob"), time.time() + 600
    site.write(lambda found: sessions.announce(found, old, stop_at, because))

    for accelerator_is_free in (False, True):
        if not accelerator_is_free:
            other = runs(site, "ann", "slice", 2)
        answer = site.ask("bob", "slice", replaces=old)
        assert isinstance(answer, Starts) is accelerator_is_free
        if isinstance(answer, Starts):
            ticket = answer.ticket
            wait_s = site.write(lambda found, ticket=ticket: starter._announced(found, ticket, 90.0))  # type: ignore[misc]
            assert wait_s is not None
            assert 60 < wait_s <= 90, "the switch does not wait for it"
        assert stay(site, answer.ticket) is not None
        known = site.read(lambda found: sessions.of(found, old))
        assert known is not None
        assert (known.stop_because, known.stop_at) == (because, pytest.approx(stop_at))
        if not accelerator_is_free:
            site.write(lambda found, other=other: reservations.delete(found, [other]))  # type: ignore[misc]


def test_a_stop_that_comes_before_the_switch_would_is_waited_for_and_the_switch_goes_on(database: Engine) -> None:
    site = Site(database, HubDouble(), switch_grace_s=90)
    old = runs(site, "bob")
    site.write(lambda found: sessions.announce(found, old, time.time() + 5, "admin"))
    ticket = site.ask("bob", "slice", replaces=old).ticket
    wait_s = site.write(lambda found: starter._announced(found, ticket, 90.0))
    assert wait_s is not None
    assert wait_s <= 5
    site.write(lambda found: changes.ended(found, old))
    assert site.write(lambda found: starter._announced(found, ticket, 90.0)) is None
    assert site.ticket(ticket.id).state == "starting"


@pytest.mark.parametrize("because", ["switch", "budget"])
def test_a_switch_whose_stop_does_not_succeed_takes_back_what_it_announced_and_no_more(
    site: Site, because: str
) -> None:
    old = runs(site, "bob")
    ticket = site.ask("bob", "slice", replaces=old).ticket
    site.write(lambda found: sessions.announce(found, old, time.time() + 600, because))
    assert site.write(lambda found: starter._stopping(found, ticket))
    assert site.write(lambda found: settle(found, ticket, Answer("away"), site.queue))
    known = site.read(lambda found: sessions.of(found, old))
    assert known is not None
    assert known.stop_because == ("" if because == "switch" else "budget")
    [held] = site.read(reservations.all)
    assert held.ticket is None, "a later switch must not find it being stopped"


# --- what is kept for the return -----------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["controller", "hub"])
def test_whoever_sees_the_end_first_what_the_session_held_is_kept(site: Site, first: str) -> None:
    old = runs(site, "bob")
    ticket = site.ask("bob", "slice", replaces=old).ticket
    steps = [
        lambda: publish(site.database, site.epoch, snapshot(), gone=[old]),
        lambda: site.write(lambda found: changes.ended(found, old)),
    ]
    for step in steps if first == "controller" else reversed(steps):
        step()
    assert sorted((one.state, one.accelerator) for one in site.read(reservations.all)) == [
        ("granted", "card"),
        ("granted", "slice"),
    ]
    assert not isinstance(site.ask("cleo", "card", 2), Starts), "it is nobody else's"
    assert site.write(lambda found: settle(found, ticket, Answer("failed", "", "No such image."), site.queue))
    now = site.ticket(ticket.id)
    assert (now.state, now.said, now.accelerator) == ("starting", TURNED_BACK, "card")


async def test_what_is_kept_is_kept_for_as_long_as_the_start_takes(site: Site, sees_to: Starter) -> None:
    old = await started(site, sees_to, "bob")
    site.hub.instant = False
    ticket = site.ask("bob", "slice", replaces=old).ticket
    sees_to.see_to(ticket)
    await until(lambda: site.hub.server("bob").options["accelerator"] == "slice" and len(site.held()) == 1)

    def kept_for_s() -> float:
        mine = select(held_table.c.expires_at - Now()).where(held_table.c.accelerator == "card")
        return float(site.read(lambda found: found.scalar(mine)) or 0.0)

    await until(lambda: kept_for_s() > 0)
    site.write(
        lambda found: found.execute(
            update(held_table).where(held_table.c.accelerator == "card").values(expires_at=Now() + 1.0)
        )
    )
    await until(lambda: kept_for_s() > 60)
    site.hub.finish("bob")
    await until(lambda: site.ticket(ticket.id).state == "ended")
    assert site.held() == {"bob/": ("begun", "slice")}


# --- staying at each step ------------------------------------------------------------------------------------------


async def test_who_stays_before_the_stop_keeps_the_session(database: Engine, hub: HubDouble) -> None:
    site = Site(database, hub, switch_grace_s=60)
    servers = site.servers()
    sees_to = site.starter(servers)
    old = await started(site, sees_to, "bob")
    ticket = site.ask("bob", "slice", replaces=old).ticket
    sees_to.see_to(ticket)
    await until(lambda: site.read(sessions.ends).get(old) is not None)
    assert stay(site, ticket) is not None
    await until(lambda: not sees_to.seen_to)
    assert site.ticket(ticket.id).ended_as == "left"
    assert (site.hub.stops, site.held()) == ([], {"bob/": ("begun", "card")})
    await sees_to.close()
    await servers.close()


async def test_who_stays_while_the_session_is_being_stopped_gets_it_back(site: Site, sees_to: Starter) -> None:
    old = await started(site, sees_to, "bob")
    go = slow_stop(site)
    ticket = site.ask("bob", "slice", replaces=old).ticket
    sees_to.see_to(ticket)
    await until(lambda: site.hub.server("bob").state == "stop")
    for _ in range(2):  # asked twice is asked once
        assert stay(site, ticket) is not None
        assert site.ticket(ticket.id).said == STAYED
    assert isinstance(site.ask("ann", "slice", 2), Starts), "what it is not switched to is free at once"
    site.write(lambda found: changes.leave(found, tickets.of_user(found, "ann")[0].id, "left", ""))
    go.set()
    await until(lambda: has_come_back(site, ticket))
    assert [options["accelerator"] for _, _, options in site.hub.starts] == ["card", "card"]
    mine = select(ledger_table.c.ended_as).where(ledger_table.c.id == old)
    assert site.read(lambda found: found.scalar(mine)) == "switch"


async def test_who_stays_gets_the_session_back_although_whoever_stopped_it_was_killed(
    site: Site, sees_to: Starter, servers: HubServers
) -> None:
    old = await started(site, sees_to, "bob")
    go = slow_stop(site)
    first = site.starter(servers)
    ticket = site.ask("bob", "slice", replaces=old).ticket
    first.see_to(ticket)
    await until(lambda: site.hub.server("bob").state == "stop")
    await first.close()
    assert stay(site, ticket) is not None
    nobody_has_seen_to_it(site)
    [adopted] = site.write(lambda found: tickets.adopt(found, seen_to_s=30))
    sees_to.see_to(adopted, adopted=True)
    go.set()
    await until(lambda: has_come_back(site, ticket))


async def test_who_stays_when_it_is_stopped_and_nothing_has_begun_gets_it_back(site: Site, sees_to: Starter) -> None:
    old = await started(site, sees_to, "bob")
    ticket = site.ask("bob", "slice", replaces=old).ticket
    site.hub.answers = [(503, {}, "Service Unavailable")] * 1000
    sees_to.see_to(ticket)
    await until(lambda: len(site.hub.answers) < 999)
    assert stay(site, ticket) is not None
    site.hub.answers = []  # the start that is just being asked for may be taken up now, and is stopped
    await until(lambda: has_come_back(site, ticket))


async def test_who_stays_while_the_other_one_is_being_started_gets_it_back(site: Site, sees_to: Starter) -> None:
    old = await started(site, sees_to, "bob")
    site.hub.instant = False
    ticket = site.ask("bob", "slice", replaces=old).ticket
    sees_to.see_to(ticket)
    await until(lambda: ("begun", "slice") in [(one.state, one.accelerator) for one in site.read(reservations.all)])
    assert stay(site, ticket) is not None
    sees_to.hurry()
    await until(lambda: site.hub.server("bob").options["accelerator"] == "card")
    await until(lambda: site.hub.server("bob").state == "spawn")
    site.hub.finish("bob")
    await until(lambda: has_come_back(site, ticket))
    assert site.hub.stops == [("bob", ""), ("bob", "")]


def test_where_nobody_knows_what_would_come_back_staying_is_refused(site: Site) -> None:
    old = runs(site, "bob")
    ticket = site.ask("bob", "slice", replaces=old).ticket
    site.write(lambda found: found.execute(update(held_table).where(held_table.c.id == old).values(options="{}")))
    assert site.write(lambda found: starter._stopping(found, ticket))
    with pytest.raises(Refusal) as refused:
        stay(site, ticket)
    assert (refused.value.code, refused.value.status_code) == ("too-late", 409)
    assert site.ticket(ticket.id).state == "starting"


def test_nothing_comes_back_of_somebody_who_is_gone(site: Site) -> None:
    old = runs(site, "bob")
    ticket = site.ask("bob", "slice", replaces=old).ticket
    assert site.write(lambda found: starter._stopping(found, ticket))
    assert site.write(lambda found: changes.forget_user(found, "bob")) == 1
    assert site.ticket(ticket.id).ended_as == "cancelled"


# --- start slots ---------------------------------------------------------------------------------------------------


async def test_a_switch_takes_no_start_slot_before_it_starts_something(database: Engine, hub: HubDouble) -> None:
    site = Site(database, hub, start_slots=1, switch_grace_s=1)
    servers = site.servers()
    sees_to = site.starter(servers)
    old = await started(site, sees_to, "bob")
    hub.instant = False
    switch = site.ask("bob", "slice", replaces=old)
    other = site.ask("ann", "none")
    assert isinstance(switch, Starts)
    assert isinstance(other, Starts), "a session that is only told that it will be stopped keeps nobody"
    sees_to.see_to(other.ticket)
    sees_to.see_to(switch.ticket)
    await until(lambda: hub.server("bob").state == "stopped" and len(site.read(reservations.all)) == 3)
    assert site.read(tickets.number_starting) == 2
    await asyncio.sleep(0.3)
    assert hub.server("bob").state == "stopped", "it waits for the slot"
    hub.finish("ann")
    await until(lambda: hub.server("bob").state == "spawn")
    hub.finish("bob")
    await until(lambda: site.ticket(switch.ticket.id).state == "ended")
    assert site.held() == {"ann/": ("begun", ""), "bob/": ("begun", "slice")}
    await sees_to.close()
    await servers.close()


def test_of_switches_that_wait_for_a_slot_each_gets_one_in_turn(database: Engine) -> None:
    site = Site(database, HubDouble(), start_slots=4, switch_grace_s=0)
    switches = []
    for user in ("ann", "bob"):
        old = runs(site, user)
        switches.append(site.ask(user, "slice", replaces=old).ticket)
        site.write(lambda found, old=old: changes.ended(found, old))  # type: ignore[misc]
    first, second = switches

    def may_start(ticket: Ticket) -> bool:
        return site.read(lambda found: starter._may_start(found, ticket, 1))

    assert (may_start(first), may_start(second)) == (True, False)
    held = site.read(lambda found: reservations.find(found, second.spawn_id or ""))
    assert held is not None
    site.write(lambda found: reservations.begin(found, replace(held, state="begun"), expires_in_s=600))
    assert (may_start(first), may_start(second)) == (False, True), "who has begun has one"
    assert site.write(lambda found: settle(found, second, Answer("ready"), site.queue))
    assert may_start(first)


# --- what is lost meanwhile ------------------------------------------------------------------------------------------


async def test_a_session_comes_back_although_the_login_has_lapsed(site: Site, sees_to: Starter) -> None:
    old = await started(site, sees_to, "bob")
    site.hub.lapsed.add("bob")
    ticket = site.ask("bob", "slice", replaces=old).ticket
    sees_to.see_to(ticket)
    await until(lambda: site.ticket(ticket.id).state == "ended")
    assert site.hub.server("bob").options["accelerator"] == "card"
    assert site.held() == {"bob/": ("begun", "card")}
    assert [one["accelerator"] for _, _, one in site.hub.starts] == ["card", "card"]


async def test_a_session_comes_back_on_an_account_that_was_lost_meanwhile(site: Site, sees_to: Starter) -> None:
    site.groups["bob"] = frozenset({"cms"})
    site.limit("group:cms", "hours:week", 100)
    old = await started(site, sees_to, "bob")
    ticket = site.ask("bob", "slice", replaces=old).ticket
    assert ticket.account == "group:cms"
    site.groups["bob"] = frozenset()
    sees_to.see_to(ticket)
    await until(lambda: site.ticket(ticket.id).state == "ended")
    assert site.held() == {"bob/": ("begun", "card")}
    assert site.hub.server("bob").state == "ready"


async def test_a_session_goes_on_if_what_it_was_to_have_is_given_to_others(site: Site, sees_to: Starter) -> None:
    old = await started(site, sees_to, "bob")
    ticket = site.ask("bob", "slice", replaces=old).ticket
    expired = update(held_table).where(held_table.c.id == ticket.spawn_id).values(expires_at=Now() - 1.0)
    site.write(lambda found: found.execute(expired))
    publish(site.database, site.epoch, snapshot())
    site.ask("ann", "slice", 2)
    sees_to.see_to(ticket)
    await until(lambda: not sees_to.seen_to)
    now = site.ticket(ticket.id)
    assert (now.state, now.accelerator, now.replaces) == ("waiting", "slice", old)
    assert "you have your place" in now.said
    assert site.hub.stops == []
    assert site.held()["bob/"] == ("begun", "card")
    known = site.read(lambda found: sessions.of(found, old))
    assert known is not None
    assert known.stop_at is None


async def test_two_who_see_to_a_switch_stop_nothing_that_the_other_has_started(
    site: Site, sees_to: Starter, hub: HubDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a database that was away for half a minute: both go on with what they had begun."""
    slower, answered = HubServers(hub.api_url, TOKEN, slow_start_s=1), asyncio.Event()
    asked: list[str] = []

    async def stop(user: str, server: str) -> Answer:
        asked.append(user)
        await answered.wait()
        return Answer("pending")  # as the hub answers while another's stop is being done

    monkeypatch.setattr(slower, "stop", stop)
    old = await started(site, sees_to, "bob")
    go = slow_stop(site)
    site.hub.instant = False
    ticket = site.ask("bob", "slice", replaces=old).ticket
    other = site.starter(slower)
    for one in (sees_to, other):
        one.see_to(ticket)
    await until(lambda: len(site.hub.stops) == 1 and asked == ["bob"])
    go.set()
    await until(lambda: site.hub.server("bob").state == "spawn")
    answered.set()
    await asyncio.sleep(0.2)  # in which it would ask again
    assert asked == ["bob"]
    site.hub.finish("bob")
    await until(lambda: not other.seen_to and not sees_to.seen_to)
    assert site.ticket(ticket.id).ended_as == "started"
    assert [one["accelerator"] for _, _, one in site.hub.starts] == ["card", "slice"]
    assert site.held() == {"bob/": ("begun", "slice")}
    await other.close()
    await slower.close()


async def test_a_session_that_comes_back_can_be_cancelled_at_the_hub(
    site: Site, sees_to: Starter, servers: HubServers
) -> None:
    old = await started(site, sees_to, "bob")
    go = slow_stop(site)
    ticket = site.ask("bob", "slice", replaces=old).ticket
    sees_to.see_to(ticket)
    await until(lambda: site.hub.server("bob").state == "stop")
    stay(site, ticket)
    site.hub.instant = False
    go.set()
    await until(lambda: site.begun.get(("bob", ""), old) != old)
    assert (await servers.stop("bob", "")).word == "stopped"
    await until(lambda: not sees_to.seen_to)
    assert site.ticket(ticket.id).ended_as == "left"
    assert site.held() == {}


async def test_another_accelerator_of_a_switch_that_waits_is_no_new_start(site: Site, sees_to: Starter) -> None:
    old = await started(site, sees_to, "bob")
    site.ask("ann", "slice", 2)
    assert site.ask("bob", "slice", replaces=old).ticket.state == "waiting"
    assert isinstance(site.ask("bob", "none", replaces=old), Starts)
    assert site.read(lambda found: notices.of_user(found, "bob")) == ()


async def test_who_starts_the_session_anew_is_told_that_the_switch_is_given_up(site: Site, sees_to: Starter) -> None:
    old = await started(site, sees_to, "bob")
    site.ask("ann", "slice", 2)
    ticket = site.ask("bob", "slice", replaces=old).ticket
    assert ticket.state == "waiting"
    site.end("bob")
    assert isinstance(site.ask("bob", "card"), Starts)
    assert site.ticket(ticket.id).ended_as == "left"
    [told] = site.read(lambda found: notices.of_user(found, "bob"))
    assert "its place in line for a switch is given up" in told.text
