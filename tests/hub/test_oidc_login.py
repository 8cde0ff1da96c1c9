"""Login, re-check and log-out on a real hub, with a provider that tests make misbehave."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.hub.bare import BareHub
from tests.hub.provider import CLIENT_SECRET, FakeProvider
from tests.hub.site import wait_for

pytestmark = pytest.mark.hub

SETTINGS = {
    "username_claim": "preferred_username",
    "allowed_groups": ["researchers", "instructors"],
    "admin_groups": ["admins"],
    "contact": "helpdesk@example.org",
    "outage_grace_s": 3600,
}
# Lines of a deployer. Re-checks on every request, so that tests need not wait; hooks of every kind we might have occupied.
CONFIG = """
c.OIDCAuthenticator.auth_refresh_age = -1

def after_login(authenticator, handler, model):
    model["user_info"]["seen_by"] = "post_auth_hook"
    return model

async def more_state(authenticator, state):
    return {**state, "added": "modify_auth_state_hook"}

def environment(spawner, state):
    spawner.environment["FROM_STATE"] = state["added"]

def before_start(spawner):
    spawner.environment["FROM_HOOK"] = "pre_spawn_hook"

c.Authenticator.post_auth_hook = after_login
c.OIDCAuthenticator.modify_auth_state_hook = more_state
c.Spawner.auth_state_hook = environment
c.Spawner.pre_spawn_hook = before_start
"""


@pytest.fixture(scope="module")
def running() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture(scope="module")
def hub(running: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareHub]:
    bare = BareHub(tmp_path_factory.mktemp("hub"), running.issuer, settings=SETTINGS, config=CONFIG)
    with bare.running() as up:
        yield up


@pytest.fixture
def fake(running: FakeProvider, hub: BareHub) -> Iterator[FakeProvider]:
    running.reset()
    for user in hub.api("GET", "/users").json():
        hub.api("DELETE", f"/users/{user['name']}")
    yield running
    hub.close_browsers()


def login(hub: BareHub, browser: httpx.Client | None = None) -> httpx.Client:
    browser = browser or hub.browser()
    page = browser.get("/hub/login", params={"next": "/hub/home"})
    assert page.status_code == 200, f"{page.status_code} {page.text}\n{hub.log()[-3000:]}"
    assert page.url.path == "/hub/home"
    return browser


def callback(hub: BareHub, browser: httpx.Client) -> str:
    """Go as far as the provider's answer, and return its address instead of following it."""
    page = browser.get("/hub/oauth_login", follow_redirects=False)
    assert page.status_code == 302, page.text
    return browser.get(page.headers["location"], follow_redirects=False).headers["location"]


def text_of(page: httpx.Response) -> str:
    """The page's words, without mark-up entities that matter here."""
    return page.text.replace("&#39;", "'").replace("&amp;", "&")


def user(hub: BareHub, name: str = "ann") -> dict[str, Any]:
    found: dict[str, Any] = hub.api("GET", f"/users/{name}").json()
    return found


# --- the good way --------------------------------------------------------------------------------------------------


def test_login_brings_name_groups_and_where_one_wanted_to_go(hub: BareHub, fake: FakeProvider) -> None:
    fake.people["ann"]["groups"] = ["researchers", "fpga-users"]
    login(hub)
    assert set(user(hub)["groups"]) == {"fpga-users", "researchers"}
    assert user(hub)["admin"] is False
    browser = hub.browser()
    assert browser.get("/hub/token").url.path == "/hub/token"


def test_admins_are_made_and_unmade_by_group(hub: BareHub, fake: FakeProvider) -> None:
    fake.people["ann"]["groups"] = ["admins"]
    login(hub)
    assert user(hub)["admin"] is True
    fake.people["ann"]["groups"] = ["researchers"]
    login(hub)
    assert user(hub)["admin"] is False


