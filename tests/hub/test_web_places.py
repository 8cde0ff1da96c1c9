"""Where everybody stands is worked out once for all who ask, and nobody is told what they know to be over."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from math import inf
from typing import Any

import httpx
import pytest

from hub.admission import changes, decide, tickets
from hub.admission.decide import Queued
from hub.admission.standing import Standing
from hub.admission.tickets import Ticket
from hub.db.transaction import DatabaseAway
from hub.web import places
from hub.web.door import Visitor
from hub.web.hub_access import Identity
from hub.web.place import Place
from hub.web.places import Places
from hub.web.problems import Problem
from hub.web.queue import Queue, TicketModel
from hub.web.queue_events import QueueLive
from tests.hub.admission_world import Site
from tests.hub.test_web_requests import ask, by, client, site

__all__ = ["client", "site"]


class Counted(Queue):
    """A queue that counts how often it is read, and may be away."""

    reads = 0
    away = False

    async def read(self, work: Any) -> Any:
        object.__setattr__(self, "reads", self.reads + 1)
        await asyncio.sleep(0.01)
        if self.away:
            raise Problem("database-away", "The database is away.")
        return await super().read(work)


@pytest.fixture
def queue(site: Site) -> Counted:
    nobody: Any = None  # nothing is started or stopped by looking
    return Counted(site.desk, site.database, nobody, nobody, Place("/", "http://test"))


REST_S = 2.0


@pytest.fixture
def tiring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each working out is rested from for a set time, as with thousands who wait."""
    monkeypatch.setattr(places, "_LONG_S", 0.0)
    monkeypatch.setattr(places, "_REST", inf)
    monkeypatch.setattr(places, "_LONGEST_REST_S", REST_S)


