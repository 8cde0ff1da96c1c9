"""My usage, the group's page, and administration: figures as the API has them, forms that keep what was typed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from hub import audit, notices
from hub.admission import reservations
from hub.admission.hub_api import HubServers
from hub.idle import sessions
from hub.idle.activity import Accelerated, Measures
from hub.idle.sessions import Arrived
from hub.settings.idle import IdleSettings
from hub.settings.quotas import QuotaSettings
from hub.web.app import ServiceParts, create_app
from hub.web.hub_access import HubAccess, Identity
from hub.web.pages.forms import TOKEN as FIELD
from hub.web.pages.visits import Visit
from hub.web.place import Place
from tests.hub.admission_world import CATALOGUE, Site
from tests.hub.hub_double import TOKEN, HubDouble
from tests.hub.pages_world import Browser, read_page
from tests.hub.web_world import ACCESS, PREFIX

ORIGIN = "http://test"
GROUPS = {"ann": {"cms"}, "bob": {"cms"}, "lead": {"cms-leaders"}, "root": set(), "cleo": set()}


class Known(HubAccess):
    """Tokens are names."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1/hub/api", TOKEN)

    async def identify(self, token: str, session: str = "", **_: Any) -> Identity | None:
        return Identity("user", token, frozenset(GROUPS[token]), token == "root", frozenset({ACCESS}))


@pytest.fixture
def site(database: Engine, hub: HubDouble) -> Site:
    hub.users.update(GROUPS)
    return Site(database, hub)


@pytest.fixture
async def client(site: Site, database: Engine) -> AsyncIterator[httpx.AsyncClient]:
    parts = ServiceParts(
        place=Place("/", ORIGIN),
        hub=Known(),
        secret=TOKEN,
        desk=site.desk,
        database=database,
        catalogue=CATALOGUE,
        engine="local",
        servers=HubServers(site.hub.api_url, TOKEN, slow_start_s=1),
        quotas=QuotaSettings(timezone="Europe/Rome", leaders={"cms-leaders": ("cms",)}),
        idle=IdleSettings(keeps=1),
    )
    app = create_app(parts)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"{ORIGIN}{PREFIX}", timeout=60) as found,
    ):
        yield found


Browse = Callable[[str], Browser]


@pytest.fixture
def browse(client: httpx.AsyncClient) -> Browse:
    return lambda name: Browser(client, name, ORIGIN)


async def start(site: Site, user: str, account: str = "") -> str:
    """A session that runs, and has measured itself."""
    held = await site.at_the_hub(user, options={"account": account} if account else {}, groups=GROUPS[user])
    measured = Measures(cpu=1.5, memory=3 << 30, devices=[Accelerated(name="Card", utilisation=0.42)])

    def work(connection: Any) -> None:
        reservations.mark_seen(connection, [held.id])
        sessions.begin(connection, [(held.id, user, "")])
        for _ in range(2):
            sessions.measured(connection, [Arrived(user, "", measured)], IdleSettings(keeps=1))

    site.write(work)
    return held.id


async def test_who_runs_nothing_sees_that(browse: Browse) -> None:
    page = await browse("cleo").open("/usage")
    read_page(page)
    assert page.status == 200
    assert "Running now: 0 sessions" in page.text
    assert "No limits are set." in page.text


async def test_a_running_session_shows_what_it_measures_and_what_is_left(browse: Browse, site: Site) -> None:
    site.limit("user:ann", "hours:week", 40)
    site.limit("default", "memory", 1 << 36)
    await start(site, "ann")
    page = await browse("ann").open("/usage?of=cards")
    read_page(page)
    for said in (
        "Running now: 1 session",
        "1.5 cores",
        "3 GiB",
        "42 % busy",
        "your own account, 1 card-hour an hour",
        "of 40 card-hours used this week",
        "begins anew",
        "as text",
    ):
        assert said in page.text, page.text
    assert page.tags.count("polyline") == 3
    assert "rect" in page.tags
    [csv] = [link for link in page.links if "days.csv" in link]
    assert (await browse("ann").open(csv.removeprefix(PREFIX))).answer.text.startswith("day,")


async def test_keep_stop_and_read_are_done_without_script(browse: Browse, site: Site) -> None:
    held = await start(site, "ann")

    def announce(connection: Any) -> None:
        sessions.announce(connection, held, 4e9, "idle")
        notices.add(connection, "ann", "budget", "warning", "80 % <b>used</b>")

    site.write(announce)
    ann = browse("ann")
    page = await ann.open("/usage")
    read_page(page)
    assert "nobody uses it" in page.text
    assert "80 % <b>used</b>" in page.text
    kept = await ann.send(page, "/usage/sessions/~/keep")
    assert "Your session goes on." in kept.text
    again = await ann.post("/usage/sessions/~/keep", page.form("/usage/sessions/~/keep"))
    assert again.status_code == 409
    assert "Nothing is about to stop this session." in again.text
    read = await ann.send(kept, "/usage/notices/read")
    assert "80 %" not in read.text
    stopped = await ann.send(read, "/usage/sessions/~/stop")
    assert "is being stopped" in stopped.text
    gone = await ann.post("/usage/sessions/two/stop", read.form("/usage/sessions/~/stop"))
    assert gone.status_code == 404