def test_what_goes_to_the_provider_is_what_the_standards_ask_for(hub: BareHub, fake: FakeProvider) -> None:
    page = hub.browser().get("/hub/oauth_login", params={"next": "/hub/home"}, follow_redirects=False)
    query = parse_qs(urlsplit(page.headers["location"]).query)
    assert query["tenant"] == ["one"], "a query that the endpoint has already must stay"
    assert query["response_type"] == ["code"]
    assert query["redirect_uri"] == [f"{hub.url}/hub/oauth_callback"]
    assert query["code_challenge_method"] == ["S256"]
    assert query["scope"] == ["openid profile email groups"]
    assert len(query["state"][0]) >= 43
    assert len(query["nonce"][0]) >= 43
    assert len({query["state"][0], query["nonce"][0], query["code_challenge"][0]}) == 3
    assert page.headers["cache-control"] == "no-store"
    cookie = page.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    kept = base64.b64decode(cookie.split("|")[4].split(":")[1] + "==").decode()
    assert query["state"][0] in kept
    again = hub.browser().get("/hub/oauth_login", params={"as": "other"}, follow_redirects=False)
    assert parse_qs(urlsplit(again.headers["location"]).query)["prompt"] == ["login"]


@pytest.mark.parametrize(
    "target",
    ["https://evil.example.org/", "//evil.example.org", "/\\evil.example.org", "\\\\evil", "//[::1", "/\x0b/evil"],
)
def test_nobody_is_led_to_another_site_after_login(hub: BareHub, fake: FakeProvider, target: str) -> None:
    browser = hub.browser()
    page = browser.get("/hub/oauth_login", params={"next": target}, follow_redirects=False)
    page = browser.get(page.headers["location"], follow_redirects=False)
    page = browser.get(page.headers["location"], follow_redirects=False)
    location = page.headers["location"]
    assert page.status_code == 302
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


def test_a_cookie_that_no_browser_would_keep_is_not_sent(hub: BareHub, fake: FakeProvider) -> None:
    page = hub.browser().get("/hub/oauth_login", params={"next": "/hub/" + "é" * 1000}, follow_redirects=False)
    assert len(page.headers["set-cookie"]) < 4096
    page = hub.browser().get("/hub/oauth_login", params={"next": "/hub/" + "e" * 1990}, follow_redirects=False)
    assert 2600 < len(page.headers["set-cookie"]) < 4096


def test_two_tabs_can_log_in_at_once(hub: BareHub, fake: FakeProvider) -> None:
    browser = hub.browser()
    first, second = callback(hub, browser), callback(hub, browser)
    assert browser.get(first, follow_redirects=False).status_code == 302
    assert browser.get(second, follow_redirects=False).status_code == 302


def test_many_unfinished_logins_do_not_swell_the_browsers_requests(hub: BareHub, fake: FakeProvider) -> None:
    browser = hub.browser()
    for _ in range(20):
        browser.get("/hub/oauth_login", follow_redirects=False)
    assert sum(name.startswith("armillary-login-") for name in browser.cookies) <= 8
    login(hub, browser)


def test_groups_may_come_in_the_id_token_alone(hub: BareHub, fake: FakeProvider) -> None:
    fake.groups_in_id_token = True
    browser = login(hub)
    assert user(hub)["groups"] == ["researchers"]
    fake.people["ann"]["groups"] = ["researchers", "more"]
    assert browser.get("/hub/home").url.path == "/hub/home"
    assert set(user(hub)["groups"]) == {"more", "researchers"}


def test_the_deployers_hooks_run_beside_ours(hub: BareHub, fake: FakeProvider) -> None:
    login(hub)
    assert hub.api("POST", "/users/ann/server").status_code == 201, hub.log()[-3000:]
    environment = hub.environment("ann")
    assert environment["FROM_HOOK"] == "pre_spawn_hook"
    assert environment["FROM_STATE"] == "modify_auth_state_hook"
    described = user(hub)
    assert described["user_info"]["seen_by"] == "post_auth_hook"
    assert len(described["user_info"]["identity"]) == 64
    assert described["groups"] == ["researchers"]
    hub.api("DELETE", "/users/ann/server")


# --- refusals ------------------------------------------------------------------------------------------------------


def refused(hub: BareHub, page: httpx.Response, status: int, *words: str) -> None:
    assert page.status_code == status, f"{page.status_code} {page.text}"
    for word in words:
        assert word in text_of(page)
    assert "Traceback" not in page.text
    assert "jupyterhub-hub-login" not in page.headers.get("set-cookie", "")


def test_somebody_in_no_allowed_group_reads_which_groups_and_whom_to_ask(hub: BareHub, fake: FakeProvider) -> None:
    fake.people["ann"]["groups"] = ["students"]
    page = hub.browser().get("/hub/login")
    refused(hub, page, 403, "You may not use this hub", "known as ann", "groups admins, instructors or researchers")
    refused(hub, page, 403, "Your groups: students", "helpdesk@example.org", "Log in as somebody else")
    assert hub.api("GET", "/users/ann").status_code == 404


