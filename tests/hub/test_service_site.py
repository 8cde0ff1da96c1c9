"""The service as part of a whole site: behind the real proxy, logged in through the real hub and provider."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from hub.web.door import COOKIE
from tests.hub.forms import submit
from tests.hub.site import ROOT, Site, wait_for
from tests.hub.web_world import ACCESS, PREFIX, LivePage, problem

pytestmark = [pytest.mark.hub, pytest.mark.timeout(300)]

CAPACITY = f"{PREFIX}/api/capacity"
EVENTS = f"{CAPACITY}/events"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site().running() as running:
        for name in ("researcher-1", "researcher-2"):
            running.login(name).close()
        yield running


@pytest.fixture
def token(site: Site) -> str:
    return token_of(site, "researcher-1")


def token_of(site: Site, name: str, **more: Any) -> str:
    answer = site.api("POST", f"/users/{name}/tokens", json={"note": "test", **more})
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["token"]
    return found


def ask(site: Site, path: str, token: str = "") -> httpx.Response:
    headers = {"Authorization": f"token {token}"} if token else {}
    return httpx.get(site.url + path, headers=headers, timeout=30)


def t4(page: LivePage) -> dict[str, Any]:
    found: dict[str, Any] = [said for name, said in page.heard if name == "capacity"][-1]["accelerators"]["t4"]
    return found


def test_the_whole_site_says_that_it_is_well(site: Site) -> None:
    said = wait_for(lambda: _led(site), "the controller to lead and count")
    assert said["controller"]["working"] is True
    assert said["counts"]["fresh"] is True


def _led(site: Site) -> dict[str, Any] | None:
    said: dict[str, Any] = ask(site, f"{PREFIX}/health").json()
    return said if said["controller"]["leading"] and said["counts"]["fresh"] else None


def test_programs_need_a_token_of_the_hub_with_the_scope(site: Site, token: str) -> None:
    problem(ask(site, CAPACITY), 401, "login-needed")
    problem(ask(site, CAPACITY, "wrong"), 401, "login-needed")
    weak = token_of(site, "researcher-1", scopes=["read:users:name!user"])
    assert ACCESS in problem(ask(site, CAPACITY, weak), 403, "not-allowed")["detail"]
    problem(ask(site, CAPACITY, site.admin_token), 403, "not-allowed")  # a program that was given other scopes
    said = ask(site, CAPACITY, token).json()
    assert said["engine"] == "local"
    assert said["accelerators"]["t4"]["title"] == "T4 (simulated)"
    narrow = token_of(site, "researcher-1", scopes=[ACCESS])
    assert ask(site, CAPACITY, narrow).json()["accelerators"].keys() == said["accelerators"].keys()


def test_metrics_are_for_programs_with_the_scope(site: Site, token: str) -> None:
    problem(ask(site, f"{PREFIX}/metrics"), 401, "login-needed")
    problem(ask(site, f"{PREFIX}/metrics", token), 403, "not-allowed")
    answer = ask(site, f"{PREFIX}/metrics", site.admin_token)
    assert "armillary_controller_leading 1.0" in answer.text


def test_prometheus_has_a_token_that_is_good_for_metrics_and_for_nothing_else(site: Site) -> None:
    own = (site.state / "secrets" / "metrics_token").read_text().strip()
    assert "jupyterhub_running_servers" in ask(site, "/hub/metrics", own).text
    assert "armillary_capacity_fresh" in ask(site, f"{PREFIX}/metrics", own).text
    assert ask(site, "/hub/metrics").status_code == 403
    assert site.api("GET", "/users", token=own).status_code == 403
    problem(ask(site, CAPACITY, own), 403, "not-allowed")


def test_metrics_are_told_while_the_hub_is_away(site: Site) -> None:
    own = (site.state / "secrets" / "metrics_token").read_text().strip()
    os.kill(site.hub_pid(), signal.SIGSTOP)
    try:
        assert "armillary_capacity_fresh" in ask(site, f"{PREFIX}/metrics", own).text
    finally:
        os.kill(site.hub_pid(), signal.SIGCONT)


def test_a_browser_that_is_logged_in_at_the_hub_has_nothing_to_do(site: Site) -> None:
    """As the form's script does it, with fetch: asked, told 401, through the hub and back, asked for events."""
    fetch = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}
    with closing(site.login("researcher-1")) as browser:
        refused = browser.get(CAPACITY, headers=fetch)
        page = problem(refused, 401, "login-needed")["login"]
        answer = browser.get(page, headers=fetch)
        assert answer.status_code == 200, answer.text
        assert answer.url.path == CAPACITY
        assert [step.status_code for step in answer.history] == [303, 302, 303]
        assert "t4" in answer.json()["accelerators"]
        assert browser.get(CAPACITY, headers=fetch).status_code == 200
        with browser.stream("GET", EVENTS, headers={**fetch, "Accept": "text/event-stream"}) as events:
            assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert next(line for line in events.iter_lines() if line.startswith("event: ")) == "event: capacity"


def test_a_browser_that_is_not_is_led_to_the_login_and_back(site: Site) -> None:
    with closing(site.client()) as browser:
        page = browser.get(f"{PREFIX}/login", params={"next": f"{PREFIX}/docs"})
        assert page.url.port == site.provider_port
        assert COOKIE not in {cookie.name for cookie in browser.cookies.jar}
        page = submit(browser, page, login="instructor")
        page = submit(browser, page, password=site.accounts["instructor"])
        assert (page.status_code, page.url.path) == (200, f"{PREFIX}/docs")
        assert COOKIE in {cookie.name for cookie in browser.cookies.jar}


