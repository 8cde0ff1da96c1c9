"""A Prometheus beside the cluster that watches a release by what the chart's objects say, and people who use it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from helm.monitoring.alerts import ALERTS
from helm.monitoring.boards import BOARDS
from tests.helm.discovery import followed
from tests.helm.operator import scrape
from tests.helm.release import Release
from tests.hub.forms import submit
from tests.hub.site import wait_for
from tests.hub.web_world import PREFIX
from tests.lab import network, prometheus

__all__ = ["CARD", "CARDS", "WATCHED", "World", "ruled", "seen", "shown", "watching"]

_ALLOWED, _OTHER = "10.88.200.10", "10.88.200.11"
_RESOURCE = "release.lab.test/card"
CARDS = {_RESOURCE: "1"}
"""What the node must have."""
CARD = {"profile": "lab", "accelerator": "card"}
"""What one asks for to have it."""

WATCHED: Mapping[str, Any] = {
    "monitoring": {
        "monitors": {"enabled": True, "interval": "2s"},
        "dashboards": {"enabled": True},
        "alerts": {"enabled": True, "after": {"ArmillaryHubDown": "2s"}},
    },
    "networkPolicies": {"monitoringFrom": [{"ipBlock": {"cidr": f"{_ALLOWED}/32"}}]},
    "quotas": {"default": {"hours:week": 100}, "user:administrator": {"servers": 0}},
    "catalogue": {
        "accelerators": {"card": {"title": "Card", "kubernetes": {"resource": _RESOURCE}}},
        "profiles": {"lab": {"options": {"image": "lab", "accelerator": ["none", "card"]}}},
    },
}
"""Values of a release that is watched, and has one card."""


ELSEWHERE = {
    "armillary-health: Room for homes: {{state}}": "of one machine; in a cluster homes are claims",
}
"""Panels that show nothing of a release, and why."""

_CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[2], int(sys.argv[3])), 2, (sys.argv[1], 0)).close()
    print("open")
except TimeoutError:
    print("silent")
"""


