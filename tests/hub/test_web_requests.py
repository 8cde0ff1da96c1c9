"""The paths of the queue: asking, following, changing, leaving, and what administrators may; errors with their codes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from jupyterhub.slugs import is_valid_safe_slug
from sqlalchemy import Engine, event, update

from hub import audit
from hub.admission import changes, reservations, tickets
from hub.admission.hub_api import HubServers
from hub.db.tables import tickets as ticket_table
from hub.web.app import ServiceParts, create_app
from hub.web.door import Visitor
from hub.web.hub_access import HubAccess, Identity
from hub.web.live import PER_PERSON
from hub.web.place import Place
from hub.web.places import Places
from hub.web.problems import Problem
from hub.web.queue import Queue
from hub.web.queue_events import QueueLive
from tests.hub.admission_world import CATALOGUE, Site, until
from tests.hub.hub_double import TOKEN, HubDouble
from tests.hub.web_world import ACCESS, PREFIX, problem


class Known(HubAccess):
    """Tokens are names; `root` is an administrator."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1/hub/api", TOKEN)

    async def identify(self, token: str, session: str = "", **_: Any) -> Identity | None:
        kind: Any = "service" if token == "robot" else "user"
        return Identity(kind, token, frozenset(), token == "root", frozenset({ACCESS}))


@pytest.fixture
def site(database: Engine, hub: HubDouble) -> Site:
    hub.users.update({"ann", "bob", "cleo", "root"})
    return Site(database, hub)


@pytest.fixture
async def client(site: Site, database: Engine, request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    parts = ServiceParts(
        place=Place("/", "http://test"),
        hub=Known(),
        secret=TOKEN,
        desk=site.desk,
        database=database,
        catalogue=CATALOGUE,
        engine="local",
        servers=HubServers(site.hub.api_url, TOKEN, slow_start_s=1),
        named_limit=getattr(request, "param", 4),
    )
    app = create_app(parts)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=f"http://test{PREFIX}", timeout=60) as found,
    ):
        yield found


def by(name: str) -> dict[str, str]:
    return {"Authorization": f"token {name}"}


async def ask(client: httpx.AsyncClient, name: str, count: int = 1, **more: Any) -> httpx.Response:
    options = {"accelerator": "card", "count": str(count), **more.pop("options", {})}
    return await client.post("/api/requests", json={"options": options, **more}, headers=by(name))


async def test_a_request_that_can_be_had_is_started_at_once(client: httpx.AsyncClient, site: Site) -> None:
    answer = await ask(client, "ann")
    assert answer.status_code == 202
    said = answer.json()
    assert (said["state"], said["begun"]) == ("starting", True)
    assert said["ticket"]["url"] == "/user/ann/"
    assert said["ticket"]["why"] == "Your turn has come, and your server is being started."
    assert said["ticket"]["title"] == "Card (simulated)"
    assert answer.headers["Location"] == f"{PREFIX}/api/tickets/{said['ticket']['id']}"
    await until(lambda: site.ticket(said["ticket"]["id"]).state == "ended")
    shown = (await client.get(f"/api/tickets/{said['ticket']['id']}", headers=by("ann"))).json()
    assert (shown["state"], shown["ended_as"], shown["place"]) == ("ended", "started", None)
    assert site.held() == {"ann/": ("begun", "card")}


async def test_the_third_waits_sees_its_place_changes_it_and_leaves(client: httpx.AsyncClient, site: Site) -> None:
    await ask(client, "ann", 2)
    said = (await ask(client, "bob", 2)).json()
    assert (said["state"], said["begun"]) == ("queued", False)
    assert (said["ticket"]["place"], said["ticket"]["of"]) == (1, 1)
    assert said["ticket"]["estimate"].startswith("not known")
    path = f"/api/tickets/{said['ticket']['id']}"
    body = {"options": {"accelerator": "card", "count": "1"}, "notify": True}
    changed = await client.put(path, json=body, headers=by("bob"))
    assert (changed.status_code, changed.json()["count"], changed.json()["notify"]) == (200, 1, True)
    listed = (await client.get("/api/tickets", headers=by("bob"))).json()
    assert ([one["id"] for one in listed["tickets"]], listed["waiting"]) == ([said["ticket"]["id"]], {"card": 1})
    assert (await client.delete(path, headers=by("bob"))).status_code == 204
    assert (await client.delete(path, headers=by("bob"))).status_code == 204
    assert site.ticket(said["ticket"]["id"]).ended_as == "left"
    problem(await client.put(path, json=body, headers=by("bob")), 409, "not-waiting")


