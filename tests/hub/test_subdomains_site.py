"""A site whose sessions have names of hosts of their own (`user_subdomains`), as a browser meets it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from http.cookiejar import CookieJar
from http.cookies import SimpleCookie

import httpx
import pytest

from tests.hub.site import Site

pytestmark = pytest.mark.hub

SITE = "hub.localhost"
OWNER, OTHER = "researcher-1", "researcher-2"


class Here(httpx.HTTPTransport):
    """Finds every name below localhost at this machine, as browsers do, and remembers the cookies that it was given.

    What a host has set for itself alone browsers do not send to the names below it; Python's jar does, unless told.
    """

    def __init__(self) -> None:
        super().__init__()
        self.jar = CookieJar()
        self.sent: dict[str, dict[str, str]] = {}

    def _allowed(self, host: str, header: str) -> str:
        others = {f"{one.name}={one.value}" for one in self.jar if not one.domain_specified and one.domain != host}
        return "; ".join(part for part in header.split("; ") if part not in others)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        host = request.url.host
        if host.endswith(".localhost"):
            if "Cookie" in request.headers:
                request.headers["Cookie"] = self._allowed(host, request.headers["Cookie"])
            cookies = SimpleCookie(request.headers.get("Cookie", ""))
            self.sent.setdefault(host, {}).update({name: one.value for name, one in cookies.items()})
            url = request.url.copy_with(host="127.0.0.1")
            request = httpx.Request(
                request.method, url, headers=request.headers, stream=request.stream, extensions=request.extensions
            )
        return super().handle_request(request)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site(settings={"user_subdomains": True})
    site.environ |= {
        "ARMILLARY_PUBLIC_URL": f"http://{SITE}:{site.port}",
        "ARMILLARY_BIND_URL": f"http://127.0.0.1:{site.port}",
    }
    with site.running():
        yield site


@pytest.fixture
def transport() -> Here:
    return Here()


def logged_in(site: Site, transport: Here, name: str) -> httpx.Client:
    """Return a browser in which somebody has logged in."""
    url = f"http://{SITE}:{site.port}"
    browser = httpx.Client(base_url=url, transport=transport, timeout=60, follow_redirects=True)
    transport.jar = browser.cookies.jar
    page = site.try_login(browser, name, site.accounts[name])
    assert page.status_code == 200, f"{page.url}\n{page.text[:2000]}\n{site.logs()}"
    assert page.url.host == SITE
    return browser


def test_a_session_opens_at_a_host_of_its_own_that_gets_no_key_to_the_hub(site: Site, transport: Here) -> None:
    own = f"{OWNER}.{SITE}"
    with closing(logged_in(site, transport, OWNER)) as browser:
        site.start_server(OWNER)
        page = browser.get(f"/user/{OWNER}/lab")
        assert (page.status_code, page.url.host, page.url.path) == (200, own, f"/user/{OWNER}/lab"), site.logs()
        assert "jupyter-config-data" in page.text
        again = browser.get(f"http://{own}:{site.port}/user/{OWNER}/api/status")
        assert again.status_code == 200

        of_hub = {one.name: one.value for one in browser.cookies.jar if one.domain == SITE}
        of_all = {one.name for one in browser.cookies.jar if one.domain == f".{SITE}"}
        assert {"jupyterhub-hub-login", "_xsrf"} <= set(of_hub)
        # Names the browser's session at the hub, opens nothing, and ends with the log-out.
        assert of_all == {"jupyterhub-session-id"}
        given = transport.sent[own]
        assert "jupyterhub-session-id" in given
        assert "jupyterhub-hub-login" not in given
        assert not set(of_hub.values()) & set(given.values())


def test_pages_of_the_hub_at_the_host_of_a_session_know_nobody(site: Site, transport: Here) -> None:
    with closing(logged_in(site, transport, OWNER)) as browser:
        away = browser.get(f"http://{OWNER}.{SITE}:{site.port}/hub/home", follow_redirects=False)
        assert away.status_code == 302
        assert "/hub/login" in away.headers["Location"]


def test_links_to_the_service_lead_to_it_from_the_host_of_a_session(site: Site, transport: Here) -> None:
    with closing(logged_in(site, transport, OWNER)) as browser:
        page = browser.get(f"http://{OWNER}.{SITE}:{site.port}/services/armillary/usage?days=7")
        assert (page.status_code, page.url.host, page.url.path) == (200, SITE, "/services/armillary/usage"), page.text
        assert page.url.params["days"] == "7"
        wrong = browser.get(f"http://{OWNER}.{SITE}:{site.port}/services/armillary//other.example.org")
        assert wrong.url.host == SITE
        assert wrong.status_code == 404


def test_somebody_else_is_not_let_into_a_session_by_its_address(site: Site, transport: Here) -> None:
    if not site.server(OWNER).get("ready"):
        site.start_server(OWNER)
    with closing(logged_in(site, transport, OTHER)) as browser:
        page = browser.get(f"http://{OWNER}.{SITE}:{site.port}/user/{OWNER}/lab")
        assert page.status_code == 403
        assert page.url.host == SITE
