"""The hub's own doors: the same decision inside start(), with a place in the queue instead of a timeout."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine, select

from hub.admission import reservations, tickets
from hub.admission.changes import ended
from hub.admission.doors import Starts, Waits
from hub.db.tables import ledger
from spawner.refusal import Refusal
from tests.hub.admission_world import Site
from tests.hub.hub_double import HubDouble


@pytest.fixture
def site(database: Engine) -> Site:
    return Site(database, HubDouble())


async def refused(site: Site, user: str, *more: object, **options: object) -> Refusal:
    with pytest.raises(Refusal) as found:
        await site.at_the_hub(user, *more, **options)  # type: ignore[arg-type]
    return found.value


async def test_a_start_gets_what_is_free_and_is_charged(site: Site) -> None:
    held = await site.at_the_hub("ann")
    assert (held.state, held.account, held.share, held.devices) == ("begun", "user:ann", 1.0, ("card-0",))
    assert site.read(lambda found: list(found.scalars(select(ledger.c.id)))) == [held.id]


async def test_a_second_call_of_the_same_start_has_the_same_answer(site: Site) -> None:
    wish = site.wish("ann")
    first = await site.desk.reserve(wish.wanted, expires_in_s=60, person=wish.person)
    assert await site.desk.reserve(wish.wanted, expires_in_s=60, person=wish.person) == first
    assert len(site.read(reservations.all)) == 1


async def test_what_was_granted_for_the_same_request_is_taken_with_its_id(site: Site) -> None:
    granted = site.ask("ann")
    assert isinstance(granted, Starts)
    held = await site.at_the_hub("ann")
    assert (held.id, held.state) == (granted.ticket.spawn_id, "begun")
    assert len(site.read(reservations.all)) == 1


async def test_another_request_gives_back_what_was_granted_and_ends_its_ticket(site: Site) -> None:
    granted = site.ask("ann")
    held = await site.at_the_hub("ann", "slice")
    assert held.accelerator == "slice"
    assert [one.id for one in site.read(reservations.all)] == [held.id]
    ticket = site.ticket(granted.ticket.id)
    assert (ticket.ended_as, ticket.said) == ("left", "Another start of this server was asked for instead.")


async def test_queued_is_a_refusal_with_place_and_ticket_which_stays(site: Site) -> None:
    await site.at_the_hub("ann", count=2)
    refusal = await refused(site, "bob")
    assert (refusal.code, refusal.status_code) == ("queued", 409)
    assert "1st in line" in refusal.text
    again = await refused(site, "bob")
    assert again.headers["Armillary-Ticket"] == refusal.headers["Armillary-Ticket"]
    [ticket] = site.read(tickets.waiting)
    assert ticket.id == refusal.headers["Armillary-Ticket"]
    assert ticket.options["account"] == "user:bob"
    second = await refused(site, "cleo")
    assert "2nd in line" in second.text


async def test_both_doors_share_one_ticket(site: Site) -> None:
    await site.at_the_hub("ann", count=2)
    refusal = await refused(site, "bob")
    answer = site.ask("bob")
    assert isinstance(answer, Waits)
    assert answer.ticket.id == refusal.headers["Armillary-Ticket"]


async def test_what_never_fits_is_refused_and_has_no_ticket(site: Site) -> None:
    assert (await refused(site, "ann", count=3)).code == "does-not-fit"
    assert site.read(tickets.open_ones) == ()


async def test_an_earlier_start_of_the_server_that_is_still_ending_does_not_count_against_its_owner(site: Site) -> None:
    site.limit("default", "servers", 1)
    first = await site.at_the_hub("ann")
    second = await site.at_the_hub("ann")
    assert second.id != first.id
    assert (await refused(site, "ann", server="two")).code == "quota-servers"


async def test_what_ended_is_given_back_once_and_its_row_closed(site: Site) -> None:
    held = await site.at_the_hub("ann")
    await site.desk.release(held.id)
    await site.desk.release(held.id)
    await site.desk.release("never was")
    assert site.held() == {}
    rows = site.read(lambda found: list(found.execute(select(ledger.c.closed_at, ledger.c.ended_as))))
    assert len(rows) == 1
    assert rows[0].closed_at is not None
    assert rows[0].ended_as == "ended"


async def test_the_card_of_a_session_that_is_switched_is_kept_for_its_return(site: Site) -> None:
    old = await site.at_the_hub("ann")
    answer = site.ask("ann", "slice", replaces=old.id)
    assert isinstance(answer, Starts)
    assert site.write(lambda found: ended(found, old.id))
    held = {one.accelerator: one for one in site.read(reservations.all)}
    assert set(held) == {"card", "slice"}
    kept = held["card"]
    assert (kept.state, kept.devices, kept.ticket) == ("granted", old.devices, answer.ticket.id)
    assert kept.id != old.id
    back = await site.at_the_hub("ann")
    assert (back.id, back.devices) == (kept.id, old.devices)


async def test_another_hub_or_service_sees_what_this_one_did(site: Site) -> None:
    granted = site.ask("ann")
    other = site.another_desk()
    wish = site.wish("ann")
    held = await other.reserve(replace(wish.wanted), expires_in_s=60, person=wish.person)
    assert held.id == granted.ticket.spawn_id
