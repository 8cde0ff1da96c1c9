"""Starts from the queue that end otherwise than up: logins that lapse, cancels at the hub, what is gone, and who is told."""

from __future__ import annotations

import asyncio
from math import inf

import pytest
from sqlalchemy import Engine, update

from hub import notices
from hub.admission import changes, promote, starter, tickets
from hub.admission.doors import Starts, Waits
from hub.admission.hub_api import HubServers
from hub.admission.logins import Logins
from hub.admission.tickets import Ticket
from hub.db.clock import Now
from hub.db.tables import tickets as ticket_table
from spawner.refusal import Refusal
from tests.hub.admission_world import CATALOGUE, Site, until
from tests.hub.hub_double import HubDouble
from tests.hub.promoting_world import promoting, quick_site, seen_to_no_more


@pytest.fixture
def site(database: Engine, hub: HubDouble, monkeypatch: pytest.MonkeyPatch) -> Site:
    return quick_site(database, hub, monkeypatch)


async def test_a_lapsed_login_is_waited_for_and_holds_nothing(site: Site, servers: HubServers) -> None:
    site.hub.lapsed.add("ann")
    answer = site.ask("ann")
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await until(lambda: site.ticket(answer.ticket.id).needs_login)
        assert site.held() == {}
        assert isinstance(site.ask("bob", count=2), Starts)  # others pass
        site.hub.lapsed.clear()
        site.write(lambda found: changes.leave(found, tickets.of_user(found, "bob")[0].id, "left", ""))
        again = site.ask("ann")  # a token is still good, and no login
        assert isinstance(again, Waits)
        assert again.ticket.id == answer.ticket.id
        assert site.ticket(answer.ticket.id).needs_login
        await Logins(site.database).happened("ann")
        await until(lambda: site.ticket(answer.ticket.id).state == "ended")
    assert site.ticket(answer.ticket.id).ended_as == "started"


async def test_a_login_that_lapses_again_and_again_is_told_once_and_waited_for(site: Site, servers: HubServers) -> None:
    site.hub.lapsed.add("ann")
    answer = site.ask("ann")
    async with promoting(site.promoter(servers)):
        for _ in range(2):
            seen_to_no_more(site)
            await until(lambda: site.ticket(answer.ticket.id).needs_login)
            await Logins(site.database).happened("ann")
            await until(lambda: site.ticket(answer.ticket.id).state == "starting" or not site.held())
        await until(lambda: site.ticket(answer.ticket.id).needs_login)
    told = site.read(lambda found: notices.of_user(found, "ann"))
    assert [one.id for one in told] == [f"ticket/{answer.ticket.id}/login"]


async def test_who_left_the_group_that_is_charged_is_not_started_on_it(site: Site, servers: HubServers) -> None:
    site.groups["bob"] = frozenset({"cms"})
    site.limit("group:cms", "hours:week", 100)
    first = site.ask("ann", count=2)
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await until(lambda: site.ticket(first.ticket.id).state == "ended")
        answer = site.ask("bob")
        assert answer.ticket.account == "group:cms"
        site.groups["bob"] = frozenset()
        site.end("ann")
        await until(lambda: site.ticket(answer.ticket.id).state == "ended")
    ended = site.ticket(answer.ticket.id)
    assert ended.ended_as == "refused", ended
    assert site.held() == {}


async def test_a_login_that_never_comes_ends_the_ticket(database: Engine, hub: HubDouble, servers: HubServers) -> None:
    site = Site(database, hub, login_wait_s=60)
    hub.lapsed.add("ann")
    answer = site.ask("ann")
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await until(lambda: site.ticket(answer.ticket.id).needs_login)
        long_ago = update(ticket_table).values(changed_at=Now() - 61.0)
        site.write(lambda found: found.execute(long_ago))
        await until(lambda: site.ticket(answer.ticket.id).state == "ended")
    assert site.ticket(answer.ticket.id).ended_as == "lapsed"


@pytest.mark.parametrize("early", [True, False])
async def test_a_start_that_its_owner_cancels_at_the_hub_is_not_begun_again(
    site: Site, servers: HubServers, *, early: bool
) -> None:
    site.hub.instant = False
    site.hub.slow_start_s = 5.0 if early else 0.0
    ticket = site.ask("ann").ticket
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await until(lambda: site.held() == {"ann/": ("begun", "card")})
        if not early:
            await asyncio.sleep(0.2)  # the hub has answered that it takes longer
        assert (await servers.stop("ann", "")).word == "stopped"
        await until(lambda: site.ticket(ticket.id).state == "ended")
        await asyncio.sleep(0.5)  # in which it would be begun again
    assert (site.ticket(ticket.id).ended_as, site.ticket(ticket.id).said) == ("left", "The start was cancelled.")
    assert len(site.hub.starts) == 1
    assert site.held() == {}
    assert site.read(lambda found: notices.of_user(found, "ann")) == ()


