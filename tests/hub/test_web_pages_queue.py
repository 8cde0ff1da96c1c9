"""The queue's page: places with their reason, leaving and changing without script, what administrators may, proofs."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from hub import audit
from hub.admission.hub_api import HubServers
from hub.web.app import ServiceParts, create_app
from hub.web.hub_access import HubAccess, Identity
from hub.web.pages.forms import TOKEN as FIELD
from hub.web.place import Place
from hub.web.proof import is_proof, make_proof
from tests.hub.admission_world import CATALOGUE, Site
from tests.hub.hub_double import TOKEN, HubDouble
from tests.hub.pages_world import Browser, read_page
from tests.hub.web_world import ACCESS, PREFIX

ORIGIN = "http://test"


class Known(HubAccess):
    """Tokens are names; `root` is an administrator, `gone` is nobody's any more."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1/hub/api", TOKEN)

    async def identify(self, token: str, session: str = "", **_: Any) -> Identity | None:
        if token == "gone":
            return None
        return Identity("user", token, frozenset({"cms"}), token == "root", frozenset({ACCESS}))


@pytest.fixture
def site(database: Engine, hub: HubDouble) -> Site:
    hub.users.update({"ann", "bob", "cleo", "root"})
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
    )
    app = create_app(parts)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"{ORIGIN}{PREFIX}", timeout=60) as found,
    ):
        yield found


@pytest.fixture
def browse(client: httpx.AsyncClient) -> Callable[[str], Browser]:
    return lambda name: Browser(client, name, ORIGIN)


Browse = Callable[[str], Browser]


def path_of(waits: Any, what: str = "") -> str:
    return f"/queue/{waits.ticket.id}{what}"


async def test_who_waits_sees_place_reason_estimate_and_leaves_without_script(browse: Browse, site: Site) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob", count=2)
    bob = browse("bob")
    page = await bob.open("/queue")
    read_page(page)
    assert page.status == 200
    for said in ("In line for 2 × Card", "1st of 1 in line", "not known", "your own account", "Slice: 2 of 2 free"):
        assert said.replace("Slice: ", "") in page.text, page.text
    assert "1st place is lost" in page.text
    left = await bob.send(page, path_of(waits, "/leave"))
    read_page(left)
    assert "You left the queue." in left.text
    assert "You wait for nothing" in left.text
    assert site.ticket(waits.ticket.id).ended_as == "left"


async def test_the_request_is_changed_and_what_was_typed_stays_where_it_is_refused(browse: Browse, site: Site) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob", count=1)
    bob = browse("bob")
    form = await bob.open(path_of(waits, "/change"))
    read_page(form)
    wrong = await bob.send(form, path_of(waits, "/change"), {"profile-option-gpu--cpu": "2", "account": "group:none"})
    read_page(wrong)
    assert wrong.status == 403
    assert "group:none" in wrong.text
    assert wrong.form(path_of(waits, "/change"))["profile-option-gpu--cpu"] == "2"
    assert site.ticket(waits.ticket.id).options["cpu"] == "1"
    done = await bob.send(form, path_of(waits, "/change"), {"profile-option-gpu--cpu": "2", "notify": "yes"})
    assert "The request is changed." in done.text
    now = site.ticket(waits.ticket.id)
    assert (now.options["cpu"], now.notify, now.state) == ("2", True, "waiting")
    assert "CPU cores 2" in done.text


async def test_a_link_offers_what_is_free_instead(browse: Browse, site: Site) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob", count=1)
    page = await browse("bob").open("/queue")
    [link] = [one for one in page.links if "accelerator=slice" in one]
    form = await browse("bob").open(link.removeprefix(PREFIX))
    assert form.form(path_of(waits, "/change"))["profile-option-gpu--accelerator"] == "slice"


async def test_administrators_see_all_move_and_cancel_and_others_do_not(browse: Browse, site: Site) -> None:
    site.ask("ann", count=2)
    first, second = site.ask("bob"), site.ask("cleo")
    root = browse("root")
    page = await root.open("/queue")
    read_page(page)
    assert "Everybody's places" in page.text
    moved = await root.send(page, path_of(second, "/move"), {"before": first.ticket.id})
    assert "The place is moved." in moved.text
    assert (await root.send(moved, path_of(first, "/expedite"))).status == 200
    gone = await root.send(moved, path_of(first, "/cancel"))
    assert "The place is cancelled." in gone.text
    assert site.ticket(first.ticket.id).ended_as == "cancelled"
    actors = {(one.actor, one.action) for one in site.read(audit.recent)}
    assert actors == {("user:root", f"ticket.{what}") for what in ("move", "expedite", "cancel")}
    mine = await browse("cleo").open("/queue")
    assert "Everybody's places" not in mine.text
    fields = {FIELD: mine.form(path_of(second, "/leave"))[FIELD]}
    refused = await browse("cleo").post(path_of(second, "/expedite"), fields)
    assert refused.status_code == 403
    assert "Only administrators may change the order" in refused.text