def test_somebody_without_any_groups_is_told_so(hub: BareHub, fake: FakeProvider) -> None:
    fake.people["ann"] = {}
    refused(hub, hub.browser().get("/hub/login"), 403, "Your groups: none")


def test_group_names_are_escaped_on_the_page(hub: BareHub, fake: FakeProvider) -> None:
    fake.people["ann"]["groups"] = ["<script>alert(1)</script>"]
    page = hub.browser().get("/hub/login")
    assert "<script>alert(1)" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(lambda claims: claims | {"nonce": "x"}, "could not be verified", id="nonce"),
        pytest.param(lambda claims: claims | {"aud": "x"}, "could not be verified", id="audience"),
        pytest.param(lambda claims: claims | {"iss": "https://x"}, "could not be verified", id="issuer"),
        pytest.param(lambda claims: claims | {"exp": 1}, "could not be verified", id="expired"),
    ],
)
def test_a_forged_id_token_logs_nobody_in(
    hub: BareHub, fake: FakeProvider, spoil: Callable[[dict[str, Any]], dict[str, Any]], words: str
) -> None:
    fake.spoil_id_token = spoil
    refused(hub, hub.browser().get("/hub/login"), 403, words)
    assert hub.api("GET", "/users/ann").status_code == 404


@pytest.mark.parametrize("subject", ["bob", None, 1], ids=str)
def test_user_information_about_somebody_else_logs_nobody_in(hub: BareHub, fake: FakeProvider, subject: object) -> None:
    fake.spoil_userinfo = lambda claims: claims | {"sub": subject}
    refused(hub, hub.browser().get("/hub/login"), 403, "could not be verified")


def test_a_callback_works_once_only(hub: BareHub, fake: FakeProvider) -> None:
    browser = hub.browser()
    address = callback(hub, browser)
    assert browser.get(address, follow_redirects=False).status_code == 302
    refused(hub, browser.get(address), 400, "not one that was begun here")


def test_a_stolen_cookie_does_not_make_a_used_code_work_again(hub: BareHub, fake: FakeProvider) -> None:
    browser = hub.browser()
    address = callback(hub, browser)
    copied = httpx.Cookies(browser.cookies)
    browser.get(address, follow_redirects=False)
    thief = hub.browser()
    thief.cookies = copied
    refused(hub, thief.get(address), 403, "has expired")


def test_a_callback_belongs_to_the_browser_that_began_it(hub: BareHub, fake: FakeProvider) -> None:
    victim, attacker = hub.browser(), hub.browser()
    victim.get("/hub/oauth_login", follow_redirects=False)
    refused(hub, victim.get(callback(hub, attacker)), 400, "not one that was begun here")


@pytest.mark.parametrize(
    "query", ["", "code=x", "state=x", "code=x&state=x", "code=x&state=", "state=a&state=b&code=x"]
)
def test_callbacks_out_of_nowhere_are_refused(hub: BareHub, fake: FakeProvider, query: str) -> None:
    refused(hub, hub.browser().get(f"/hub/oauth_callback?{query}"), 400, "not one that was begun here")


def test_a_code_of_another_login_is_refused_by_its_verifier(hub: BareHub, fake: FakeProvider) -> None:
    one, other = hub.browser(), hub.browser()
    mine, theirs = (parse_qs(urlsplit(callback(hub, browser)).query) for browser in (one, other))
    address = f"/hub/oauth_callback?state={mine['state'][0]}&code={theirs['code'][0]}"
    refused(hub, one.get(address), 403, "has expired")


def test_an_answer_of_another_issuer_is_refused(hub: BareHub, fake: FakeProvider) -> None:
    fake.answers_with_issuer = "https://evil.example.org"
    refused(hub, hub.browser().get("/hub/login"), 400, "not one that was begun here")
    fake.answers_with_issuer = fake.issuer
    login(hub)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        ("access_denied", 403, "The login was cancelled"),
        ("temporarily_unavailable", 503, "does not answer"),
        ("server_error", 503, "does not answer"),
        ("invalid_scope", 502, "wrong answer"),
        ("<script>", 502, "wrong answer"),
    ],
)
def test_the_providers_no_has_a_page_without_its_words(
    hub: BareHub, fake: FakeProvider, error: str, status: int, words: str
) -> None:
    fake.denies = {"error": error, "error_description": "call <b>0900</b> now"}
    page = hub.browser().get("/hub/login")
    refused(hub, page, status, words)
    assert "0900" not in page.text
    assert ("retry-after" in page.headers) == (status == 503)


