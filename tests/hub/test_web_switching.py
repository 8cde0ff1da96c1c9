"""What a running session can be switched to, and the switch: by its owner and by itself, at once and from the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, select

from hub.admission import reservations, tickets
from hub.admission.hub_api import HubServers
from hub.db.clock import Now
from hub.idle import sessions
from hub.reconcile.compare import left_before_up
from hub.web.app import ServiceParts, create_app
from hub.web.hub_access import HubAccess, Identity
from hub.web.place import Place
from tests.hub.admission_world import CATALOGUE, Site, until
from tests.hub.hub_double import TOKEN, HubDouble
from tests.hub.web_world import ACCESS, PREFIX, problem

SWITCH = "/api/sessions/~/switch"


class Known(HubAccess):
    """A token is a name, and then that person's; `NAME@SERVER` is that of a session of theirs."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1/hub/api", TOKEN)

    async def identify(self, token: str, session: str = "", **_: Any) -> Identity | None:
        name, itself, server = token.partition("@")
        scope = f"access:servers!server={name}/{server}" if itself else ACCESS
        return Identity("user", name, frozenset(), False, frozenset({scope}))


@pytest.fixture
async def hub() -> AsyncIterator[HubDouble]:
    double = HubDouble()
    await double.open()
    double.users |= {"ann", "bob", "cleo"}
    yield double
    await double.close()


@pytest.fixture
def grace_s() -> int:
    return 0


@pytest.fixture
def site(database: Engine, hub: HubDouble, grace_s: int) -> Site:
    return Site(database, hub, switch_grace_s=grace_s)


@pytest.fixture
async def client(site: Site, database: Engine) -> AsyncIterator[httpx.AsyncClient]:
    parts = ServiceParts(
        place=Place("/", "http://test"),
        hub=Known(),
        secret=TOKEN,
        desk=site.desk,
        database=database,
        catalogue=CATALOGUE,
        engine="local",
        servers=HubServers(site.hub.api_url, TOKEN, slow_start_s=1),
    )
    app = create_app(parts)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://test{PREFIX}", timeout=60) as found,
    ):
        yield found


def by(token: str) -> dict[str, str]:
    return {"Authorization": f"token {token}"}


async def running(
    client: httpx.AsyncClient, site: Site, name: str, accelerator: str = "card", *, seen: bool = True, **options: str
) -> str:
    """Somebody's session runs; returns its spawn id."""
    body = {"options": {"accelerator": accelerator, **options}}
    said = await client.post("/api/requests", json=body, headers=by(name))
    assert (said.status_code, said.json()["state"]) == (202, "starting"), said.text
    await until(lambda: site.ticket(said.json()["ticket"]["id"]).state == "ended")
    [held] = site.read(lambda found: reservations.of_server(found, name, ""))
    if seen:  # the test's snapshot counts nothing of it: what is free is told with those only that it does not count
        site.write(lambda found: reservations.mark_seen(found, [held.id]))
    return held.id


async def switch(client: httpx.AsyncClient, token: str, accelerator: str, count: int = 1) -> httpx.Response:
    return await client.post(SWITCH, json={"accelerator": accelerator, "count": count}, headers=by(token))


async def choices(client: httpx.AsyncClient, token: str) -> dict[str, dict[str, Any]]:
    said = await client.get(SWITCH, headers=by(token))
    assert said.status_code == 200, said.text
    return {one["accelerator"]: one for one in said.json()["choices"]}


def waiting(site: Site, name: str) -> tickets.Ticket | None:
    return site.read(lambda found: tickets.of_server(found, name, ""))


async def test_the_choices_are_those_of_its_profile_with_what_is_free(client: httpx.AsyncClient, site: Site) -> None:
    await running(client, site, "ann")
    await running(client, site, "bob", "slice", seen=False)
    found = await choices(client, "ann@")
    assert list(found) == ["card", "slice", ""]
    assert (found["card"]["title"], found["card"]["simulated"]) == ("Card", True)
    assert [found[key]["current"] for key in found] == [True, False, False]
    assert (found["slice"]["free"], found["slice"]["total"], found["slice"]["ahead"]) == (1, 2, 0)
    assert (found["card"]["most"], found[""]["most"]) == (3, 1)
    assert (found[""]["free"], found[""]["title"]) == (None, "")
    await running(client, site, "cleo", "slice", seen=False)
    await client.post("/api/requests", json={"options": {"accelerator": "slice"}, "server": "b"}, headers=by("bob"))
    found = await choices(client, "ann")
    assert (found["slice"]["free"], found["slice"]["ahead"]) == (0, 1)
    assert (found["card"]["estimate"], found[""]["estimate"]) == ("", "")
    assert found["slice"]["estimate"] == "not known: nobody who holds one has a time limit"