@pytest.fixture
def untiring(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes on this machine, it needs no rest."""
    monkeypatch.setattr(places, "_LONG_S", inf)


def takes(site: Site, monkeypatch: pytest.MonkeyPatch, seconds: float) -> threading.Event:
    """Let each working out take so long, as with thousands who wait, or until what is returned is set."""
    queue, done = site.desk.store.queue, threading.Event()

    def slow(standing: Standing) -> dict[str, Queued]:
        found = queue(standing)
        done.wait(seconds)
        return found

    monkeypatch.setattr(site.desk.store, "queue", slow)
    return done


async def test_all_who_ask_at_once_are_told_of_one_working_out(site: Site, queue: Counted) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob").ticket
    found = Places(queue)
    told = await asyncio.gather(*(found.picture([waits]) for _ in range(200)))
    assert {one.places[waits.id].place for one in told} == {1}
    assert queue.reads == 1
    assert len({id(one) for one in told}) == 1


@pytest.mark.usefixtures("untiring")
async def test_where_it_takes_no_time_it_is_as_of_now(site: Site, queue: Counted) -> None:
    site.ask("ann", count=2)
    found = Places(queue)
    for number, name in enumerate(("bob", "cleo", "root"), start=1):
        waits = site.ask(name).ticket
        told = await found.picture()
        assert (told.places[waits.id].place, told.waiting) == (number, {"card": number})
        assert found.at_rest(waits) is None


@pytest.mark.usefixtures("tiring")
async def test_during_the_rest_everybody_is_told_the_same(site: Site, queue: Counted) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob").ticket
    found = Places(queue)
    first = await found.picture([waits])
    assert first.rests_until > time.monotonic()
    assert [await found.picture([waits]) for _ in range(3)] == [first] * 3
    assert found.at_rest(waits) is first
    assert queue.reads == 1


@pytest.mark.usefixtures("tiring")
async def test_who_has_asked_meanwhile_waits_for_the_end_of_the_rest(site: Site, queue: Counted) -> None:
    site.ask("ann", count=2)
    found = Places(queue)
    first = await found.picture()
    waits = site.ask("bob").ticket
    assert found.at_rest(waits) is None
    told = await found.picture([waits])
    assert told.places[waits.id].place == 1
    assert told.began >= first.rests_until
    left = site.write(lambda connection: changes.leave(connection, waits.id, "left", "You left."))
    assert left is not None
    again = site.ask("bob").ticket
    assert again.id in (await found.picture([again])).places


@pytest.mark.usefixtures("tiring")
async def test_what_was_read_before_a_change_of_the_order_is_told_to_nobody(site: Site, queue: Counted) -> None:
    site.ask("ann", count=2)
    bob, cleo = site.ask("bob").ticket, site.ask("cleo").ticket
    found = Places(queue)
    assert list((await found.picture()).places) == [bob.id, cleo.id]
    site.write(lambda connection: changes.expedite(connection, cleo.id, "user:root"))
    found.changed()
    assert found.at_rest(bob) is None
    assert list((await found.picture()).places) == [cleo.id, bob.id]


async def test_a_change_during_the_working_out_is_not_missed(site: Site, queue: Counted) -> None:
    site.ask("ann", count=2)
    bob, cleo = site.ask("bob").ticket, site.ask("cleo").ticket
    found = Places(queue)
    early = asyncio.create_task(found.picture())
    await asyncio.sleep(0)  # it is on its way
    site.write(lambda connection: changes.expedite(connection, cleo.id, "user:root"))
    found.changed()
    assert list((await found.picture()).places) == [cleo.id, bob.id]
    assert set((await early).places) == {bob.id, cleo.id}


async def test_who_goes_away_takes_it_from_nobody(site: Site, queue: Counted) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob").ticket
    found = Places(queue)
    first = asyncio.create_task(found.picture())
    second = asyncio.create_task(found.picture())
    await asyncio.sleep(0)
    first.cancel()
    assert waits.id in (await second).places
    with contextlib.suppress(asyncio.CancelledError):
        await first
    assert queue.reads == 1


async def test_all_hear_that_the_database_is_away_and_the_next_one_tries_again(site: Site, queue: Counted) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob").ticket
    found = Places(queue)
    object.__setattr__(queue, "away", True)
    told = await asyncio.gather(*(found.picture() for _ in range(5)), return_exceptions=True)
    assert [type(one) for one in told] == [Problem] * 5
    object.__setattr__(queue, "away", False)
    assert waits.id in (await found.picture()).places


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("untiring")
async def test_who_asks_at_the_very_moment_at_which_it_is_done_holds_up_nobody(site: Site, queue: Counted) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob").ticket
    found = Places(queue)
    asking: list[asyncio.Task[places.Picture]] = []
    while queue.reads < 4:  # it is done, and begun again, while they ask
        asking.append(asyncio.create_task(found.picture()))
        await asyncio.sleep(0)
    told = await asyncio.gather(*asking)
    assert all(waits.id in one.places for one in told)


async def test_one_that_stood_still_is_not_rested_from_for_long(
    site: Site, queue: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ask("ann", count=2)
    found = Places(queue)
    with monkeypatch.context() as still:
        takes(site, still, 1.5)
        picture = await found.picture()
    assert 4.5 <= picture.rests_until - picture.began <= picture.took_s + 3.0


async def test_who_asks_is_told_though_others_leave_all_the_time(
    site: Site, queue: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob").ticket
    takes(site, monkeypatch, 0.3)
    found = Places(queue)

    async def leave() -> None:
        while True:
            found.changed()
            await asyncio.sleep(0.05)

    leaving = asyncio.create_task(leave())
    try:
        async with asyncio.timeout(20):
            for _ in range(3):
                assert waits.id in (await found.picture([waits])).places
    finally:
        leaving.cancel()


async def test_that_a_start_has_ended_is_told_before_the_places_of_others_are_worked_out(
    site: Site, queue: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ask("ann", count=2)
    bob, cleo = site.ask("bob").ticket, site.ask("cleo").ticket
    live = QueueLive(queue, Places(queue), 100, lambda: False)
    who = Visitor(Identity("user", "bob"), "token", "", False)
    async with live.watching(bob.id, who), asyncio.timeout(40):
        while bob.id not in live.told:
            await asyncio.sleep(0.02)
        done = takes(site, monkeypatch, 30.0)
        try:
            site.write(lambda connection: changes.leave(connection, cleo.id, "left", "Left."))
            site.write(lambda connection: tickets.end(connection, bob.id, "started", "Your server is up."))
            while live.told[bob.id].state != "ended":
                await asyncio.sleep(0.02)
            assert not done.is_set()
        finally:
            done.set()


async def test_a_page_is_told_of_no_place_rather_than_of_one_from_before(
    site: Site, queue: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ask("ann", count=2)
    bob = site.ask("bob").ticket
    live = QueueLive(queue, Places(queue), 100, lambda: False)
    who = Visitor(Identity("user", "bob"), "token", "", False)
    async with live.watching(bob.id, who), asyncio.timeout(40):
        while bob.id not in live.told:
            await asyncio.sleep(0.02)
        done = takes(site, monkeypatch, 30.0)
        cleo = site.ask("cleo").ticket
        async with live.watching(cleo.id, who):
            for _ in range(150):  # three seconds
                assert cleo.id not in live.told
                await asyncio.sleep(0.02)
            done.set()
            while cleo.id not in live.told:
                await asyncio.sleep(0.02)
            assert live.told[cleo.id].place == 2
    while live.told:
        await asyncio.sleep(0.02)
    site.write(lambda connection: changes.leave(connection, bob.id, "left", "Left."))
    await asyncio.sleep(4.5)  # nobody looks, its reader has ended, and so has the rest
    async with live.watching(cleo.id, who), asyncio.timeout(40):
        while cleo.id not in live.told:
            await asyncio.sleep(0.02)
        assert live.told[cleo.id].place == 1


@pytest.mark.usefixtures("tiring")
async def test_what_does_not_move_a_place_is_told_at_once(site: Site, client: httpx.AsyncClient) -> None:
    await ask(client, "ann", 2)
    first = await ask(client, "bob")
    waits = first.json()["ticket"]["id"]
    assert (await client.get("/api/tickets", headers=by("bob"))).json()["tickets"][0]["notify"] is False
    await ask(client, "bob", notify=True)
    assert (await client.get(f"/api/tickets/{waits}", headers=by("bob"))).json()["notify"] is True
    assert (await client.get("/api/tickets", headers=by("bob"))).json()["tickets"][0]["notify"] is True


@pytest.mark.usefixtures("tiring")
async def test_administrators_see_what_they_have_done_and_people_what_they_have(
    site: Site, client: httpx.AsyncClient
) -> None:
    async def listed(name: str, path: str = "/api/queue") -> list[str]:
        return [one["user"] for one in (await client.get(path, headers=by(name))).json()["tickets"]]

    await ask(client, "ann", 2)
    ids = {name: (await ask(client, name)).json()["ticket"]["id"] for name in ("bob", "cleo")}
    both = await listed("root")
    assert both[-2:] == ["bob", "cleo"]
    assert (await client.post(f"/api/queue/{ids['cleo']}/expedite", headers=by("root"))).status_code == 200
    assert (await listed("root"))[-2:] == ["cleo", "bob"]
    assert (await client.delete(f"/api/tickets/{ids['bob']}", headers=by("root"))).status_code == 204
    assert "bob" not in await listed("root")
    assert await listed("bob", "/api/tickets") == []
    assert (await ask(client, "bob")).json()["state"] == "queued"
    assert await listed("bob", "/api/tickets") == ["bob"]


async def test_who_joins_the_line_is_told_of_the_place_by_what_is_worked_out_for_all(
    site: Site, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alone(*_: Any) -> None:
        raise AssertionError("everybody in front was planned for one of those who asked")

    monkeypatch.setattr(decide._Rules, "stand", alone)
    monkeypatch.setattr(site.desk.store, "place", alone)
    site.ask("ann", count=2)
    told = await asyncio.gather(*(ask(client, name, count=2) for name in ("bob", "cleo", "root")))
    assert [one.status_code for one in told] == [202] * 3
    assert {one.json()["state"] for one in told} == {"queued"}
    assert {one.json()["ticket"]["place"] for one in told} == {1, 2, 3}
    again = (await ask(client, "bob", count=2)).json()["ticket"]
    assert again == told[0].json()["ticket"] | {"of": 3}
    changed = told[0].json()["ticket"]
    answer = await client.put(
        f"/api/tickets/{changed['id']}", headers=by("bob"), json={"options": {**changed["options"], "count": 1}}
    )
    assert (answer.status_code, answer.json()["place"]) == (200, changed["place"]), answer.text


async def test_who_has_got_a_place_hears_so_also_where_it_cannot_be_worked_out(
    site: Site, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where that takes too long: browsers, JupyterLab and programs give up some time."""
    monkeypatch.setattr(places, "_TOLD_WITHIN_S", 0.2)
    done = takes(site, monkeypatch, 20)
    site.ask("ann", count=2)
    answer = await ask(client, "bob")
    assert answer.status_code == 202
    said = answer.json()
    assert (said["state"], said["ticket"]["state"], said["ticket"]["place"]) == ("queued", "waiting", None)
    assert answer.headers["Location"].endswith(said["ticket"]["id"])
    done.set()

    def away(_: Standing) -> dict[str, Queued]:
        raise DatabaseAway("The database is away.")

    monkeypatch.setattr(site.desk.store, "queue", away)
    answer = await ask(client, "cleo")
    assert (answer.status_code, answer.json()["ticket"]["place"]) == (202, None)
    assert site.ticket(answer.json()["ticket"]["id"]).state == "waiting"


async def test_whose_turn_has_come_by_the_answer_is_told_that(
    site: Site, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ask("ann", count=2)
    told = Places.told

    async def promoted_meanwhile(self: Places, ticket: Ticket) -> TicketModel:
        assert site.write(lambda found: tickets.promote(found, ticket.id, "a-start", seen_to_s=30))
        return await told(self, ticket)

    monkeypatch.setattr(Places, "told", promoted_meanwhile)
    said = (await ask(client, "bob")).json()
    assert (said["state"], said["begun"]) == ("starting", False)
    assert (said["ticket"]["state"], said["ticket"]["place"]) == ("starting", None)
