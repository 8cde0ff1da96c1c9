"""A real site that a real Prometheus watches, by the rules of the chart; and what makes each alert fire."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import yaml

from helm.monitoring.alerts import ALERTS
from tests.helm.chart import MINIMAL, find, render
from tests.hub.mail_double import MailServer
from tests.hub.site import ROOT, Site, free_ports, wait_for
from tests.hub.web_world import PREFIX
from tests.lab import prometheus

__all__ = ["CAUSES", "World", "running"]

CARD = {"profile": "lab", "accelerator": "card"}
CATALOGUE = """\
images:
  jupyterlab: {title: JupyterLab, local: {}}
accelerators:
  card: {title: Card, simulated: {count: 1}}
profiles:
  lab: {title: Lab, options: {image: [jupyterlab], accelerator: [none, card]}}
  broken: {title: Broken, options: {image: [jupyterlab]}}
"""
CONFIG = """
async def fail(spawner):
    if spawner.user_options.get("profile") == "broken":
        raise RuntimeError("its home cannot be mounted")

c.Spawner.pre_spawn_hook = fail
"""
QUOTAS = {"default": {"hours:week": 100}, "user:instructor": {"servers": 0}}
PEOPLE = ("researcher-1", "researcher-2", "instructor")


class World:
    """The site, its Prometheus, and people who use the service by its API."""

    def __init__(
        self, site: Site, watching: prometheus.Prometheus, mail: MailServer, controller_port: int, homes: Path
    ) -> None:
        self.site = site
        self.prometheus = watching
        self.mail = mail
        self.controller_port = controller_port
        self.homes = homes
        self.began = time.time()
        self.tokens = {
            name: site.api("POST", f"/users/{name}/tokens", json={"note": "test"}).json()["token"] for name in PEOPLE
        }

    def call(self, name: str, method: str, path: str, token: str = "", **more: Any) -> httpx.Response:
        """Ask the service as somebody; `path` as in `/requests`."""
        headers = {"Authorization": f"token {token or self.tokens[name]}"}
        url = f"{self.site.url}{PREFIX}/api{path}"
        return httpx.request(method, url, headers=headers, timeout=60, **more)

    def ask(self, name: str, options: Mapping[str, str], **more: Any) -> httpx.Response:
        """Ask for a session."""
        return self.call(name, "POST", "/requests", json={"options": dict(options), **more})

    def ready(self, name: str) -> bool:
        """Whether somebody's session is up."""
        return bool(self.site.server(name).get("ready"))

    def stop(self, name: str) -> None:
        """Stop somebody's session and leave the queue, and wait until nothing is left."""
        for ticket in self.call(name, "GET", "/tickets").json()["tickets"]:
            self.call(name, "DELETE", f"/tickets/{ticket['id']}")
        self.site.api("DELETE", f"/users/{name}/server")
        wait_for(lambda: not self.site.server(name), f"the session of {name} to be gone", 60)

    @contextlib.contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """Armillary's own database."""
        with contextlib.closing(sqlite3.connect(self.site.state / "armillary.sqlite", timeout=30)) as found:
            yield found
            found.commit()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[World]:
    """Start everything; nothing is left of it afterwards."""
    mail = MailServer()
    threading.Thread(target=mail.serve_forever, daemon=True).start()
    (folder / "quotas.yaml").write_text(yaml.safe_dump(QUOTAS))
    settings: dict[str, Any] = {
        "quotas": {"file": str(folder / "quotas.yaml")},
        "queue": {"mail": {"host": "127.0.0.1", "port": mail.server_address[1], "security": "none"}},
        "login": {"timeout_s": 2},
    }
    [controller_port] = free_ports(1)
    with contextlib.ExitStack() as stack:
        stack.callback(mail.server_close)
        stack.callback(mail.shutdown)
        # Not below the test's folder, which only root may enter: sessions have accounts of their own.
        homes = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="armillary-homes-")))
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=0755", "tmpfs", str(homes)], check=True)
        stack.callback(subprocess.run, ["umount", "--lazy", str(homes)], check=True)
        settings["local"] = {"homes": str(homes)}
        site = Site(settings=settings, catalogue=CATALOGUE, config=CONFIG)
        stack.enter_context(site.running())
        for name in PEOPLE:
            site.login(name).close()
        scrapes = _scrapes(site, controller_port)
        watching = stack.enter_context(prometheus.running(folder / "prometheus", scrapes, _rules()))
        yield World(site, watching, mail, controller_port, homes)