def test_a_log_out_at_the_hub_ends_the_login_here_at_once(site: Site) -> None:
    with closing(site.login("researcher-2")) as browser:
        assert browser.get(f"{PREFIX}/login", params={"next": CAPACITY}).status_code == 200
        assert browser.get(CAPACITY).status_code == 200
        browser.get("/hub/logout", follow_redirects=False)
        problem(browser.get(CAPACITY), 401, "login-needed")


def test_what_somebody_starts_everybody_sees_and_only_they_as_theirs(site: Site, token: str) -> None:
    other = token_of(site, "researcher-2")
    mine, theirs = (LivePage(site.url + EVENTS, {"Authorization": f"token {each}"}) for each in (token, other))
    try:
        wait_for(lambda: mine.heard and theirs.heard, "the first counts")
        assert (t4(mine)["free"], t4(mine)["total"]) == (2, 2)
        site.start_server("researcher-1", {"profile": "jupyterlab", "accelerator": "t4"})
        wait_for(lambda: t4(theirs)["free"] == 1 and t4(mine)["free"] == 1, "one fewer to be free")
        assert (t4(mine)["mine"], t4(mine)["others"]) == (1, 0)
        assert (t4(theirs)["mine"], t4(theirs)["others"]) == (0, 1)
        site.api("DELETE", "/users/researcher-1/server")
        wait_for(lambda: t4(theirs)["free"] == 2, "it to be free again")
    finally:
        mine.close()
        theirs.close()


def test_a_restart_of_the_hub_cuts_no_live_page_off_and_programs_go_on(site: Site, token: str) -> None:
    page = LivePage(site.url + EVENTS, {"Authorization": f"token {token}"})
    try:
        wait_for(lambda: page.heard, "the first counts")
        before = site.hub_pid()
        os.kill(before, signal.SIGKILL)
        assert ask(site, CAPACITY, token).status_code == 200, "what was known of the token is gone by"
        wait_for(lambda: site.hub_pid() not in (0, before), "another hub")
        site.wait_healthy()
        heard = len(page.heard)
        wait_for(lambda: len(page.heard) > heard, "the page to hear more")
        assert not page.ended.is_set()
        assert ask(site, f"{PREFIX}/health").status_code == 200, "the new hub has kept the route"
    finally:
        page.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_service_that_ends_is_started_again_and_browsers_need_no_new_login(
    site: Site, number: signal.Signals
) -> None:
    with closing(site.login("researcher-1")) as browser:
        assert browser.get(f"{PREFIX}/login", params={"next": CAPACITY}).status_code == 200
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies.jar)
        page = LivePage(site.url + EVENTS, {"Cookie": cookies})
        wait_for(lambda: page.heard, "the first counts")
        before = site.pid_of("service")
        os.kill(before, number)
        assert page.ended.wait(30), "the page ends, to come back by itself"
        page.close()
        wait_for(lambda: site.pid_of("service") not in (0, before), "another service")
        wait_for(lambda: browser.get(f"{PREFIX}/health").status_code == 200, "it to be well")
        answer = wait_for(lambda: _fresh(browser), "fresh counts again")
        assert answer["accelerators"]["t4"]["free"] is not None
        assert site.healthy()
    # who logs in after a restart, too: the hub and the new service know each other
    assert f"the service {'ended with status 0' if number is signal.SIGTERM else 'was ended by SIGKILL'}" in site.said()


def _fresh(browser: httpx.Client) -> dict[str, Any] | None:
    answer = browser.get(CAPACITY)
    if answer.status_code != 200:
        return None
    said: dict[str, Any] = answer.json()
    return said if said["fresh"] else None


def test_secrets_are_for_their_owner_only_and_in_no_log(site: Site) -> None:
    for file in (site.state / "armillary.sqlite", site.state / "secrets" / "service_token"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    log = (site.state / "logs" / "service.log").read_text()
    assert (site.state / "secrets" / "service_token").read_text().strip() not in log
    assert "code=" not in log
    assert "Traceback" not in log
    assert "'researcher-1' has logged in" in log


def test_the_services_own_token_may_start_and_stop_servers_and_nothing_else(site: Site) -> None:
    own = (site.state / "secrets" / "service_token").read_text().strip()
    said = site.api("GET", "/user", own).json()
    needed = ["delete:servers", "list:users", "read:servers", "read:users:activity", "read:users:name", "start:servers"]
    assert (said["kind"], said["name"], said["scopes"]) == ("service", "armillary", needed)
    assert site.api("POST", "/users", own, json={"usernames": ["made-by-service"]}).status_code == 403
    assert site.api("POST", "/users/researcher-1/tokens", own, json={}).status_code == 403
    assert site.api("GET", "/proxy", own).status_code == 403


def test_a_deployers_own_services_roles_and_scopes_stay(site: Site) -> None:
    """The site's configuration appends a service and a role of the tests' own."""
    found = site.api("GET", "/user").json()
    assert found["name"] == "tests"
    assert "read:metrics" in found["scopes"]


def test_a_second_service_on_the_same_port_says_so(site: Site) -> None:
    environ = {**site.variables(), "ARMILLARY_STATE_DIR": str(site.state)}
    done = subprocess.run(
        [sys.executable, "-m", "hub.cli", "service"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "service.bind_url: cannot listen on http://127.0.0.1:" in done.stdout
    assert "Address already in use" in done.stdout
    assert "Traceback" not in done.stderr