async def test_what_starts_does_not_say_why_it_waited(client: httpx.AsyncClient, site: Site) -> None:
    await ask(client, "ann", 2)
    said = (await ask(client, "bob")).json()["ticket"]
    assert "are in use" in said["why"]
    site.write(lambda found: tickets.promote(found, said["id"], "spawn", seen_to_s=60))
    shown = (await client.get(f"/api/tickets/{said['id']}", headers=by("bob"))).json()
    assert (shown["state"], shown["why"]) == ("starting", "Your turn has come, and your server is being started.")


async def test_where_the_hub_does_not_begin_in_time_the_answer_says_so_and_the_start_goes_on(
    client: httpx.AsyncClient, site: Site
) -> None:
    site.hub.away = True
    said = (await ask(client, "ann")).json()
    assert (said["state"], said["begun"]) == ("starting", False)
    site.hub.away = False
    await until(lambda: site.held() == {"ann/": ("begun", "card")}, 60)
    again = (await ask(client, "ann")).json()
    assert again.get("begun", True) or again["code"] == "already-running"


async def test_leaving_while_it_starts_stops_the_server(client: httpx.AsyncClient, site: Site) -> None:
    site.hub.instant = False
    said = (await ask(client, "ann")).json()
    await until(lambda: site.hub.server("ann").state == "spawn" and "ann/" in site.held())
    await until(lambda: site.held()["ann/"][0] == "begun")
    assert (await client.delete(f"/api/tickets/{said['ticket']['id']}", headers=by("ann"))).status_code == 204
    assert site.hub.server("ann").state == "stopped"
    assert site.held() == {}