@pytest.mark.parametrize(
    ("path", "answer", "status"),
    [
        pytest.param("/token", (500, b"oops"), 503, id="token-500"),
        pytest.param("/token", (200, b"<html>"), 502, id="token-html"),
        pytest.param("/token", (400, b'{"error": "invalid_grant"}'), 403, id="invalid-grant"),
        pytest.param("/token", (401, b'{"error": "invalid_client"}'), 502, id="invalid-client"),
        pytest.param("/token", (429, b""), 503, id="too-many"),
        pytest.param("/userinfo", (500, b""), 503, id="userinfo-500"),
        pytest.param("/userinfo", (401, b""), 403, id="userinfo-401"),
        pytest.param("/userinfo", (200, b"[]"), 502, id="userinfo-list"),
        pytest.param("/userinfo", (200, b"eyJh.eyJh.sig"), 502, id="userinfo-jwt"),
    ],
)
def test_a_broken_provider_has_a_clear_page(
    hub: BareHub, fake: FakeProvider, path: str, answer: tuple[int, bytes], status: int
) -> None:
    fake.fail(path, *answer)
    refused(hub, hub.browser().get("/hub/login"), status, f"Status {status}")
    fake.faults.clear()
    login(hub)


def test_a_provider_that_hangs_holds_up_nobody_else(hub: BareHub, fake: FakeProvider) -> None:
    fake.hang("/token")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: hub.browser().get("/hub/login"))
        wait_for(lambda: "/token" in fake.requests, "the hub to ask for tokens")
        assert hub.healthy()
        assert not waiting.done(), "the hub answered while it still waited for the provider"
        refused(hub, waiting.result(), 503, "does not answer")


# --- identities ----------------------------------------------------------------------------------------------------


def test_case_makes_two_accounts(hub: BareHub, fake: FakeProvider) -> None:
    fake.people["Ann"] = {"groups": ["instructors"]}
    login(hub)
    fake.person = "Ann"
    login(hub)
    assert user(hub, "ann")["groups"] == ["researchers"]
    assert user(hub, "Ann")["groups"] == ["instructors"]


def test_a_user_name_given_to_another_person_does_not_open_the_account(hub: BareHub, fake: FakeProvider) -> None:
    login(hub)
    fake.people["bob"] = {"groups": ["researchers"], "preferred_username": "ann"}
    fake.person = "bob"
    refused(hub, hub.browser().get("/hub/login"), 403, "belongs to another person's account", "helpdesk@example.org")
    fake.person = "ann"
    login(hub)


def test_a_name_that_would_break_paths_is_refused_with_the_reason(hub: BareHub, fake: FakeProvider) -> None:
    fake.people["ann"]["preferred_username"] = "../root"
    refused(hub, hub.browser().get("/hub/login"), 403, "cannot be used here: it holds one of /")


# --- re-check ------------------------------------------------------------------------------------------------------


def test_lost_rights_end_the_login_and_every_way_to_start(hub: BareHub, fake: FakeProvider) -> None:
    browser = login(hub)
    token = hub.api("POST", "/users/ann/tokens").json()["token"]
    fake.people["ann"]["groups"] = ["students"]
    refused(hub, browser.get("/hub/home"), 403, "You may not use this hub")
    assert user(hub)["groups"] == ["students"]
    answer = hub.api("POST", "/users/ann/server", token)
    assert answer.status_code == 403
    assert "groups admins, instructors or researchers" in answer.json()["message"]
    assert "ready" not in str(user(hub)["servers"])


def test_new_groups_count_at_the_next_request(hub: BareHub, fake: FakeProvider) -> None:
    browser = login(hub)
    fake.people["ann"]["groups"] = ["researchers", "admins"]
    browser.get("/hub/home")
    assert set(user(hub)["groups"]) == {"admins", "researchers"}
    assert user(hub)["admin"] is True


def test_an_expired_access_token_is_renewed_once_for_many_requests(hub: BareHub, fake: FakeProvider) -> None:
    browser = login(hub)
    fake.access.clear()
    fake.requests.clear()
    with ThreadPoolExecutor(8) as pool:
        pages = list(pool.map(lambda _: browser.get("/hub/home", follow_redirects=False).status_code, range(8)))
    assert pages == [200] * 8
    assert fake.requests.count("/token") == 1


