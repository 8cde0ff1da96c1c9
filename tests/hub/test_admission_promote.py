"""From the queue into a running server, with a hub that answers late, twice, never or wrongly, and kills at each step."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Engine

from hub import notices
from hub.admission import changes, outcome, promote, reservations, starter
from hub.admission.doors import Starts, Waits
from hub.admission.hub_api import HubServers
from hub.admission.promote import promote_next
from hub.controller.lease import Lease, StaleEpoch
from hub.idle import sessions
from tests.hub.admission_world import Site, until
from tests.hub.hub_double import HubDouble
from tests.hub.promoting_world import promoting, quick_site, seen_to_no_more


@pytest.fixture
def site(database: Engine, hub: HubDouble, monkeypatch: pytest.MonkeyPatch) -> Site:
    return quick_site(database, hub, monkeypatch)


async def test_whose_turn_it_is_is_started_by_itself_with_the_tickets_options(site: Site, servers: HubServers) -> None:
    async with promoting(site.promoter(servers)):
        await site.at_the_hub("ann")
        await site.at_the_hub("bob")
        waits = site.ask("cleo")
        assert isinstance(waits, Waits)
        site.write(lambda found: reservations.delete(found, [one.id for one in reservations.all(found)][:1]))
        await until(lambda: site.ticket(waits.ticket.id).state == "ended")
    ended = site.ticket(waits.ticket.id)
    assert ended.ended_as == "started"
    [(user, server, options)] = site.hub.starts
    assert (user, server) == ("cleo", "")
    assert options == {**waits.ticket.options, "account": "user:cleo"}
    assert site.held()["cleo/"] == ("begun", "card")
    assert site.begun["cleo", ""] == ended.spawn_id


async def test_what_was_granted_at_the_service_is_started_by_it_under_the_granted_id(
    site: Site, servers: HubServers
) -> None:
    answer = site.ask("ann")
    assert isinstance(answer, Starts)
    sees_to = site.starter(servers)
    sees_to.see_to(answer.ticket)
    sees_to.see_to(answer.ticket)
    await until(lambda: site.ticket(answer.ticket.id).state == "ended")
    assert site.begun["ann", ""] == answer.ticket.spawn_id
    assert len(site.hub.starts) == 1
    await sees_to.close()


async def test_starts_that_were_granted_together_are_asked_for_one_after_the_other(
    site: Site, servers: HubServers
) -> None:
    asked: list[float] = []

    async def begun(user: str, server: str, options: Mapping[str, Any]) -> None:
        asked.append(asyncio.get_running_loop().time())

    site.hub.on_start = begun
    answers = [site.ask("ann"), site.ask("bob", "slice")]
    sees_to = site.starter(servers)
    for answer in answers:
        assert isinstance(answer, Starts)
        sees_to.see_to(answer.ticket)
    await until(lambda: all(site.ticket(answer.ticket.id).state == "ended" for answer in answers))
    await sees_to.close()
    first, second = asked
    assert second - first > 0.03, "who opens a page of the hub finds room between them"


async def test_the_slot_is_freed_when_a_slow_start_is_ready(
    database: Engine, hub: HubDouble, servers: HubServers
) -> None:
    site = Site(database, hub, start_slots=1)
    hub.instant = False
    first, second = site.ask("ann"), site.ask("bob", "slice")
    assert isinstance(second, Waits)
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await until(lambda: hub.server("ann").state == "spawn")
        assert site.ticket(second.ticket.id).state == "waiting"
        hub.finish("ann")
        await until(lambda: site.ticket(second.ticket.id).state == "starting")
        await until(lambda: hub.server("bob").state == "spawn")
        hub.finish("bob")
        await until(lambda: site.ticket(second.ticket.id).state == "ended")
    assert site.ticket(first.ticket.id).ended_as == "started"


async def test_a_start_that_fails_keeps_its_place_and_ends_after_some_attempts(site: Site, servers: HubServers) -> None:
    async def broken(*_: object) -> tuple[int, str, str]:
        return 502, "crashed", "JupyterLab ended with exit code 1."

    site.hub.on_start = broken
    answer = site.ask("ann")
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await until(lambda: site.ticket(answer.ticket.id).state == "ended")
    ended = site.ticket(answer.ticket.id)
    assert (ended.ended_as, len(site.hub.starts)) == ("failed", 3)
    assert "exit code 1" in ended.said
    assert site.held() == {}
    [notice] = site.read(lambda found: notices.of_user(found, "ann"))
    assert "exit code 1" in notice.text


async def test_a_refusal_that_does_not_pass_ends_the_ticket_with_its_words(site: Site, servers: HubServers) -> None:
    async def refused(*_: object) -> tuple[int, str, str]:
        return 403, "not-offered", "The profile is not open to you."

    site.hub.on_start = refused
    answer = site.ask("ann")
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await until(lambda: site.ticket(answer.ticket.id).state == "ended")
    assert site.ticket(answer.ticket.id).ended_as == "refused"
    assert site.ticket(answer.ticket.id).said == "The profile is not open to you."
    assert site.held() == {}


async def test_a_slow_start_that_fails_is_heard_of(site: Site, servers: HubServers) -> None:
    site.hub.instant = False
    site.hub.on_start = None
    answer = site.ask("ann")
    sees_to = site.starter(servers)
    sees_to.see_to(answer.ticket)
    await until(lambda: site.hub.server("ann").state == "spawn")
    await asyncio.sleep(0.2)  # until it is followed
    site.hub.finish("ann", failed=(502, "crashed", "The image cannot be pulled."))
    await until(lambda: site.ticket(answer.ticket.id).state == "waiting")
    assert "The image cannot be pulled." in site.ticket(answer.ticket.id).said
    assert site.ticket(answer.ticket.id).attempts == 1
    await sees_to.close()


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([(429, {"Retry-After": "30"}, "Too many users trying to log in right now.")], id="429"),
        pytest.param([(503, {}, "Service Unavailable")] * 3, id="503"),
        pytest.param([(502, {}, "")], id="proxy"),
        pytest.param([(400, {}, "ann: is pending stop")], id="pending stop"),
        pytest.param([(503, {"Armillary-Refusal": "database-away"}, "Away.")], id="database of the hub away"),
        pytest.param([(409, {"Armillary-Refusal": "full"}, "All 2 Card are in use.")], id="full after all"),
    ],
)
async def test_what_the_hub_answers_wrongly_is_asked_again(
    site: Site, servers: HubServers, answers: list[tuple[int, dict[str, str], str]]
) -> None:
    site.hub.answers = list(answers)
    answer = site.ask("ann")
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await until(lambda: site.ticket(answer.ticket.id).state == "ended")
    assert site.ticket(answer.ticket.id).ended_as == "started"
    assert len(site.hub.starts) == 1
    assert site.held() == {"ann/": ("begun", "card")}


async def test_an_answer_that_is_lost_starts_nothing_twice(site: Site, servers: HubServers) -> None:
    site.hub.deaf = 2
    answer = site.ask("ann")
    sees_to = site.starter(servers)
    sees_to.see_to(answer.ticket)
    await until(lambda: site.ticket(answer.ticket.id).state == "ended")
    assert site.ticket(answer.ticket.id).ended_as == "started"
    assert len(site.hub.starts) == 1
    await sees_to.close()


async def test_a_hub_that_is_away_too_long_costs_the_hold_but_not_the_place(
    site: Site, servers: HubServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter, "_TROUBLE_S", 0.2)
    monkeypatch.setattr(outcome, "_AGAIN_S", 60.0)
    site.hub.away = True
    answer = site.ask("ann")
    sees_to = site.starter(servers)
    sees_to.see_to(answer.ticket)
    await until(lambda: site.ticket(answer.ticket.id).state == "waiting")
    waiting = site.ticket(answer.ticket.id)
    assert (waiting.rank, waiting.attempts, site.held()) == (answer.ticket.rank, 0, {})
    await sees_to.close()


async def test_deleting_a_person_cancels_their_tickets(site: Site, servers: HubServers) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob")
    starting = site.ask("cleo", "slice")
    site.hub.users -= {"bob", "cleo"}
    async with promoting(site.promoter(servers)):
        await until(lambda: site.ticket(waits.ticket.id).ended_as == "cancelled")
        seen_to_no_more(site)
        await until(lambda: site.ticket(starting.ticket.id).ended_as == "cancelled")
    assert "cleo/" not in site.held()


async def test_one_who_leaves_while_it_starts_is_not_started_again(site: Site, servers: HubServers) -> None:
    site.hub.away = True
    answer = site.ask("ann")
    sees_to = site.starter(servers)
    sees_to.see_to(answer.ticket)
    await until(lambda: sees_to.seen_to == {answer.ticket.id})
    site.write(lambda found: changes.leave(found, answer.ticket.id, "left", "You left."))
    site.hub.away = False
    await until(lambda: not sees_to.seen_to)
    assert site.hub.starts == []
    assert site.held() == {}
    await sees_to.close()


# --- killed at every step ------------------------------------------------------------------------------------------


async def test_killed_after_the_reservation_another_asks_the_hub(site: Site, servers: HubServers) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob", "slice")
    assert isinstance(waits, Starts)  # reserved, and nobody asked the hub
    async with promoting(site.promoter(servers)):
        assert site.hub.starts == []
        seen_to_no_more(site)
        await until(lambda: site.ticket(waits.ticket.id).state == "ended")
    assert site.ticket(waits.ticket.id).ended_as == "started"
    assert [user for user, _, _ in site.hub.starts].count("bob") == 1


async def test_killed_after_the_hub_was_asked_another_follows(site: Site, servers: HubServers) -> None:
    site.hub.instant = False
    answer = site.ask("ann")
    first = site.starter(servers)
    first.see_to(answer.ticket)
    await until(lambda: site.hub.server("ann").state == "spawn")
    await first.close()
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await asyncio.sleep(0.3)
        site.hub.finish("ann")
        await until(lambda: site.ticket(answer.ticket.id).state == "ended")
    assert site.ticket(answer.ticket.id).ended_as == "started"
    assert len(site.hub.starts) == 1


async def test_killed_after_it_was_ready_another_writes_it_down(site: Site, servers: HubServers) -> None:
    answer = site.ask("ann")
    assert (await servers.start("ann", "", answer.ticket.options)).word == "ready"
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await until(lambda: site.ticket(answer.ticket.id).state == "ended")
    assert site.ticket(answer.ticket.id).ended_as == "started"
    assert len(site.hub.starts) == 1


async def test_a_hold_that_expired_is_asked_for_anew(site: Site, servers: HubServers) -> None:
    answer = site.ask("ann")
    site.write(lambda found: reservations.delete(found, [answer.ticket.spawn_id or ""]))
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await until(lambda: site.ticket(answer.ticket.id).state == "ended")
    assert site.ticket(answer.ticket.id).ended_as == "started"
    assert site.held() == {"ann/": ("begun", "card")}


async def test_two_who_see_to_the_same_start_it_once(site: Site, servers: HubServers) -> None:
    answer = site.ask("ann")
    both = [site.starter(servers), site.starter(servers)]
    for one in both:
        one.see_to(answer.ticket)
    await until(lambda: not any(one.seen_to for one in both))
    assert site.ticket(answer.ticket.id).ended_as == "started"
    assert len(site.hub.starts) == 1
    assert list(site.held().values()) == [("begun", "card")]


async def test_one_that_leads_no_longer_promotes_nobody(site: Site, servers: HubServers) -> None:
    site.ask("ann", count=2)
    site.ask("bob")
    site.write(lambda found: reservations.delete(found, [one.id for one in reservations.all(found)]))
    old = site.promoter(servers)
    lease = Lease(site.database, "another", 0.001)
    lease.try_acquire()
    await until(lambda: lease.try_acquire() is not None)
    with pytest.raises(StaleEpoch):
        await asyncio.wait_for(old.run(asyncio.Event()), 20)
    assert site.held() == {}


def test_promoting_takes_as_many_as_there_are_slots_and_cards(site: Site) -> None:
    site.ask("ann", count=2)
    asked = [site.ask(name) for name in ("bob", "cleo", "dan")]
    site.write(lambda found: reservations.delete(found, [one.id for one in reservations.all(found)]))
    first = site.write(lambda found: promote_next(found, site.desk.store, 1))
    assert [one.user for one in first] == ["bob"]
    second = site.write(lambda found: promote_next(found, site.desk.store, 5))
    assert [one.user for one in second] == ["cleo"]
    assert site.write(lambda found: promote_next(found, site.desk.store, 5)) == []
    devices = [device for held in site.read(reservations.all) for device in held.devices]
    assert sorted(devices) == ["card-0", "card-1"]
    assert site.ticket(asked[2].ticket.id).state == "waiting"


def test_a_limit_of_length_that_came_while_somebody_waited_holds_when_they_start(site: Site) -> None:
    site.ask("ann", count=2)
    assert site.ask("bob").ticket.session_s is None
    site.limit("default", "session_s", 3600)
    site.write(lambda found: reservations.delete(found, [one.id for one in reservations.all(found)]))
    assert [one.user for one in site.write(lambda found: promote_next(found, site.desk.store, 5))] == ["bob"]
    assert [one.session_s for one in site.read(reservations.all)] == [3600]


# --- a switch ------------------------------------------------------------------------------------------------------


async def switched(site: Site, servers: HubServers) -> tuple[str, str]:
    """Ann has a card, and asks for a slice instead: returns spawn id of the first and the ticket."""
    first = site.ask("ann")
    await site_started(site, servers, first)
    old = site.ticket(first.ticket.id).spawn_id or ""
    answer = site.ask("ann", "slice", replaces=old)
    assert site.hub.server("ann").state == "ready"
    return old, answer.ticket.id


async def site_started(site: Site, servers: HubServers, answer: Starts | Waits) -> None:
    sees_to = site.starter(servers)
    sees_to.see_to(answer.ticket)
    await until(lambda: site.ticket(answer.ticket.id).state == "ended")
    await sees_to.close()


async def test_a_switch_stops_the_old_session_and_starts_the_new_one(site: Site, servers: HubServers) -> None:
    _, ticket_id = await switched(site, servers)
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await until(lambda: site.ticket(ticket_id).state == "ended")
    assert site.ticket(ticket_id).ended_as == "started"
    assert site.hub.server("ann").options["accelerator"] == "slice"
    assert [(one.state, one.accelerator) for one in site.read(reservations.all)] == [("begun", "slice")]
    assert site.hub.stops == [("ann", "")]


async def test_a_switch_that_fails_brings_the_old_session_back(site: Site, servers: HubServers) -> None:
    _, ticket_id = await switched(site, servers)
    spawn = site.hub.on_start
    assert spawn is not None

    async def no_slices(user: str, server: str, options: dict[str, str]) -> tuple[int, str, str] | None:
        if options["accelerator"] == "slice":
            return 502, "crashed", "The slice does not answer."
        return await spawn(user, server, options)

    site.hub.on_start = no_slices  # type: ignore[assignment]
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await until(lambda: site.ticket(ticket_id).state == "ended")
    assert site.ticket(ticket_id).said == outcome.TURNED_BACK
    assert site.hub.server("ann").state == "ready"
    assert site.hub.server("ann").options["accelerator"] == "card"
    assert [(one.state, one.accelerator) for one in site.read(reservations.all)] == [("begun", "card")]
    assert any("comes back" in one.text for one in site.read(lambda found: notices.of_user(found, "ann")))


async def test_a_switch_that_waits_leaves_the_session_alone_and_announces_nothing(
    site: Site, servers: HubServers
) -> None:
    site.ask("bob", "slice", 2)
    old, ticket_id = await switched(site, servers)
    async with promoting(site.promoter(servers)):
        await asyncio.sleep(0.3)
    assert site.ticket(ticket_id).state == "waiting"
    assert site.hub.server("ann").state == "ready"
    known = site.read(lambda found: sessions.of(found, old))
    assert known is None or not known.stop_because


async def test_the_hub_is_left_alone_between_questions_whether_those_who_wait_still_exist(
    site: Site, servers: HubServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promote, "_USERS_S", 0.05)
    tickets = {user: site.ask(user).ticket for user in ("ann", "bob", "cleo", "dan")}
    asked: list[tuple[str, float, float]] = []

    async def knows(user: str) -> bool:
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(0.02)
        asked.append((user, began, asyncio.get_running_loop().time()))
        return user != "dan"

    monkeypatch.setattr(servers, "knows", knows)
    async with promoting(site.promoter(servers)):
        await until(lambda: len(asked) >= 4)
        await until(lambda: site.ticket(tickets["dan"].id).state == "ended")
    assert [user for user, *_ in asked][:2] == ["cleo", "dan"], "who starts is not asked about"
    for (_, began, ended), (_, following, _) in pairwise(asked):
        assert following - ended >= 3.9 * (ended - began)


@pytest.mark.parametrize(
    ("took_s", "slots", "expected"),
    [
        pytest.param(None, 48, 0.05, id="nobody knows"),
        pytest.param(1.0, 48, 0.05, id="quick"),
        pytest.param(8.0, 48, 0.8 * 8 / 48, id="a busy hub"),
        pytest.param(600.0, 48, 0.2, id="images are pulled"),
        pytest.param(3.0, 1, 0.2, id="one slot"),
    ],
)
def test_starts_begin_evenly_over_the_time_that_they_take(took_s: float | None, slots: int, expected: float) -> None:
    assert starter.apart_s(took_s, slots) == pytest.approx(expected)


async def test_starts_that_take_long_make_the_next_ones_begin_further_apart(site: Site, servers: HubServers) -> None:
    sees_to = site.starter(servers)
    assert sees_to._took_s is None
    answer = site.ask("ann")
    sees_to.see_to(answer.ticket)
    await until(lambda: site.ticket(answer.ticket.id).state == "ended")
    first = sees_to._took_s
    assert first is not None
    sees_to._took(first + 10.0)
    assert sees_to._took_s == pytest.approx(first + 1.0)
    await sees_to.close()