async def test_a_choice_that_is_taken_says_when_one_would_have_it(client: httpx.AsyncClient, site: Site) -> None:
    site.limit("user:bob", "session_s", 1700)
    site.limit("user:cleo", "session_s", 3400)
    await running(client, site, "ann")
    await running(client, site, "bob", "slice", seen=False)
    await running(client, site, "cleo", "slice", seen=False)
    found = await choices(client, "ann@")
    assert found["slice"]["estimate"] == "about 30 minutes, when a session's time limit ends"
    await client.post("/api/requests", json={"options": {"accelerator": "slice"}, "server": "b"}, headers=by("cleo"))
    found = await choices(client, "ann@")
    assert found["slice"]["estimate"] == "about an hour, when a session's time limit ends"


async def test_a_choice_that_a_limit_forbids_says_so_before_it_is_asked_for(
    client: httpx.AsyncClient, site: Site
) -> None:
    site.limit("user:ann", "accelerators:slice", 0)
    await running(client, site, "ann")
    found = await choices(client, "ann@")
    said = await switch(client, "ann@", "slice")
    assert said.status_code == 409, said.text
    assert found["slice"]["refused"] == said.json()["detail"]
    assert found["card"]["refused"] == ""


@pytest.mark.parametrize("token", ["ann", "ann@"], ids=["its owner", "the session itself"])
async def test_a_free_one_is_switched_to_with_the_options_that_it_had(
    client: httpx.AsyncClient, site: Site, token: str
) -> None:
    old = await running(client, site, "ann", cpu="2")
    said = await switch(client, token, "slice")
    assert said.status_code == 202, said.text
    assert said.json()["outcome"] == "starting"
    assert "save now" in said.json()["text"]
    again = await switch(client, token, "slice")
    assert again.status_code in (202, 409), again.text  # asked twice is asked once, or it is that by now
    await until(lambda: site.hub.server("ann").options.get("accelerator") == "slice" and waiting(site, "ann") is None)
    assert site.hub.server("ann").options["cpu"] == "2"
    assert site.hub.stops == [("ann", "")]
    [held] = site.read(reservations.all)
    assert (held.accelerator, held.state) == ("slice", "begun")
    assert held.id != old


async def test_one_that_is_taken_is_waited_for_while_the_session_goes_on(client: httpx.AsyncClient, site: Site) -> None:
    await running(client, site, "bob", "slice", count="2")
    old = await running(client, site, "ann")
    said = await switch(client, "ann@", "slice")
    assert (said.status_code, said.json()["outcome"]) == (202, "waiting"), said.text
    assert said.json()["text"].startswith("You are number 1 of 1 for it; this session goes on.")
    ticket = waiting(site, "ann")
    assert ticket is not None
    assert (ticket.state, ticket.replaces, ticket.accelerator) == ("waiting", old, "slice")
    assert (await switch(client, "ann", "slice")).json()["outcome"] == "waiting"
    shown = (await client.get("/api/sessions/~", headers=by("ann@"))).json()
    assert shown["session"]["id"] == old
    left = await client.delete(SWITCH, headers=by("ann@"))
    assert left.json()["text"] == "You left the queue; your session goes on."
    assert waiting(site, "ann") is None
    assert site.ticket(ticket.id).ended_as == "left"
    assert (await client.delete(SWITCH, headers=by("ann@"))).json()["text"] == "Nothing was being waited for."
    assert site.hub.stops == []
    assert site.held()["ann/"] == ("begun", "card")
    known = site.read(lambda found: sessions.of(found, old))
    assert known is None or not known.stop_because


async def test_another_place_in_the_queue_is_not_left_by_staying(client: httpx.AsyncClient, site: Site) -> None:
    await running(client, site, "bob", "card", count="2")
    said = await client.post("/api/requests", json={"options": {"accelerator": "card"}}, headers=by("ann"))
    assert said.json()["state"] == "queued"
    assert (await client.delete(SWITCH, headers=by("ann"))).json()["text"] == "Nothing was being waited for."
    found = waiting(site, "ann")
    assert found is not None
    assert found.state == "waiting"