def _scrapes(site: Site, controller_port: int) -> list[dict[str, Any]]:
    token = site.state / "secrets" / "metrics_token"
    return [
        {
            "job_name": component,
            "metrics_path": path,
            "authorization": {"credentials_file": str(token)},
            "static_configs": [
                {"targets": [address], "labels": {"installation": "core/a", "component": component}},
            ],
        }
        for component, address, path in (
            ("hub", f"127.0.0.1:{site.port}", "/hub/metrics"),
            ("service", f"127.0.0.1:{site.port}", f"{PREFIX}/metrics"),
            ("controller", f"127.0.0.1:{controller_port}", "/metrics"),
        )
    ]


def _rules() -> dict[str, Any]:
    """The chart's own, with the value that says how long something must be wrong."""
    values = deepcopy(MINIMAL)
    values["monitoring"] = {"alerts": {"enabled": True, "after": {alert.name: "4s" for alert in ALERTS}}}
    found: dict[str, Any] = find(render(values), "PrometheusRule", "a")["spec"]
    return found


# --- what makes alerts fire ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that hangs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _hub_hangs(world: World) -> AbstractContextManager[None]:
    return stopped(world.site.hub_pid())


def _service_hangs(world: World) -> AbstractContextManager[None]:
    return stopped(world.site.pid_of("service"))


def _one_runs(world: World) -> None:
    """The first one has the card."""
    world.stop("researcher-2")
    if not world.ready("researcher-1"):
        world.ask("researcher-1", CARD)
        wait_for(lambda: world.ready("researcher-1"), "a session", 90)