class World:
    """The release, its Prometheus, and people who use the service by its API."""

    def __init__(self, release: Release, watching: prometheus.Prometheus) -> None:
        self.release = release
        self.prometheus = watching
        self.installation = f'installation="{release.namespace}/{release.name}"'
        self.began = time.time()
        self.tokens: dict[str, str] = {}

    def call(self, name: str, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask the hub or the service as somebody; `path` as in `/hub/api/user`."""
        if name not in self.tokens:
            self.tokens[name] = _token(self.release, name)
        headers = {"Authorization": f"token {self.tokens[name]}"}
        return httpx.request(method, f"{self.release.url}{path}", headers=headers, timeout=60, **more)

    def ask(self, name: str, options: Mapping[str, str], **more: Any) -> httpx.Response:
        """Ask for a session."""
        return self.call(name, "POST", f"{PREFIX}/api/requests", json={"options": dict(options), **more})

    def _server(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call(name, "GET", f"/hub/api/users/{name}").json()["servers"].get("", {})
        return found

    def ready(self, name: str) -> bool:
        """Whether somebody's session is up."""
        return bool(self._server(name).get("ready"))

    def stop(self, name: str) -> None:
        """Stop somebody's session, and wait until it is gone."""
        self.call(name, "DELETE", f"/hub/api/users/{name}/server")
        wait_for(lambda: not self._server(name), f"the session of {name} to be gone", 60)


def _token(release: Release, name: str) -> str:
    """Log in by the provider's pages, without a browser, and make a token on the hub."""
    with httpx.Client(base_url=release.url, timeout=30, follow_redirects=True, verify=False) as visitor:
        page = visitor.get("/hub/oauth_login", params={"next": "/hub/home"})
        page = submit(visitor, page, login=name)
        page = submit(visitor, page, password=release.accounts[name])
        assert str(page.url).startswith(release.url), f"{name} did not get in: {page.url} {page.text[:2000]}"
        proof = {"X-XSRFToken": next(one.value or "" for one in visitor.cookies.jar if one.name == "_xsrf")}
        made = visitor.post(f"/hub/api/users/{name}/tokens", json={"note": "test"}, headers=proof)
        assert made.status_code == 201, made.text
        return str(made.json()["token"])


@contextmanager
def watching(release: Release, folder: Path) -> Iterator[World]:
    """Watch a release as its monitors say, with its rules; where the chart's policies let a Prometheus in."""

    def secret(name: str, key: str) -> str:
        [found] = [one for one in release.get("secrets") if one["metadata"]["name"] == name]
        return base64.b64decode(found["data"][key]).decode()

    [rules] = release.get("prometheusrules")
    address = f"{_ALLOWED}:9090"
    with (
        followed(release.cluster.kubeconfig, release.namespace, folder / "targets") as targets,
        network.beside([_ALLOWED, _OTHER]) as inside,
    ):
        scrapes = [scrape(one, secret, targets) for one in release.get("servicemonitors,podmonitors")]
        with prometheus.running(folder, scrapes, rules["spec"], inside, address) as watches:
            world = World(release, watches)
            seen(world)
            _others_stay_out(world, inside)
            yield world


def _unseen(world: World) -> list[str]:
    """What of the release is not watched: parts without a pod that is up, and targets that are not."""
    up = world.prometheus.series(f"sum by (component) (up{{{world.installation}}})")
    parts = {one["metric"]["component"] for one in up}
    problems = [f"{address}: {said}" for address, said in world.prometheus.problems().items()]
    return sorted({"hub", "service", "controller"} - parts) + problems


def seen(world: World) -> None:
    """Wait until every part of the release is watched, and every target answers."""
    try:
        wait_for(lambda: not _unseen(world), "every part to answer", 120, 0.5)
    except AssertionError as error:
        raise AssertionError(f"{error}: {_unseen(world)}") from error


def _others_stay_out(world: World, inside: tuple[str, ...]) -> None:
    """The control: from an address that the values do not name nobody reaches what is watched."""
    target = next(
        urlsplit(one["scrapeUrl"])
        for one in world.prometheus.ask("targets")["activeTargets"]
        if one["labels"]["component"] == "hub"
    )
    reached = {
        source: subprocess.run(
            [*inside, sys.executable, "-c", _CONNECT, source, str(target.hostname), str(target.port)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for source in (_ALLOWED, _OTHER)
    }
    assert reached == {_ALLOWED: "open", _OTHER: "silent"}


def _panels(world: World) -> dict[str, str]:
    """Every query of every dashboard that the release gave to Grafana, as that asks it about this release."""
    found = {}
    for made in world.release.get("configmaps", "-l", "grafana_dashboard=1"):
        for board in map(json.loads, made["data"].values()):
            for panel in board["panels"]:
                for target in panel["targets"]:
                    query = target["expr"].replace('installation=~"$installation"', world.installation)
                    where = f"{board['uid']}: {panel['title']}: {target['legendFormat']}"
                    found[where] = query.replace("$__rate_interval", "1m")
    assert not [query for query in found.values() if "$" in query]
    assert {board.key for board in BOARDS} == {where.partition(":")[0].removeprefix("armillary-") for where in found}
    return found


def shown(world: World) -> None:
    """Wait until every panel has shown something since the Prometheus began."""
    missing = _panels(world)
    for where in ELSEWHERE:
        del missing[where]

    def all_shown() -> bool:
        for where in [where for where, query in missing.items() if world.prometheus.shows(query, world.began)]:
            del missing[where]
        return not missing

    try:
        wait_for(all_shown, "data", 120, 1.0)
    except AssertionError as error:
        raise AssertionError(f"no data for {json.dumps(missing, indent=1)}") from error


def ruled(world: World, fired: set[str]) -> None:
    """Assert that the release's rules are all taken, and that these alerts have fired since the Prometheus began."""
    [group] = world.prometheus.ask("rules")["groups"]
    said = {rule["name"]: (rule["health"], rule.get("lastError", "")) for rule in group["rules"]}
    assert said == {alert.name: ("ok", "") for alert in ALERTS}
    firing = f'max_over_time(ALERTS{{{world.installation},alertstate="firing"}}[1h])'
    found = {one["metric"]["alertname"] for one in world.prometheus.series(firing)}
    assert fired <= found, found