async def test_no_accelerator_and_more_of_the_same_can_be_asked_for(client: httpx.AsyncClient, site: Site) -> None:
    site.count(cards=3)
    await running(client, site, "ann", count="1")
    assert (await switch(client, "ann", "card", 2)).json()["outcome"] == "starting"
    await until(lambda: site.hub.server("ann").options.get("count") == "2" and waiting(site, "ann") is None)
    site.write(lambda found: reservations.mark_seen(found, [one.id for one in reservations.all(found)]))
    assert (await switch(client, "ann", "")).json()["outcome"] == "starting"
    await until(lambda: site.hub.server("ann").options.get("accelerator") == "none" and waiting(site, "ann") is None)
    [held] = site.read(reservations.all)
    assert (held.accelerator, held.count) == (None, 0)


@pytest.mark.parametrize(("accelerator", "count"), [("card", 1), ("none", 1), ("", 1), ("", 5)])
async def test_what_it_has_already_is_no_switch(
    client: httpx.AsyncClient, site: Site, accelerator: str, count: int
) -> None:
    await running(client, site, "ann", accelerator or "none")
    problem(await switch(client, "ann", accelerator, count), 409, "cannot-switch")


async def test_what_does_not_run_cannot_be_switched(client: httpx.AsyncClient, site: Site) -> None:
    problem(await switch(client, "ann", "slice"), 404, "no-such-session")
    problem(await client.get(SWITCH, headers=by("ann")), 404, "no-such-session")
    await running(client, site, "ann")
    problem(await client.get("/api/sessions/other/switch", headers=by("ann")), 404, "no-such-session")


async def test_a_session_switches_itself_and_no_other(client: httpx.AsyncClient, site: Site) -> None:
    await running(client, site, "ann")
    problem(await switch(client, "ann@other", "slice"), 403, "not-allowed")
    problem(await switch(client, "bob@", "slice"), 404, "no-such-session")  # his own server is meant, and none runs
    assert site.held() == {"ann/": ("begun", "card")}


@pytest.mark.parametrize("accelerator", ["gone", "../etc", "<b>"])
async def test_what_is_not_in_the_profile_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, site: Site, accelerator: str
) -> None:
    await running(client, site, "ann")
    said = await switch(client, "ann", accelerator)
    assert said.status_code == 400, said.text
    assert said.json()["code"] not in ("bad-request", "internal")
    assert "card" in said.json()["detail"]
    assert site.held() == {"ann/": ("begun", "card")}


async def test_more_than_there_are_is_refused_and_the_session_goes_on(client: httpx.AsyncClient, site: Site) -> None:
    await running(client, site, "ann")
    said = await switch(client, "ann", "slice", 3)
    assert said.status_code == 400, said.text
    assert "At most 2 Slice" in said.json()["detail"]
    assert waiting(site, "ann") is None
    assert site.held() == {"ann/": ("begun", "card")}


async def test_a_quota_counts_what_is_given_back_by_the_switch(client: httpx.AsyncClient, site: Site) -> None:
    site.limit("default", "servers", 1)
    await running(client, site, "ann")
    assert (await switch(client, "ann", "slice")).json()["outcome"] == "starting"
    await until(lambda: site.hub.server("ann").options.get("accelerator") == "slice" and waiting(site, "ann") is None)
    assert len(site.read(reservations.all)) == 1


async def test_more_of_the_same_than_there_are_beside_what_it_has_is_refused(
    client: httpx.AsyncClient, site: Site
) -> None:
    await running(client, site, "ann", count="2")
    said = problem(await switch(client, "ann", "card", 1), 409, "cannot-switch")
    assert "2 can be used in all. Stop the session, and start it with 1." in said["detail"]
    assert waiting(site, "ann") is None
    site.count(cards=3)

    async def accepted() -> bool:
        return (await switch(client, "ann", "card", 1)).status_code == 202

    await until(accepted, 10)  # what is known is renewed each second