@contextlib.contextmanager
def _database_locked(world: World) -> Iterator[None]:
    """Somebody holds the lock of writers; a session runs."""
    _one_runs(world)
    held = sqlite3.connect(world.site.state / "armillary.sqlite", timeout=30, isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        held.execute("ROLLBACK")
        held.close()


@contextlib.contextmanager
def _asked_while_locked(world: World) -> Iterator[None]:
    with _database_locked(world):
        asking = [threading.Thread(target=world.ask, args=("researcher-2", CARD)) for _ in range(7)]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
    yield


@contextlib.contextmanager
def _starts_fail(world: World) -> Iterator[None]:
    world.stop("researcher-2")
    for _ in range(5):
        world.site.api("POST", "/users/researcher-2/server", json={"profile": "broken"})
        wait_for(lambda: not world.site.server("researcher-2"), "a start to fail", 30)
    yield


@contextlib.contextmanager
def _queue_starts_fail(world: World) -> Iterator[None]:
    world.stop("researcher-2")
    for _ in range(4):
        world.ask("researcher-2", {"profile": "broken"})
        wait_for(lambda: not world.site.server("researcher-2"), "a start to fail", 30)
    try:
        yield
    finally:
        world.stop("researcher-2")


@contextlib.contextmanager
def _somebody_waits(world: World) -> Iterator[None]:
    _one_runs(world)
    assert world.ask("researcher-2", CARD).json()["state"] == "queued"
    with world.database() as database:
        database.execute("UPDATE tickets SET asked_at = asked_at - 5 * 3600 WHERE state = 'waiting'")
    try:
        yield
    finally:
        world.stop("researcher-2")


@contextlib.contextmanager
def _hub_hangs_again_and_again(world: World) -> Iterator[None]:
    for _ in range(9):
        with _hub_hangs(world):
            time.sleep(1.7)
        time.sleep(0.4)
    yield


@contextlib.contextmanager
def _hub_cannot_be_asked(world: World) -> Iterator[None]:
    with _hub_hangs(world):
        # A token that the service has not seen, so that it must ask.
        httpx.get(
            f"http://127.0.0.1:{_service_port(world.site)}{PREFIX}/api/tickets",
            headers={"Authorization": "token nobodys"},
            timeout=30,
        )
        yield
    wait_for(lambda: world.call("researcher-1", "GET", "/tickets", token="another").status_code == 401, "an answer")


def _service_port(site: Site) -> int:
    address = yaml.safe_load(site.settings_file.read_text())["service"]["bind_url"]
    return int(address.rpartition(":")[2])


@contextlib.contextmanager
def _provider_hangs(world: World) -> Iterator[None]:
    with stopped(world.site.pid_of("provider")):
        for _ in range(4):
            with httpx.Client(base_url=world.site.url, timeout=30) as browser:
                away = browser.get("/hub/oauth_login")
                provider = httpx.URL(away.headers["location"])
                issuer = f"{provider.scheme}://{provider.netloc.decode()}"
                said = {"state": provider.params["state"], "code": "x", "iss": issuer}
                assert browser.get("/hub/oauth_callback", params=said).status_code == 503
        yield


@contextlib.contextmanager
def _mail_is_refused(world: World) -> Iterator[None]:
    for name in ("researcher-1", "researcher-2"):
        world.stop(name)
    world.mail.answers = ["550 no such person"] * 3
    world.ask("researcher-1", CARD, notify=True)
    wait_for(lambda: world.ready("researcher-1"), "a session", 90)
    try:
        yield
    finally:
        world.mail.answers = []


@contextlib.contextmanager
def _copy_is_old(world: World) -> Iterator[None]:
    with world.database() as database:
        database.execute("UPDATE audit SET at = at - 3 * 86400 WHERE action = 'backup.made'")
    yield


@contextlib.contextmanager
def _homes_are_full(world: World) -> Iterator[None]:
    filling = world.homes / "large"
    room = os.statvfs(filling.parent)
    filling.write_bytes(bytes(int(room.f_bavail * room.f_frsize * 0.97)))
    try:
        yield
    finally:
        filling.unlink()


@contextlib.contextmanager
def _no_cluster(world: World) -> Iterator[None]:
    """A controller of its own whose Kubernetes does not answer."""
    folder = world.site.folder / "controller"
    (folder / "secrets").mkdir(parents=True, exist_ok=True)
    for name in ("service_token", "metrics_token"):
        (folder / "secrets" / name).write_text((world.site.state / "secrets" / name).read_text())
    settings = {
        "engine": "kubernetes",
        "state_dir": str(folder),
        "catalogue": str(folder / "catalogue.yaml"),
        "hub": {"bind_url": "http://0.0.0.0:8081", "connect_url": "http://hub.example.org:8081"},
    }
    (folder / "catalogue.yaml").write_text(
        "images: {lab: {title: Lab, reference: example.org/lab}}\nprofiles: {lab: {title: Lab, options: {image: lab}}}\n"
    )
    (folder / "armillary.yaml").write_text(yaml.safe_dump(settings))
    context = {"name": "x", "context": {"cluster": "x", "user": "x"}}
    [closed] = free_ports(1)
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{closed}"}}],
        "users": [{"name": "x", "user": {}}],
        "contexts": [context],
        "current-context": "x",
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ARMILLARY_", "KUBERNETES_"))}
    environ = {**kept, "KUBECONFIG": str(folder / "kubeconfig"), "ARMILLARY_SETTINGS": str(folder / "armillary.yaml")}
    armillary = [sys.executable, "-m", "hub.cli"]
    subprocess.run([*armillary, "db", "upgrade"], cwd=ROOT, env=environ, check=True, capture_output=True)
    with (folder / "log").open("wb") as log:
        command = [*armillary, "controller", "--metrics-port", str(world.controller_port)]
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


CAUSES: Mapping[str, Callable[[World], AbstractContextManager[None]]] = {
    "ArmillaryBackupOld": _copy_is_old,
    "ArmillaryQueueLong": _somebody_waits,
    "ArmillaryCountsOld": _database_locked,
    "ArmillaryLedgerBehind": _database_locked,
    "ArmillaryDecisionsSlow": _asked_while_locked,
    "ArmillaryServiceErrors": _asked_while_locked,
    "ArmillaryMailsFail": _mail_is_refused,
    "ArmillaryStartsFail": _starts_fail,
    "ArmillaryQueueStartsFail": _queue_starts_fail,
    "ArmillaryLoginsFail": _provider_hangs,
    "ArmillaryHomesFull": _homes_are_full,
    "ArmillaryBlind": _no_cluster,
    "ArmillaryWatchFails": _no_cluster,
    "ArmillaryHubDown": _hub_hangs,
    "ArmillaryHubAway": _hub_cannot_be_asked,
    "ArmillaryHubSlow": _hub_hangs_again_and_again,
    "ArmillaryServiceDown": _service_hangs,
    "ArmillaryNobodyLeads": _service_hangs,
}
"""Each lasts while its alert is awaited; those about the past are over by then."""
