"""Starts from the queue whose owner's login has ended, on a real hub: what was stopped for a switch comes back, nothing
else does, and nobody but our service may say that it is such a one."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from hub.web.place import COMES_BACK, NAME
from tests.hub.bare import TOKEN, BareHub
from tests.hub.provider import FakeProvider

pytestmark = pytest.mark.hub

SERVICE_TOKEN = "beef" * 16
SETTINGS = {"username_claim": "preferred_username", "allowed_groups": ["researchers"]}
CONFIG = f"""
c.OIDCAuthenticator.auth_refresh_age = -1
c.JupyterHub.services.append({{"name": {NAME!r}, "api_token": {SERVICE_TOKEN!r}}})
c.JupyterHub.load_roles.append({{"name": "starts", "services": [{NAME!r}], "scopes": ["admin:servers"]}})
"""


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture(scope="module")
def hub(fake: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareHub]:
    bare = BareHub(tmp_path_factory.mktemp("hub"), fake.issuer, settings=SETTINGS, config=CONFIG)
    with bare.running() as up:
        yield up


@pytest.fixture
def ann(fake: FakeProvider, hub: BareHub) -> Iterator[BareHub]:
    """A hub at which Ann has logged in, and where her login has ended since."""
    fake.reset()
    assert hub.browser().get("/hub/login", params={"next": "/hub/home"}).url.path == "/hub/home"
    yield hub
    hub.close_browsers()
    hub.api("DELETE", "/users/ann")


def start(hub: BareHub, token: str, **heads: str) -> httpx.Response:
    said = {"Authorization": f"token {token}", **heads}
    return httpx.post(f"{hub.url}/hub/api/users/ann/server", headers=said, json={"user_options": {}}, timeout=30)


def test_what_was_stopped_for_a_switch_comes_back_though_its_owners_login_has_ended(
    ann: BareHub, fake: FakeProvider
) -> None:
    fake.access.clear()
    fake.refresh.clear()
    refused = start(ann, SERVICE_TOKEN)
    assert refused.status_code == 403, refused.text
    assert start(ann, SERVICE_TOKEN, **{COMES_BACK: "1"}).status_code in (201, 202)


def test_the_header_is_nobody_elses(ann: BareHub, fake: FakeProvider) -> None:
    own = ann.api("POST", "/users/ann/tokens").json()["token"]
    fake.people["ann"]["groups"] = ["students"]
    for token in (own, TOKEN):
        refused = start(ann, token, **{COMES_BACK: "1"})
        assert refused.status_code == 403, refused.text
        assert "members of the group researchers" in refused.json()["message"]
