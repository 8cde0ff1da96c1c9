"""Who is let in: programs by their tokens, browsers by a login through the hub; and nobody by another site."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.requests import Request

from hub.web.door import COOKIE, CSRF_COOKIE, CSRF_HEADER, Door, csrf_token
from hub.web.hub_access import HubAccess
from hub.web.login import States
from hub.web.place import Place
from hub.web.problems import Problem
from tests.hub.web_world import ACCESS, PREFIX, SECRET, FakeHub, World, problem

pytestmark = pytest.mark.hub


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with FakeHub() as hub, World(tmp_path_factory.mktemp("service"), hub).running() as running:
        yield running


@pytest.fixture
def ann(world: World) -> Iterator[str]:
    """A token of somebody that no other test has."""
    token = world.hub.person(secrets.token_hex(8), "ann", "lab")
    yield token
    world.hub.tokens.pop(token, None)
    if world.hub.fault is not None:
        world.hub.fault = None
        world.access._not_before = 0.0  # it may be asked again at once


@pytest.fixture
def browser(world: World) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=world.url, timeout=20) as client:
        yield client


def log_in(world: World, browser: httpx.Client, token: str, then: str = f"{PREFIX}/api/capacity") -> httpx.Response:
    """Through the hub and back, as a browser that is logged in there."""
    away = browser.get("/login", params={"next": then})
    asked = parse_qs(urlsplit(away.headers["location"]).query)
    code = secrets.token_hex(8)
    world.hub.codes[code] = token
    return browser.get("/oauth_callback", params={"code": code, "state": asked["state"][0]})


# Programs -----------------------------------------------------------------------------------------------------------


def test_without_a_login_the_answer_says_where_to_log_in_and_never_redirects(world: World) -> None:
    for path in ("/api/capacity", "/api/capacity/events"):
        answer = world.get(path, headers={"Accept": "text/html"})
        said = problem(answer, 401, "login-needed")
        assert said["login"] == f"{PREFIX}/login?next={PREFIX}{path}"
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("scheme", ["token", "Bearer", "bearer", "Token"])
def test_a_token_of_the_hub_is_enough(world: World, ann: str, scheme: str) -> None:
    answer = world.get("/api/capacity", headers={"Authorization": f"{scheme} {ann}"})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "header", ["token wrong", "Basic YW5uOnB3", "token", "token a b", "", f"token {'x' * 600}", "token \xff"]
)
def test_anything_else_is_not(world: World, header: str) -> None:
    asked = len(world.hub.requests)
    answer = world.get("/api/capacity", headers={"Authorization": header.encode("latin-1")})  # type: ignore[dict-item]
    problem(answer, 401, "login-needed")
    if header != "token wrong":
        assert len(world.hub.requests) == asked, "what cannot be a token is not asked about"


def test_a_token_without_the_scope_is_told_which_it_needs(world: World) -> None:
    token = world.hub.person(secrets.token_hex(8), "ben", scopes=("read:users", "access:services!service=other"))
    said = problem(world.get("/api/capacity", token), 403, "not-allowed")
    assert ACCESS in said["detail"]


def test_who_brings_a_wrong_token_is_not_let_in_by_a_cookie(world: World, ann: str) -> None:
    problem(world.get("/api/capacity", "wrong", cookies={COOKIE: ann}), 401, "login-needed")


def test_the_hub_away_is_said_with_when_to_come_back(world: World, ann: str) -> None:
    world.hub.fault = (502, b"")
    answer = world.get("/api/capacity", ann)
    said = problem(answer, 503, "hub-away")
    assert int(answer.headers["retry-after"]) > 0
    assert "502" not in said["detail"]


# Browsers -----------------------------------------------------------------------------------------------------------


def test_a_browser_logs_in_through_the_hub_and_comes_back(world: World, ann: str, browser: httpx.Client) -> None:
    away = browser.get("/login", params={"next": f"{PREFIX}/api/capacity"})
    assert away.status_code == 303
    target = urlsplit(away.headers["location"])
    asked = parse_qs(target.query)
    assert (target.netloc, target.path) == ("", "/hub/api/oauth2/authorize")
    assert asked["client_id"] == ["service-armillary"]
    assert asked["redirect_uri"] == [f"{PREFIX}/oauth_callback"]
    assert asked["code_challenge_method"] == ["S256"]

    back = log_in(world, browser, ann)
    assert (back.status_code, back.headers["location"]) == (303, f"{PREFIX}/api/capacity")
    assert world.hub.forms[-1]["code_verifier"] not in away.headers["location"]
    made = {line.split("=")[0]: line for line in back.headers.get_list("set-cookie")}
    assert "HttpOnly" in made[COOKIE]
    assert "SameSite=lax" in made[COOKIE]
    assert f"Path={PREFIX}/;" in made[COOKIE]
    assert "Max-Age=1000" in made[COOKIE]
    assert "HttpOnly" not in made[CSRF_COOKIE]
    assert "SameSite=strict" in made[CSRF_COOKIE]
    assert browser.get("/api/capacity").json()["accelerators"]["t4"]["mine"] == 1


def test_two_tabs_log_in_at_once(world: World, ann: str, browser: httpx.Client) -> None:
    states = []
    for _ in range(2):
        away = browser.get("/login", params={"next": f"{PREFIX}/docs"})
        states.append(parse_qs(urlsplit(away.headers["location"]).query)["state"][0])
    assert states[0] != states[1]
    for state in states:
        code = secrets.token_hex(8)
        world.hub.codes[code] = ann
        assert browser.get("/oauth_callback", params={"code": code, "state": state}).status_code == 303


def test_a_page_and_a_script_begin_a_browsers_first_login_at_the_same_moment(
    world: World, ann: str, browser: httpx.Client
) -> None:
    """Neither request has a cookie yet, and the answers come in any order."""
    begun = [httpx.get(f"{world.url}/login", params={"next": f"{PREFIX}/docs"}) for _ in range(2)]
    for away in reversed(begun):
        browser.cookies.update(away.cookies)
    for away in begun:
        code = secrets.token_hex(8)
        world.hub.codes[code] = ann
        state = parse_qs(urlsplit(away.headers["location"]).query)["state"][0]
        back = browser.get("/oauth_callback", params={"code": code, "state": state})
        assert (back.status_code, back.headers["location"]) == (303, f"{PREFIX}/docs")


def test_many_logins_of_a_browser_need_one_cookie(browser: httpx.Client) -> None:
    for _ in range(5):
        browser.get("/login")
    assert len(browser.cookies) == 1


def test_another_browser_cannot_complete_a_login(world: World, ann: str, browser: httpx.Client) -> None:
    """Or a person could be logged in as somebody else without knowing (RFC 6749, 10.12)."""
    away = browser.get("/login")
    state = parse_qs(urlsplit(away.headers["location"]).query)["state"][0]
    world.hub.codes["stolen"] = ann
    with httpx.Client(base_url=world.url) as other:
        other.get("/login")
        problem(other.get("/oauth_callback", params={"code": "stolen", "state": state}), 400, "login-broken")
    assert "stolen" in world.hub.codes


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"code": "x"},
        {"code": "x", "state": "x"},
        {"code": "x", "state": "x.y"},
        {"state": "GOOD", "error": "access_denied", "error_description": "<script>"},
        {"state": "GOOD", "code": "used"},
        {"state": "GOOD"},
    ],
    ids=str,
)
def test_a_login_that_cannot_be_completed_says_where_to_begin_anew(
    browser: httpx.Client, query: dict[str, str]
) -> None:
    state = parse_qs(urlsplit(browser.get("/login").headers["location"]).query)["state"][0]
    query = {key: state if value == "GOOD" else value for key, value in query.items()}
    answer = browser.get("/oauth_callback", params=query)
    said = problem(answer, 400, "login-broken")
    assert f"{PREFIX}/login" in said["detail"]
    assert "script" not in answer.text
    assert COOKIE not in browser.cookies


def test_a_login_of_somebody_who_may_not_is_refused(world: World, browser: httpx.Client) -> None:
    token = world.hub.person(secrets.token_hex(8), "eve", scopes=())
    problem(log_in(world, browser, token), 403, "not-allowed")
    assert COOKIE not in browser.cookies


def test_a_login_while_the_hub_goes_away(world: World, ann: str, browser: httpx.Client) -> None:
    state = parse_qs(urlsplit(browser.get("/login").headers["location"]).query)["state"][0]
    world.hub.fault = (503, b"")
    problem(browser.get("/oauth_callback", params={"code": "c", "state": state}), 503, "hub-away")


@pytest.mark.parametrize(
    "then",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/hub/home",
        "/services/armillary",  # of another base path below
        "/x/services/armillary2",
        "/x/services/armillary/../../hub",
        "/x/services/armillary/%2e%2e/hub",
        "/x/services/armillary/\n",
        "/x/services/armillary/\\..\\",
        "/x/services/armillary/" + "x" * 1000,
        "javascript:alert(1)",
        "/x/services/armillary/ä",
        "x/services/armillary/",
        "",
    ],
)
def test_only_our_own_paths_are_led_to(then: str) -> None:
    assert not Place("/x/", "https://h.example.org").is_ours(then)


@pytest.mark.parametrize("then", ["", "/", "/api/capacity", "/api/capacity?accelerator=t4&x=%20y", "/docs"])
def test_all_of_our_own_paths_are_led_to(then: str) -> None:
    assert Place("/x/", "https://h.example.org").is_ours(f"/x/services/armillary{then}")


def test_a_next_elsewhere_is_refused_with_what_is_legal(browser: httpx.Client) -> None:
    said = problem(browser.get("/login", params={"next": "//evil.example"}), 422, "bad-request")
    assert said["errors"][0]["field"] == "query.next"
    assert f"{PREFIX}/" in said["errors"][0]["detail"]


def test_a_state_is_good_for_ten_minutes_in_its_browser_at_any_replica() -> None:
    now = [1000.0]
    first, second = (States("s" * 20, lambda: now[0]) for _ in range(2))
    state = first.make("browser", "/there")
    assert second.read("browser", state) == "/there"
    assert second.verifier("browser", state) == first.verifier("browser", state)
    assert second.read("other", state) is None
    assert States("another").read("browser", state) is None
    text, _, signature = state.partition(".")
    for spoilt in (text, f"{text}x.{signature}", f"{text}.{signature}x", f".{signature}", "ä.ö"):
        assert second.read("browser", spoilt) is None
    now[0] += 601
    assert second.read("browser", state) is None


# Other sites --------------------------------------------------------------------------------------------------------


def test_another_site_reads_nothing_with_a_persons_cookie(world: World, ann: str) -> None:
    cookies = {COOKIE: ann}
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    problem(world.get("/api/capacity", cookies=cookies, headers=headers), 403, "other-site")
    for fine in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}):
        assert world.get("/api/capacity", cookies=cookies, headers=fine).status_code == 200


@pytest.mark.parametrize(
    ("headers", "good"),
    [
        ({}, False),
        ({CSRF_HEADER: "x"}, False),
        ({CSRF_HEADER: csrf_token("other")}, False),
        ({CSRF_HEADER: csrf_token("tok")}, True),
        ({CSRF_HEADER: csrf_token("tok"), "Origin": "https://h.example.org"}, True),
        ({CSRF_HEADER: csrf_token("tok"), "Origin": "https://evil.example"}, False),
        ({CSRF_HEADER: csrf_token("tok"), "Origin": "null"}, False),
        ({CSRF_HEADER: csrf_token("tok"), "Sec-Fetch-Site": "same-site"}, False),
        ({CSRF_HEADER: csrf_token("tok"), "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, False),
        ({"Authorization": "token tok"}, True),
    ],
)
async def test_a_change_by_cookie_needs_proof_that_a_page_of_ours_sent_it(headers: dict[str, str], good: bool) -> None:
    with FakeHub() as hub:
        hub.person("tok", "ann")
        access = HubAccess(hub.api_url, SECRET)
        door = Door(access, Place("/", "https://h.example.org"))
        raw = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
        cookie = [] if "Authorization" in headers else [(b"cookie", f"{COOKIE}=tok".encode())]
        scope: dict[str, Any] = {
            "type": "http", "method": "POST", "path": "/x", "query_string": b"", "headers": raw + cookie,
            "server": ("h.example.org", 443), "scheme": "https",
        }  # fmt: skip
        try:
            await door(Request(scope))
        except Problem as refused:
            assert not good
            assert refused.code == "other-site"
        else:
            assert good
        finally:
            await access.close()


@pytest.mark.parametrize(("user", "good"), [("ann", True), ("bob", False)])
async def test_a_form_is_still_good_when_another_page_has_logged_in_again(user: str, good: bool) -> None:
    """Every login has a token of its own, and the browser keeps the newest."""
    with FakeHub() as hub:
        hub.person("first", user)
        hub.person("second", "ann")
        access = HubAccess(hub.api_url, SECRET)
        door = Door(access, Place("/", "https://h.example.org"), SECRET)
        scope: dict[str, Any] = {
            "type": "http", "method": "POST", "path": "/x", "query_string": b"",
            "server": ("h.example.org", 443), "scheme": "https",
        }  # fmt: skip
        first, second = [(b"cookie", f"{COOKIE}=first".encode())], [(b"cookie", f"{COOKIE}=second".encode())]
        try:
            page = await door(Request({**scope, "method": "GET", "headers": first}))
            sent = Request({**scope, "headers": second})
            if good:
                assert (await door.visitor(sent, ACCESS, csrf=door.proof_for(page))).identity.name == "ann"
            else:
                with pytest.raises(Problem, match="reload the page"):
                    await door.visitor(sent, ACCESS, csrf=door.proof_for(page))
        finally:
            await access.close()


def test_over_https_cookies_are_for_https_only(tmp_path: Any) -> None:
    with FakeHub() as hub:
        place = Place("/", "https://h.example.org")
        with World(tmp_path, hub, place=place).running() as world:
            away = httpx.get(f"{world.url}/login")
            assert "Secure" in away.headers["set-cookie"]