@pytest.mark.parametrize(("count", "said"), [("1", "has that already"), ("2", "2 can be used in all")])
async def test_a_place_for_a_switch_is_not_changed_to_what_is_no_switch(
    client: httpx.AsyncClient, site: Site, count: str, said: str
) -> None:
    await running(client, site, "bob", "slice", count="2")
    await running(client, site, "ann")
    assert (await switch(client, "ann", "slice")).json()["outcome"] == "waiting"
    ticket = waiting(site, "ann")
    assert ticket is not None
    path = f"/api/tickets/{ticket.id}"
    more = {"accelerator": "card", "count": count}
    changed = await client.put(path, json={"options": more}, headers=by("ann"))
    assert said in problem(changed, 409, "cannot-switch")["detail"]
    assert waiting(site, "ann") == ticket
    other = await client.put(path, json={"options": {"accelerator": "none"}, "notify": True}, headers=by("ann"))
    assert (other.status_code, other.json()["replaces"], other.json()["accelerator"]) == (200, True, None), other.text


@pytest.mark.parametrize("by_ticket", [False, True], ids=["switch", "ticket"])
async def test_who_stays_while_it_is_being_stopped_is_told_that_it_comes_back(
    client: httpx.AsyncClient, site: Site, by_ticket: bool
) -> None:
    old = await running(client, site, "ann")
    go, stopped = asyncio.Event(), site.stopped

    async def slow(user: str, server: str) -> None:
        await go.wait()
        await stopped(user, server)

    site.hub.on_stop = slow
    assert (await switch(client, "ann@", "slice")).json()["outcome"] == "starting"
    await until(lambda: site.hub.server("ann").state == "stop")
    ticket = waiting(site, "ann")
    assert ticket is not None
    if by_ticket:
        assert (await client.delete(f"/api/tickets/{ticket.id}", headers=by("ann"))).status_code == 204
        assert "comes back" in (await client.get(f"/api/tickets/{ticket.id}", headers=by("ann"))).json()["why"]
    said = await client.delete(SWITCH, headers=by("ann@"))
    assert said.json()["text"] == "It is being stopped already; it comes back with what it had."
    go.set()
    await until(lambda: site.ticket(ticket.id).state == "ended")
    assert site.hub.server("ann").state == "ready"
    assert site.hub.server("ann").options["accelerator"] == "card"
    [held] = site.read(reservations.all)
    assert (held.accelerator, held.state) == ("card", "begun")
    assert held.id != old


@pytest.mark.parametrize("grace_s", [90])
async def test_the_stop_that_comes_first_is_told_and_the_other_one_stands(
    client: httpx.AsyncClient, site: Site, grace_s: int
) -> None:
    old = await running(client, site, "ann")
    now = site.read(lambda found: float(found.scalar(select(Now())) or 0.0))
    site.write(lambda found: sessions.begin(found, [(old, "ann", "")]))
    site.write(lambda found: sessions.announce(found, old, now + 600, "budget"))
    assert (await switch(client, "ann@", "slice")).json()["outcome"] == "starting"
    told = (await client.get("/api/sessions/~", headers=by("ann@"))).json()["session"]
    assert told["stop_because"] == "switch"
    assert told["stop_at"] - now == pytest.approx(grace_s, abs=30)
    text = (await client.get("/api/sessions/~", headers=by("ann@"))).json()["ticket"]["text"]
    assert text == "It is there: your session is stopped soon and starts again with it."
    said = await client.delete(SWITCH, headers=by("ann@"))
    assert said.json()["text"] == "You left the queue; your session goes on."
    told = (await client.get("/api/sessions/~", headers=by("ann@"))).json()["session"]
    assert (told["stop_because"], told["stop_at"]) == ("budget", pytest.approx(now + 600))
    site.write(lambda found: sessions.announce(found, old, now + 5, "budget"))
    assert (await switch(client, "ann@", "slice")).json()["outcome"] == "starting"
    told = (await client.get("/api/sessions/~", headers=by("ann@"))).json()["session"]
    assert (told["stop_because"], told["stop_at"]) == ("budget", pytest.approx(now + 5))


async def test_a_start_that_is_left_while_the_hub_is_away_is_left_in_the_database(
    client: httpx.AsyncClient, site: Site
) -> None:
    site.hub.instant = False
    said = await client.post("/api/requests", json={"options": {"accelerator": "card"}}, headers=by("ann"))
    ticket_id = said.json()["ticket"]["id"]
    await until(lambda: site.hub.server("ann").state == "spawn" and site.held()["ann/"][0] == "begun")
    site.hub.away = True
    assert (await client.delete(f"/api/tickets/{ticket_id}", headers=by("ann"))).status_code == 204
    site.hub.away = False
    [held] = site.read(reservations.all)
    assert left_before_up(site.ticket(ticket_id), held), "by which the reconciler finds it"
