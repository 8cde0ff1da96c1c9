"""The database's clock is set back an hour: who waits keeps their place, and nothing is held for longer because of that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import Engine

from hub.admission import reservations, tickets
from hub.admission.doors import Starts, Waits
from hub.admission.promote import promote_next
from hub.db.upgrade import upgrade
from tests.database_clock import DatabaseClock, connect_with
from tests.hub.admission_world import Site
from tests.hub.hub_double import HubDouble

NOON = 1_763_985_600.0
HOUR = 3600.0


@pytest.fixture
def clock() -> DatabaseClock:
    return DatabaseClock(NOON)


@pytest.fixture
def engine(clock: DatabaseClock, database_url: str) -> Iterator[Engine]:
    made = connect_with(clock, database_url)
    upgrade(made)
    yield made
    made.dispose()


@pytest.fixture
async def site(engine: Engine) -> AsyncIterator[Site]:
    hub = HubDouble()
    await hub.open()
    yield Site(engine, hub, reservation_s=60)
    await hub.close()


def names(site: Site) -> list[str]:
    return [ticket.user for ticket in sorted(site.read(tickets.waiting), key=lambda ticket: ticket.rank)]


async def test_who_comes_after_it_waits_behind_all_who_came_before(site: Site, clock: DatabaseClock) -> None:
    site.ask("ann", count=2)
    for name in ("bob", "cleo"):
        clock.advance(10)
        assert isinstance(site.ask(name), Waits)
    site.count()
    clock.advance(-HOUR)
    assert isinstance(site.ask("dora"), Waits)
    clock.advance(1)
    assert isinstance(site.ask("eve"), Waits)
    assert names(site) == ["bob", "cleo", "dora", "eve"]
    for held in site.read(reservations.all):
        site.write(lambda found, held=held: reservations.delete(found, (held.id,)))  # type: ignore[misc]
    site.count()
    promoted = site.write(lambda found: promote_next(found, site.desk.store, 5))
    assert [ticket.user for ticket in promoted] == ["bob", "cleo"]


async def test_what_nobody_began_is_given_back_as_soon_as_it_would_have_been(site: Site, clock: DatabaseClock) -> None:
    answer = site.ask("ann", count=2)
    assert isinstance(answer, Starts)
    clock.advance(-HOUR)
    site.count()
    assert site.held() != {}
    clock.advance(30)
    site.count()
    assert site.held() != {}
    clock.advance(90)
    site.count()
    assert site.held() == {}
    assert isinstance(site.ask("bob"), Starts)


async def test_a_start_that_nobody_sees_to_is_taken_over_in_time(site: Site, clock: DatabaseClock) -> None:
    answer = site.ask("ann")
    clock.advance(-HOUR)
    site.count()
    assert site.write(lambda found: tickets.adopt(found, seen_to_s=60)) == ()
    clock.advance(120)
    adopted = site.write(lambda found: tickets.adopt(found, seen_to_s=60))
    assert [ticket.id for ticket in adopted] == [answer.ticket.id]


async def test_what_was_reserved_after_it_holds_as_long_as_it_should(site: Site, clock: DatabaseClock) -> None:
    clock.advance(-HOUR)
    answer = site.ask("ann")
    site.count()
    clock.advance(30)
    site.count()
    assert list(site.held()) == ["ann/"]
    assert site.ticket(answer.ticket.id).state == "starting"


async def test_a_clock_that_is_corrected_by_a_second_moves_nothing(site: Site, clock: DatabaseClock) -> None:
    site.ask("ann")
    before = site.ticket(site.read(tickets.open_ones)[0].id)
    clock.advance(-1)
    site.count()
    assert site.ticket(before.id) == before