async def test_the_page_of_many_places_is_no_longer_than_it_has_to_be(
    browse: Browse, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.web.pages.queue._MOST", 20)
    site.ask("ann", count=2)
    names = [f"user{number}" for number in range(25)]
    for name in names:
        site.ask(name)
    page = await browse("root").open("/queue")
    read_page(page)
    assert page.tags.count("option") == 20, (
        "each place once, and behind all; the one that starts is none to be moved to"
    )
    assert "The first 20 of 26 places are shown." in page.text
    assert "user24" not in page.text
    found = await browse("root").open("/queue?person=user24")
    read_page(found)
    assert "Cancel the place of user24" in found.text
    assert "user23" not in found.text
    assert "zoe has no place." in (await browse("root").open("/queue?person=zoe")).text


async def test_places_of_others_are_not_there(browse: Browse, site: Site) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob")
    cleo = browse("cleo")
    page = await cleo.open(path_of(waits, "/change"))
    read_page(page)
    assert page.status == 404
    token = page_token(await browse("cleo").open("/queue"), client_token="cleo")
    assert (await cleo.post(path_of(waits, "/leave"), {FIELD: token})).status_code == 404
    assert site.ticket(waits.ticket.id).state == "waiting"


def page_token(page: Any, client_token: str) -> str:
    """What a form of this person would have in its hidden field."""
    from hub.web.door import csrf_token

    assert page.status == 200
    return csrf_token(client_token)


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        pytest.param({}, {}, id="no proof"),
        pytest.param({FIELD: "0" * 64}, {}, id="wrong proof"),
        pytest.param({FIELD: "\N{LATIN SMALL LETTER A WITH DIAERESIS}"}, {}, id="no ASCII"),
        pytest.param(None, {"Origin": "https://elsewhere.example"}, id="of another site"),
        pytest.param(None, {"Sec-Fetch-Site": "cross-site"}, id="sent by another site"),
    ],
)
async def test_what_no_page_of_ours_sends_changes_nothing(
    browse: Browse, site: Site, fields: dict[str, str] | None, headers: dict[str, str]
) -> None:
    site.ask("ann", count=2)
    waits = site.ask("bob")
    bob = browse("bob")
    if fields is None:
        fields = (await bob.open("/queue")).form(path_of(waits, "/leave"))
    answer = await bob.post(path_of(waits, "/leave"), fields, **headers)
    assert answer.status_code == 403
    assert answer.headers["content-type"].startswith("text/html")
    assert site.ticket(waits.ticket.id).state == "waiting"


async def test_scripts_of_other_pages_cannot_read_a_page_with_its_proof(browse: Browse) -> None:
    page = await browse("bob").open("/queue", **{"Sec-Fetch-Dest": "empty"})
    assert page.status == 403
    assert FIELD not in page.answer.text


async def test_without_a_login_one_is_led_to_it_and_back(browse: Browse, client: httpx.AsyncClient) -> None:
    for answer in (await client.get("/queue?done=left"), (await browse("gone").open("/queue?done=left")).answer):
        assert answer.status_code == 303
        assert answer.headers["Location"] == f"{PREFIX}/login?next={PREFIX}/queue%3Fdone%3Dleft"
    sent = await browse("gone").post("/queue/" + "0" * 32 + "/leave", {FIELD: "x"})
    assert sent.status_code == 401
    assert "nothing was done" in sent.text


async def test_the_policy_knows_every_script_and_nothing_else_runs(browse: Browse) -> None:
    page = await browse("ann").open("/queue")
    policy = page.answer.headers["content-security-policy"]
    scripts = re.findall(r"<script>(.*?)</script>", page.answer.text, re.DOTALL)
    assert len(scripts) == 3
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert not re.search(r"\son[a-z]+=", page.answer.text.partition("<main")[2].partition("</main>")[0])


async def test_names_are_text_on_the_page(browse: Browse, site: Site) -> None:
    site.ask("ann", count=2)
    site.ask("bob", server="<script>alert(1)</script>")
    page = await browse("bob").open("/queue")
    assert "<script>alert" not in page.answer.text
    assert "“<script>alert(1)</script>”" in page.text


async def test_a_page_of_the_hub_may_ask_in_the_name_of_whom_it_was_made_for(client: httpx.AsyncClient) -> None:
    from hub.web.door import COOKIE

    async def ask(proof: str) -> httpx.Response:
        headers = {"Cookie": f"{COOKIE}=ann", "X-CSRF-Token": proof, "Sec-Fetch-Site": "same-origin"}
        return await client.post("/api/requests", json={"options": {"accelerator": "card"}}, headers=headers)

    assert (await ask(make_proof(TOKEN, "bob"))).status_code == 403
    assert (await ask(make_proof("other", "ann"))).status_code == 403
    assert (await ask(make_proof(TOKEN, "ann"))).status_code == 202


def test_a_proof_is_one_persons_for_half_a_day() -> None:
    made = make_proof("secret", "ann", lambda: 1000.0)
    assert is_proof("secret", "ann", made, lambda: 1000.0 + 12 * 3600 - 1)
    assert not is_proof("secret", "ann", made, lambda: 1000.0 + 12 * 3600)
    assert not is_proof("secret", "bob", made, lambda: 1000.0)
    assert not is_proof("secret", "ann", made.replace("hub.", "hub.9"), lambda: 1000.0)
    for text in ("", "hub", "hub..", "hub.x.y", "hub.١.y", "a.b.c", "hub.1.\N{SNOWMAN}"):
        assert not is_proof("secret", "ann", text, lambda: 0.0)
