"""Three people and two cards on a whole site, real hub and real sessions: the third one's server starts by itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.hub.site import Site, wait_for
from tests.hub.web_world import PREFIX

pytestmark = [pytest.mark.hub, pytest.mark.timeout(400)]

CATALOGUE = """\
images:
  jupyterlab: {title: JupyterLab, local: {}}
accelerators:
  card: {title: Card, simulated: {count: 2}}
profiles:
  lab: {title: Lab, options: {image: [jupyterlab], accelerator: [none, card]}}
"""
PEOPLE = ("researcher-1", "researcher-2", "instructor")
CARD = {"accelerator": "card"}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site(settings={"servers": {"named_limit": 1, "slow_start_s": 1}}, catalogue=CATALOGUE).running() as running:
        for name in PEOPLE:
            running.login(name).close()
        wait_for(lambda: counted(running), "the cards to be counted")
        yield running


def counted(site: Site) -> bool:
    said = httpx.get(f"{site.url}{PREFIX}/health", timeout=30).json()
    return bool(said["counts"]["fresh"])


class Somebody:
    """A person who uses the service by its API."""

    def __init__(self, site: Site, name: str) -> None:
        token = site.api("POST", f"/users/{name}/tokens", json={"note": "test"}).json()["token"]
        self.site = site
        self.name = name
        self.http = httpx.Client(
            base_url=f"{site.url}{PREFIX}/api", headers={"Authorization": f"token {token}"}, timeout=60
        )

    def ask(self, **options: str) -> dict[str, Any]:
        answer = self.http.post("/requests", json={"options": options or CARD})
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def ticket(self, ticket_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"/tickets/{ticket_id}").json()
        return found

    def ready(self) -> bool:
        return bool(self.site.server(self.name).get("ready"))


@pytest.fixture
def people(site: Site) -> Iterator[list[Somebody]]:
    found = [Somebody(site, name) for name in PEOPLE]
    yield found
    for one in found:
        for ticket in one.http.get("/tickets").json()["tickets"]:
            one.http.delete(f"/tickets/{ticket['id']}")
        site.api("DELETE", f"/users/{one.name}/server")
        one.http.close()
    wait_for(lambda: not any(one.ready() for one in found), "all servers to be stopped")


def test_the_third_waits_through_restarts_and_is_started_when_a_card_is_free(
    site: Site, people: list[Somebody]
) -> None:
    first, second, third = people
    assert first.ask()["state"] == "starting"
    assert second.ask()["state"] == "starting"
    wait_for(lambda: first.ready() and second.ready(), "two servers", 120)
    said = third.ask()
    assert (said["state"], said["ticket"]["place"]) == ("queued", 1)
    ticket_id = said["ticket"]["id"]
    site.restart_hub(signal.SIGKILL)
    before = site.pid_of("service")
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: site.pid_of("service") != before and _answers(third), "another service", 120)
    again = third.ticket(ticket_id)
    assert (again["state"], again["place"]) == ("waiting", 1)
    assert site.api("DELETE", f"/users/{first.name}/server").status_code in (202, 204)
    wait_for(third.ready, "the third's server to start by itself", 120)
    wait_for(lambda: third.ticket(ticket_id)["state"] == "ended", "its ticket to end")
    assert third.ticket(ticket_id)["ended_as"] == "started"
    assert site.server(third.name)["user_options"]["accelerator"] == "card"


def test_at_the_hubs_own_door_one_gets_a_place_and_is_started_too(site: Site, people: list[Somebody]) -> None:
    first, second, third = people
    for one in (first, second):
        assert site.api("POST", f"/users/{one.name}/server", json=CARD).status_code in (201, 202)
    wait_for(lambda: first.ready() and second.ready(), "two servers", 120)
    refused = site.api("POST", f"/users/{third.name}/server", json=CARD)
    assert (refused.status_code, refused.headers["Armillary-Refusal"]) == (409, "queued")
    assert "1st in line" in refused.json()["message"]
    again = site.api("POST", f"/users/{third.name}/server", json=CARD)
    assert again.headers["Armillary-Ticket"] == refused.headers["Armillary-Ticket"]
    site.api("DELETE", f"/users/{second.name}/server")
    wait_for(third.ready, "the third's server to start by itself", 120)


@pytest.mark.parametrize("begun", ["just now", "a while ago"])
def test_a_start_that_is_cancelled_at_the_hub_is_not_begun_again(
    site: Site, people: list[Somebody], begun: str
) -> None:
    """As by *Cancel the start* on the hub's page: by its API, which knows nothing of the queue."""
    somebody = people[0]
    ticket_id = somebody.ask()["ticket"]["id"]
    wait_for(lambda: site.server(somebody.name).get("pending") == "spawn", "the start to begin")
    if begun == "a while ago":
        time.sleep(1.2)  # the hub has answered that it takes longer
    assert site.api("DELETE", f"/users/{somebody.name}/server").status_code in (202, 204)
    wait_for(lambda: somebody.ticket(ticket_id)["state"] == "ended", "its ticket to end")
    assert somebody.ticket(ticket_id)["ended_as"] == "left", site.logs()
    time.sleep(3)
    assert site.server(somebody.name) == {}


def _answers(somebody: Somebody) -> bool:
    try:
        return somebody.http.get("/tickets").status_code == 200
    except httpx.HTTPError:
        return False


def test_the_hubs_limit_of_servers_with_names_is_told_at_the_door(people: list[Somebody]) -> None:
    somebody = people[0]

    def ask(server: str) -> httpx.Response:
        return somebody.http.post("/requests", json={"options": {"accelerator": "none"}, "server": server})

    assert ask("two").status_code == 202
    wait_for(lambda: bool(somebody.site.server(somebody.name, "two").get("ready")), "the server with a name")
    for _ in ("while it runs", "when it is stopped"):
        assert ask("three").json()["code"] == "named-servers"
        somebody.site.api("DELETE", f"/users/{somebody.name}/servers/two")
        wait_for(lambda: not somebody.site.server(somebody.name, "two").get("ready"), "it to be stopped")
    assert somebody.site.api("DELETE", f"/users/{somebody.name}/servers/two", json={"remove": True}).status_code == 204
    assert ask("three").status_code == 202
    wait_for(lambda: bool(somebody.site.server(somebody.name, "three").get("ready")), "the other one")
    somebody.site.api("DELETE", f"/users/{somebody.name}/servers/three", json={"remove": True})
