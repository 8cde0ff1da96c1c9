"""Login through Canaille, a real OpenID provider that insists on nonce, PKCE and exact addresses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.hub.site import Site

pytestmark = pytest.mark.hub


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    # The administrator's group may administer; instructors are left out to be refused.
    login = {"allowed_groups": ["researchers"], "contact": "helpdesk@example.org", "recheck_s": 10}
    with Site(settings={"login": login}).running() as up:
        yield up


def test_groups_and_administrators_come_from_canaille(site: Site) -> None:
    with closing(site.login("researcher-1")) as browser:
        assert browser.get("/hub/home").status_code == 200
        assert browser.get("/hub/admin").status_code == 403
    with closing(site.login("administrator")) as browser:
        assert browser.get("/hub/admin").status_code == 200
    assert site.api("GET", "/users/researcher-1").json()["groups"] == ["researchers"]
    assert site.api("GET", "/users/researcher-1").json()["admin"] is False
    assert site.api("GET", "/users/administrator").json()["admin"] is True


def test_a_member_of_no_allowed_group_gets_a_clear_page(site: Site) -> None:
    with closing(site.client()) as browser:
        page = site.try_login(browser, "instructor", site.accounts["instructor"])
        assert page.status_code == 403
        assert page.url.path == "/hub/oauth_callback"
        for words in (
            "You may not use this hub",
            "groups admins or researchers",
            "Your groups: instructors",
            "helpdesk@",
        ):
            assert words in page.text
        again = browser.get("/hub/oauth_login", params={"as": "other"})
        assert "password" in again.text or "login" in again.text, "the provider must ask again who is there"
    assert site.api("GET", "/users/instructor").status_code == 404


def test_a_wrong_password_never_comes_back_to_the_hub(site: Site) -> None:
    with closing(site.client()) as browser:
        # Canaille slows this account down afterwards: no other test uses it.
        page = site.try_login(browser, "researcher-2", "wrong")
        assert page.url.port == site.provider_port
        assert browser.get("/hub/home", follow_redirects=False).status_code == 302


def test_log_out_ends_the_session_at_canaille_too(site: Site) -> None:
    with closing(site.login("administrator")) as browser:
        leaving = browser.get("/hub/logout", follow_redirects=False)
        query = parse_qs(urlsplit(leaving.headers["location"]).query)
        assert urlsplit(leaving.headers["location"]).port == site.provider_port
        assert query["post_logout_redirect_uri"] == [f"{site.url}/hub/logout"]
        page = browser.get(leaving.headers["location"])
        assert str(page.url).startswith(f"{site.url}/hub/logout")
        assert "logged out" in page.text
        asked = browser.get("/hub/login", params={"next": "/hub/home"})
        assert asked.url.port == site.provider_port, "one click must not log the next person in"


def test_no_password_or_token_is_in_the_logs(site: Site) -> None:
    site.login("researcher-1").close()
    logs = "".join(file.read_text(errors="replace") for file in (site.state / "logs").rglob("*.log"))
    secrets = [file.read_text().strip() for file in (site.state / "secrets").iterdir() if file.is_file()]
    assert "oauth_callback" in logs
    for secret in [*site.accounts.values(), *(text for text in secrets if len(text) < 200)]:
        assert secret not in logs
    assert "id_token_hint=ey" not in logs