async def test_refusals_have_their_own_code_status_and_text(client: httpx.AsyncClient) -> None:
    await ask(client, "ann", 2)
    for answer, status, code in (
        (await ask(client, "bob", may_wait=False), 409, "full"),
        (await ask(client, "bob", 3), 409, "does-not-fit"),
        (await ask(client, "bob", options={"accelerator": "h100"}), 400, "unknown-choice"),
        (await ask(client, "bob", options={"cores": 3}), 400, "unknown-option"),
        (await ask(client, "bob", account="group:cms"), 403, "account"),
        (await ask(client, "robot"), 403, "account"),
        (await ask(client, "ann", options={"accelerator": "slice"}), 409, "already-running"),
    ):
        said = answer.json()
        assert (answer.status_code, said["code"]) == (status, code), said
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["Armillary-Refusal"] == code
        assert said["detail"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"server": "a/b"}, id="slash"),
        pytest.param({"server": ".."}, id="dots"),
        pytest.param({"server": "~"}, id="default-server"),
        pytest.param({"server": "a\nb"}, id="control character"),
        pytest.param({"server": "a" * 256}, id="long name"),
        pytest.param({"options": []}, id="no object"),
        pytest.param({"options": {f"o{number}": 1 for number in range(51)}}, id="many options"),
        pytest.param({"cards": 1}, id="unknown key"),
    ],
)
async def test_bad_bodies_are_refused(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    problem(await client.post("/api/requests", json=body, headers=by("ann")), 422, "bad-request")


async def test_nobody_sees_or_touches_the_places_of_others(client: httpx.AsyncClient, site: Site) -> None:
    await ask(client, "ann", 2)
    path = f"/api/tickets/{(await ask(client, 'bob')).json()['ticket']['id']}"
    for answer in (
        await client.get(path, headers=by("cleo")),
        await client.delete(path, headers=by("cleo")),
        await client.put(path, json={}, headers=by("cleo")),
        await client.get(f"{path}/events", headers=by("cleo")),
        await client.get("/api/tickets/" + "0" * 32, headers=by("cleo")),
    ):
        problem(answer, 404, "no-such-ticket")
    problem(await client.put(path, json={}, headers=by("root")), 403, "not-allowed")
    problem(await client.post(f"/api/queue/{path[-32:]}/expedite", headers=by("bob")), 403, "not-allowed")
    assert (await client.get("/api/queue", headers=by("cleo"))).json()["tickets"] == []
    assert site.ticket(path[-32:]).state == "waiting"


async def test_administrators_see_all_and_order_the_queue(client: httpx.AsyncClient, site: Site) -> None:
    await ask(client, "ann", 2)
    first, second = [(await ask(client, name)).json()["ticket"]["id"] for name in ("bob", "cleo")]
    seen = (await client.get("/api/queue", headers=by("root"))).json()["tickets"]
    assert [one["user"] for one in seen if one["state"] == "waiting"] == ["bob", "cleo"]
    moved = await client.post(f"/api/queue/{second}/move", json={"before": first}, headers=by("root"))
    assert (moved.status_code, moved.json()["place"]) == (200, 1)
    assert (await client.post(f"/api/queue/{first}/expedite", headers=by("root"))).json()["place"] == 1
    assert (await client.delete(f"/api/tickets/{first}", headers=by("root"))).status_code == 204
    assert (site.ticket(first).ended_as, site.ticket(first).said) == ("cancelled", "root cancelled it.")
    actors = {(one.actor, one.action) for one in site.read(audit.recent)}
    assert actors == {("user:root", f"ticket.{what}") for what in ("move", "expedite", "cancel")}


async def test_a_live_page_hears_of_its_place_until_the_ticket_ends(client: httpx.AsyncClient, site: Site) -> None:
    await ask(client, "ann", 2)
    said = (await ask(client, "bob")).json()
    site.write(lambda found: changes.leave(found, said["ticket"]["id"], "left", "You left the queue."))
    answer = await client.get(f"/api/tickets/{said['ticket']['id']}/events", headers=by("bob"))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "event: ticket" in answer.text
    assert "You left the queue." in answer.text


class Held(Queue):
    """A queue whose reads take as long as a test wants."""

    read_once = asyncio.Event()
    goes_on = asyncio.Event()

    async def read(self, work: Any) -> Any:
        found = await super().read(work)
        self.read_once.set()
        await self.goes_on.wait()
        return found


def live_pages(site: Site, kind: type[Queue] = Queue) -> QueueLive:
    nobody: Any = None  # nothing is started or stopped by looking
    queue = kind(site.desk, site.database, nobody, nobody, Place("/", "http://test"))
    return QueueLive(queue, Places(queue), 100, lambda: False)


def visitor(name: str) -> Visitor:
    return Visitor(Identity("user", name), name, "", False)


async def test_one_person_cannot_take_the_live_pages_of_all(site: Site) -> None:
    live = live_pages(site)
    async with contextlib.AsyncExitStack() as stack:
        for number in range(PER_PERSON):
            await stack.enter_async_context(live.watching(f"{number:032x}", visitor("ann")))
        with pytest.raises(Problem, match="You have 20 live pages open"):
            await stack.enter_async_context(live.watching("a" * 32, visitor("ann")))
        await stack.enter_async_context(live.watching("a" * 32, visitor("bob")))
    async with live.watching("a" * 32, visitor("ann")):
        pass


async def test_nothing_is_kept_of_a_place_that_nobody_looks_at_any_more(site: Site) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob").ticket.id
    Held.read_once, Held.goes_on = asyncio.Event(), asyncio.Event()
    live = live_pages(site, Held)
    async with live.watching(waits, visitor("bob")):
        await asyncio.wait_for(Held.read_once.wait(), 20)
    Held.goes_on.set()
    async with live.news:
        await asyncio.wait_for(live.news.wait(), 20)
    assert live.told == {}


async def test_a_character_that_no_database_takes_is_the_askers_mistake(client: httpx.AsyncClient) -> None:
    for path in ("/api/sessions/%00", "/api/sessions/a%00/switch", "/api/usage?user=%00", "/api/quotas?group=a%00"):
        problem(await client.get(path, headers=by("root")), 422, "bad-request")
    problem(await client.delete("/api/notices/%00", headers=by("root")), 422, "bad-request")


async def test_a_new_name_that_the_hub_refuses_gets_no_place(client: httpx.AsyncClient, site: Site) -> None:
    await ask(client, "ann", 2)
    for name in ("my server", "Two", "é", "2nd", "a--b", "a-", "a" * 31):
        assert not is_valid_safe_slug(name)
        said = problem(await ask(client, "bob", server=name), 422, "bad-request")
        assert "a letter first" in said["errors"][0]["detail"]
    for name in ("a", "two", "a-1-b"):
        assert is_valid_safe_slug(name)
        assert (await ask(client, "bob", server=name)).json()["state"] == "queued"
    site.hub.server("cleo", "my server")  # made before the hub had this rule
    assert (await ask(client, "cleo", server="my server")).json()["state"] == "queued"


async def test_one_more_server_with_a_name_than_the_hub_allows_gets_no_place(
    client: httpx.AsyncClient, site: Site
) -> None:
    await ask(client, "ann", 2)
    for name in ("one", "two"):
        site.hub.server("bob", name)  # stopped
    for name in ("three", "four"):
        assert (await ask(client, "bob", server=name)).json()["state"] == "queued"
    answer = await ask(client, "bob", server="five")
    assert (answer.status_code, answer.json()["code"]) == (409, "named-servers")
    assert "You have 4 servers with names" in answer.json()["detail"]
    assert "may have 4" in answer.json()["detail"]
    for name in ("", "one", "four"):
        assert (await ask(client, "bob", server=name)).json()["state"] == "queued"
    for name in ("one", "two", "three", "four"):
        site.hub.server("cleo", name)
    site.hub.away = True  # it will say so itself at the start
    assert (await ask(client, "cleo", server="five")).json()["state"] == "queued"


@pytest.mark.parametrize("client", [0], indirect=True)
async def test_where_no_server_has_a_name_none_is_waited_for(client: httpx.AsyncClient) -> None:
    answer = await ask(client, "bob", server="one")
    assert (answer.status_code, answer.json()["code"]) == (409, "named-servers")
    assert "no servers with names" in answer.json()["detail"]
    assert (await ask(client, "bob")).status_code == 202


async def test_while_the_database_is_away_nothing_is_lost_and_it_is_said(
    client: httpx.AsyncClient, site: Site, database: Engine
) -> None:
    waits = site.ask("ann")

    def refuse(*_: object) -> None:
        raise ConnectionRefusedError("nobody listens")

    database.dispose()
    event.listen(database, "do_connect", refuse)
    answer = await ask(client, "bob")
    event.remove(database, "do_connect", refuse)
    problem(answer, 503, "database-away")
    assert answer.headers["Retry-After"] == "60"
    assert site.ticket(waits.ticket.id).state == "starting"
    assert len(site.read(reservations.all)) == 1


async def test_asked_again_after_hours_the_estimate_is_that_of_now(client: httpx.AsyncClient, site: Site) -> None:
    site.limit("user:ann", "session_s", 7200)
    await ask(client, "ann", 2)
    said = (await ask(client, "bob")).json()
    hours_ago = update(ticket_table).where(ticket_table.c.id == said["ticket"]["id"])
    earlier = {name: ticket_table.c[name] - 7000 for name in ("asked_at", "changed_at")}
    site.write(lambda found: found.execute(hours_ago.values(**earlier)))
    again = (await ask(client, "bob")).json()["ticket"]
    shown = (await client.get(f"/api/tickets/{again['id']}", headers=by("bob"))).json()
    assert again["estimate"] == shown["estimate"] == said["ticket"]["estimate"]


async def test_looking_at_a_place_is_no_login(client: httpx.AsyncClient, site: Site) -> None:
    await ask(client, "ann", 2)
    said = (await ask(client, "bob")).json()["ticket"]
    lapsed = update(ticket_table).where(ticket_table.c.id == said["id"])
    site.write(lambda found: found.execute(lapsed.values(needs_login=True)))
    assert (await client.get(f"/api/tickets/{said['id']}", headers=by("bob"))).json()["needs_login"] is True
    assert (await ask(client, "bob")).json()["ticket"]["needs_login"] is True
