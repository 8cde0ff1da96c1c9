"""Where everybody stands is worked out once for all who ask, and nobody is told what they know to be over."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Engine

from hub.admission import changes
from hub.web import places
from hub.web.place import Place
from hub.web.places import Places
from hub.web.problems import Problem
from hub.web.queue import Queue
from tests.hub.admission_world import Site
from tests.hub.hub_double import HubDouble


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
async def site(database: Engine) -> AsyncIterator[Site]:
    hub = HubDouble()
    await hub.open()
    hub.users.update({"ann", "bob", "cleo", "root"})
    yield Site(database, hub)
    await hub.close()


@pytest.fixture
def queue(site: Site) -> Counted:
    nobody: Any = None  # nothing is started or stopped by looking
    return Counted(site.desk, site.database, nobody, nobody, Place("/", "http://test"))


@pytest.fixture
def tiring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each working out takes long, as with thousands who wait, and is rested from."""
    monkeypatch.setattr(places, "_LONG_S", 0.0)
    monkeypatch.setattr(places, "_REST", 60.0)


async def test_all_who_ask_at_once_are_told_of_one_working_out(site: Site, queue: Counted) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob").ticket
    found = Places(queue)
    told = await asyncio.gather(*(found.picture([waits]) for _ in range(200)))
    assert {one.places[waits.id].place for one in told} == {1}
    assert queue.reads == 1
    assert len({id(one) for one in told}) == 1


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
async def test_who_asks_at_the_very_moment_at_which_it_is_done_holds_up_nobody(site: Site, queue: Counted) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob").ticket
    found = Places(queue)
    asking: list[asyncio.Task[places.Picture]] = []
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        asking.append(asyncio.create_task(found.picture()))
        await asyncio.sleep(0)
    told = await asyncio.gather(*asking)
    assert all(waits.id in one.places for one in told)
    assert queue.reads > 3, "it was done, and begun again, while they asked"