async def test_a_start_that_is_cut_by_a_hub_that_ends_is_begun_again(
    site: Site, servers: HubServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.hub.instant = False
    ticket = site.ask("ann").ticket
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await until(lambda: site.held() == {"ann/": ("begun", "card")})
        await asyncio.sleep(0.2)
        site.hub.restart()
        await until(lambda: len(site.hub.starts) == 2)
        site.hub.finish("ann")
        await until(lambda: site.ticket(ticket.id).state == "ended")
    assert site.ticket(ticket.id).ended_as == "started"


async def test_who_was_asked_to_log_in_hears_no_more_of_it_after_it(site: Site, servers: HubServers) -> None:
    def told() -> list[str]:
        return [one.text for one in site.read(lambda found: notices.of_user(found, "ann"))]

    site.hub.lapsed.add("ann")
    ticket = site.ask("ann").ticket
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await until(lambda: site.ticket(ticket.id).needs_login)
        assert "log in again, and your server starts" in told()[0]
        site.hub.lapsed.clear()
        await Logins(site.database).happened("ann")
        assert told() == []
        await until(lambda: site.ticket(ticket.id).state == "ended")
    assert site.ticket(ticket.id).ended_as == "started"
    assert told() == []


def test_what_waits_for_something_that_the_catalogue_has_no_more_ends(site: Site) -> None:
    site.ask("ann", "card", 2)
    ticket = site.ask("bob", "card").ticket
    others = {key: one for key, one in CATALOGUE.accelerators.items() if key != "card"}
    left = CATALOGUE.model_copy(update={"accelerators": others})
    site.write(lambda found: promote.refuse_what_is_gone(found, CATALOGUE, inf))
    assert site.ticket(ticket.id).state == "waiting"
    before = site.ticket(ticket.id).changed_at  # a service that was updated first may know more than a controller
    site.write(lambda found: promote.refuse_what_is_gone(found, left, before))
    assert site.ticket(ticket.id).state == "waiting"
    site.write(lambda found: promote.refuse_what_is_gone(found, left, before + 1.0))
    assert site.ticket(ticket.id).ended_as == "refused"
    [told] = site.read(lambda found: notices.of_user(found, "bob"))
    assert "There is no accelerator 'card' any more" in told.text


async def test_a_mail_that_is_asked_for_while_it_starts_is_sent(site: Site, servers: HubServers) -> None:
    mails: list[str] = []

    async def mail(ticket: Ticket) -> None:
        mails.append(ticket.user)

    site.hub.instant = False
    ticket = site.ask("bob").ticket
    mailing = starter.Starter(site.database, servers, site.queue, slots=4, ready=mail)
    mailing.see_to(ticket)
    await until(lambda: site.hub.server("bob").state == "spawn")
    assert site.ask("bob", notify=True).ticket.notify
    site.hub.finish("bob")
    await until(lambda: not mailing.seen_to)
    await mailing.close()
    assert mails == ["bob"]


async def test_who_asks_again_while_the_cancelled_start_ends_is_not_told_that_it_starts(
    site: Site, servers: HubServers
) -> None:
    ended = asyncio.Event()
    stopped = site.stopped

    async def slowly(user: str, server: str) -> None:
        await site.desk.unwanted(site.begun[user, server])  # the pod takes its time
        await ended.wait()
        await stopped(user, server)

    site.hub.instant, site.hub.on_stop = False, slowly
    ticket = site.ask("bob").ticket
    async with promoting(site.promoter(servers)):
        seen_to_no_more(site)
        await until(lambda: site.held() == {"bob/": ("begun", "card")})
        stop = asyncio.ensure_future(servers.stop("bob", ""))
        await until(lambda: site.ticket(ticket.id).state == "ended")
        with pytest.raises(Refusal) as refused:
            site.ask("bob")
        assert refused.value.code == "already-running"
        ended.set()
        await stop
    assert isinstance(site.ask("bob"), Starts)


def test_who_is_cancelled_by_an_administrator_is_told(site: Site) -> None:
    site.ask("ann", "card", 2)
    ticket = site.ask("bob", "card").ticket
    site.write(lambda found: changes.leave(found, ticket.id, "cancelled", "root cancelled it.", "user:root"))
    [told] = site.read(lambda found: notices.of_user(found, "bob"))
    assert told.text == "Your server: Its place in line is gone: root cancelled it."