async def test_a_session_is_switched_or_waits_for_it(browse: Browse, site: Site) -> None:
    await start(site, "ann")
    ann = browse("ann")
    form = await ann.open("/usage/sessions/~/switch")
    read_page(form)
    assert "2 of 2 free" in form.text
    path = "/usage/sessions/~/switch"
    for typed in ("9" * 5000, "many"):
        wrong = await ann.send(form, path, {"accelerator": "slice", "count": typed})
        read_page(wrong)
        assert wrong.status == 422
        assert wrong.form(path)["accelerator"] == "slice"
        assert wrong.form(path)["count"] == typed
    done = await ann.send(form, path, {"accelerator": "slice", "count": "1"})
    assert done.status == 200
    assert "Save now" in done.text or "in line" in done.text, done.text


async def test_a_group_is_seen_by_who_leads_it_with_its_members(browse: Browse, site: Site) -> None:
    site.limit("group:cms", "hours:month", 100)
    await start(site, "ann", "group:cms")
    page = await browse("lead").open("/group")
    read_page(page)
    assert "Group cms" in page.text
    assert "of 100 card-hours used this month" in page.text
    assert "Member Card-hours Hours of sessions Core-hours ann" in page.text
    assert (await browse("lead").open("/group?group=atlas")).status == 403
    assert (await browse("ann").open("/group")).status == 403
    assert (await browse("ann").open("/group?group=cms")).status == 403
    everything = await browse("root").open("/group")
    assert "Group cms" in everything.text


async def test_a_group_that_is_too_large_for_a_picture_by_member_has_one_of_all_together(
    browse: Browse, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.limit("group:cms", "hours:month", 100)
    for user in ("ann", "bob"):
        await start(site, user, "group:cms")
    monkeypatch.setattr("hub.web.usage.MOST_ROWS", 2)
    assert "all members" not in (await browse("lead").open("/group")).text
    monkeypatch.setattr("hub.web.usage.MOST_ROWS", 1)
    page = await browse("lead").open("/group")
    assert page.status == 422, "the table by member would be too long as well"
    get = Visit.get

    async def few(visit: Visit, path: str, query: Any = None) -> Any:
        monkeypatch.setattr("hub.web.usage.MOST_ROWS", 2 if query and query.get("by") == ["user"] else 1)
        return await get(visit, path, query)

    monkeypatch.setattr(Visit, "get", few)
    page = await browse("lead").open("/group")
    read_page(page)
    assert page.status == 200
    assert "all members" in page.text
    assert "ann" in page.text


async def test_administrators_see_occupancy_who_used_most_and_refusals(browse: Browse, site: Site) -> None:
    await start(site, "ann")
    for _ in range(3):
        site.desk.refusals.add("service", "budget-spent")
    site.desk.refusals.flush()
    page = await browse("root").open("/admin?days=7")
    read_page(page)
    assert page.status == 200
    assert "Card (simulated)" in page.text or "Card:" in page.text
    assert "Person Card-hours Hours of sessions Core-hours ann" in page.text
    assert "budget-spent the service's API 3" in page.text
    for path in ("/admin", "/admin/quotas", "/admin/audit", "/admin/messages"):
        refused = await browse("ann").open(path)
        read_page(refused)
        assert refused.status == 403


async def test_limits_are_set_changed_and_removed_and_typed_values_stay(browse: Browse, site: Site) -> None:
    root = browse("root")
    page = await root.open("/admin/quotas")
    read_page(page)
    new = {FIELD: first_token(page), "subject": "group:c/ms", "field": "hours:week", "value": "fourty"}
    wrong = await root.post("/admin/quotas/set", new)
    assert wrong.status_code == 422
    assert 'value="fourty"' in wrong.text
    assert "hours of whole cards, such as 40" in wrong.text
    assert (await root.post("/admin/quotas/set", {**new, "value": "40"})).status_code == 303
    listed = await root.open("/admin/quotas?contains=c/m")
    read_page(listed)
    assert "group:c/ms" in listed.text
    forms = [fields for at, fields in listed.forms if str(at.get("action")).endswith("/set") and "etag" in fields]
    [row] = forms
    assert (await root.post("/admin/quotas/set", {**row, "value": "20"})).status_code == 303
    late = await root.post("/admin/quotas/set", {**row, "value": "30"})
    assert late.status_code == 412
    assert "Look at it again" in late.text
    now = await root.open("/admin/quotas")
    gone = await root.send(now, "/admin/quotas/remove")
    assert "The limit is removed." in gone.text
    trail = await root.open("/admin/audit?action=quota.")
    read_page(trail)
    assert trail.text.count("user:root") == 3
    done = {one.action for one in site.read(audit.recent)}
    assert done == {"quota.set", "quota.remove"}


def first_token(page: Any) -> str:
    return next(fields[FIELD] for _, fields in page.forms if FIELD in fields)


async def test_a_message_is_told_and_taken_back(browse: Browse) -> None:
    root = browse("root")
    page = await root.open("/admin/messages")
    read_page(page)
    wrong = await root.send(page, "/admin/messages/tell", {"text": "Maintenance at noon", "hours": "soon"})
    read_page(wrong)
    assert wrong.status == 422
    assert "Maintenance at noon" in wrong.text
    told = await root.send(page, "/admin/messages/tell", {"text": "Maintenance at noon", "hours": "1,5"})
    assert "The message is told." in told.text
    assert "Maintenance at noon" in (await browse("ann").open("/usage")).text
    read = await root.open("/usage")
    await root.send(read, "/usage/notices/read")  # who has read it can take it back all the same
    told = await root.open("/admin/messages")
    taken = await root.send(told, "/admin/messages/take-back")
    assert "The message is taken back." in taken.text
    assert "Maintenance at noon" not in (await browse("ann").open("/usage")).text


async def test_the_audit_trail_says_what_cannot_be_asked(browse: Browse) -> None:
    page = await browse("root").open("/admin/audit?older_than=first")
    read_page(page)
    assert page.status == 422
    assert "older_than" in page.text