def test_a_login_that_cannot_be_renewed_ends_and_begins_anew_by_itself(hub: BareHub, fake: FakeProvider) -> None:
    browser = login(hub)
    fake.access.clear()
    fake.refresh.clear()
    assert browser.get("/hub/home", follow_redirects=False).headers["location"].startswith("/hub/login")
    assert browser.get("/hub/home").url.path == "/hub/home"


def test_a_refreshed_token_of_somebody_else_ends_the_login(hub: BareHub, fake: FakeProvider) -> None:
    browser = login(hub)
    fake.access.clear()
    fake.people["bob"] = {"groups": ["researchers"]}
    fake.refresh = dict.fromkeys(fake.refresh, "bob")
    assert browser.get("/hub/home", follow_redirects=False).status_code == 302
    assert hub.api("GET", "/users/bob").status_code == 404


@pytest.mark.parametrize("fault", [(503, b""), (200, b"<html>maintenance")], ids=["503", "html"])
def test_while_the_provider_is_away_everybody_works_on(
    hub: BareHub, fake: FakeProvider, fault: tuple[int, bytes]
) -> None:
    browser = login(hub)
    token = hub.api("POST", "/users/ann/tokens").json()["token"]
    for path in ("/userinfo", "/token", "/jwks", "/.well-known/openid-configuration"):
        fake.fail(path, *fault)
    assert browser.get("/hub/home").url.path == "/hub/home"
    assert hub.api("GET", "/user", token).json()["name"] == "ann"
    fake.requests.clear()
    browser.get("/hub/home")
    assert fake.requests == [], "a provider that is away must not be asked at every request"


# --- log-out -------------------------------------------------------------------------------------------------------


def test_log_out_goes_on_to_the_provider_and_comes_back_to_a_page(hub: BareHub, fake: FakeProvider) -> None:
    browser = login(hub)
    page = browser.get("/hub/logout", follow_redirects=False)
    address = urlsplit(page.headers["location"])
    query = parse_qs(address.query)
    assert f"{address.scheme}://{address.netloc}{address.path}" == f"{fake.issuer}/logout"
    assert query["post_logout_redirect_uri"] == [f"{hub.url}/hub/logout"]
    assert query["client_id"] == ["armillary"]
    body = query["id_token_hint"][0].split(".")[1]
    assert json.loads(base64.urlsafe_b64decode(body + "=="))["sub"] == "ann"
    back = browser.get("/hub/logout", params={"state": "x"}, follow_redirects=False)
    assert back.status_code == 200
    assert "logged out" in back.text
    assert browser.get("/hub/home", follow_redirects=False).status_code == 302


def test_log_out_works_while_the_provider_is_away(hub: BareHub, fake: FakeProvider) -> None:
    browser = login(hub)
    fake.fail("/.well-known/openid-configuration", 503)
    assert browser.get("/hub/logout", follow_redirects=False).status_code in (200, 302)
    fake.fail("/authorize", 503)
    assert browser.get("/hub/home", follow_redirects=False).headers["location"].startswith("/hub/login")


# --- secrets -------------------------------------------------------------------------------------------------------


def test_no_secret_is_in_logs_database_or_sessions(hub: BareHub, fake: FakeProvider) -> None:
    browser = login(hub)
    assert hub.api("POST", "/users/ann/server").status_code == 201
    session = json.dumps(hub.environment("ann"))
    hub.api("DELETE", "/users/ann/server")
    fake.access.clear()
    browser.get("/hub/home")
    fake.spoil_id_token = lambda claims: claims | {"nonce": "x"}
    hub.browser().get("/hub/login")
    address = callback(hub, hub.browser())
    hub.browser().get(address)
    browser.get("/hub/logout", follow_redirects=False)
    assert len(fake.issued) >= 12
    database = b"".join(file.read_bytes() for file in (hub.folder / "state").glob("hub.sqlite*"))
    wait_for(lambda: "Handling request" in hub.log() or "oauth_callback" in hub.log(), "the log to be written")
    log = hub.log()
    for secret in {CLIENT_SECRET, *fake.issued}:
        assert secret not in log, f"a secret is in the log: …{log[log.index(secret) - 200 : log.index(secret)]}"
        assert secret not in session
        assert secret.encode() not in database
