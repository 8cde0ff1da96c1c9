"""A whole site of this machine for the tests of the way of a request; its launcher starts again what dies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hub.db.engine import connect
from tests.faults.admission_steps import World
from tests.faults.killing import KillOrder
from tests.hub.site import Site, processes_mentioning, wait_for
from tests.lab import postgres
from tests.lab.errors import LabError

__all__ = ["GROUPS", "NAME", "OTHER", "STEPS", "Here", "restarted", "site_of"]

NAME, OTHER = "researcher-1", "researcher-2"
CATALOGUE = """\
images:
  jupyterlab: {title: JupyterLab, local: {}}
accelerators:
  card: {title: Card, simulated: {count: 1}}
profiles:
  lab: {title: Lab, options: {image: [jupyterlab], accelerator: [none, card]}}
"""

# Who dies, and at what: in the order in which a request comes by. Each before and after.
REQUEST = (
    ("service", "hub.admission.doors:request"),
    ("service", "hub.admission.reservations:insert"),
    ("service", "hub.admission.hub_api:HubServers.start"),
)
SPAWN = (
    ("hub", "hub.admission.reservations:begin"),
    ("hub", "hub.admission.desk:SqlDesk.reserve"),
    ("hub", "spawner.local:start_session"),
    ("hub", "spawner.local:LocalSpawner._until_ready"),
)
RUNS = (
    ("service", "hub.admission.outcome:settle"),
    ("service", "hub.controller.publish:publish"),
    ("service", "hub.usage.ledger:beat"),
)
STOP = (
    ("hub", "spawner.local:LocalSpawner.stop"),
    ("hub", "hub.admission.desk:SqlDesk.release"),
    ("hub", "hub.admission.changes:ended"),
    ("hub", "hub.usage.ledger:close"),
)
QUEUE = (
    ("service", "hub.admission.tickets:insert"),
    ("service", "hub.admission.promote:promote_next"),
    ("service", "hub.admission.tickets:promote"),
)
GROUPS = {"request": REQUEST, "spawn": SPAWN, "runs": RUNS, "stop": STOP, "queue": QUEUE}
STEPS = frozenset(step for group in GROUPS.values() for _, step in group)


class Here(World):
    """A site of this machine, whose launcher starts again what dies."""

    def __init__(self, site: Site, order: KillOrder, url: str | None, server: postgres.Server | None = None) -> None:
        tokens = {}
        for name in (NAME, OTHER):
            site.login(name).close()
            tokens[name] = site.api("POST", f"/users/{name}/tokens", json={"note": "test"}).json()["token"]
        database = connect(url or f"sqlite:///{site.state / 'armillary.sqlite'}")
        super().__init__(site.url, order, database, tokens)
        self.site = site
        self.database_server = server

    def server(self, name: str) -> dict[str, Any]:
        return self.site.server(name)

    def ask_to_stop(self, name: str) -> None:
        self.site.api("DELETE", f"/users/{name}/server")

    def sessions(self, name: str) -> list[str]:
        found = set()
        for line in processes_mentioning(f"HOME={self.site.state}/homes/{name}"):
            with contextlib.suppress(OSError):
                environ = Path("/proc", line.split(":")[0], "environ").read_text(errors="replace").split("\0")
                found |= {entry for entry in environ if entry.startswith("ARMILLARY_SPAWN_ID=")}
        return sorted(found)

    def pid_of(self, who: str) -> int:
        return self.site.pid_of(who)

    def mended(self) -> None:
        if self.database_server is not None:
            server = self.database_server
            wait_for(lambda: restarted(server), "the database to start again", 60)
        self.site.wait_healthy()
        wait_for(self.well, "the service to be well", 120)


def restarted(server: postgres.Server) -> bool:
    try:
        server.start()
    except LabError:
        return False  # what is left of the one before has still to end
    return True


@contextlib.contextmanager
def site_of(order: KillOrder, url: str | None) -> Iterator[Site]:
    environ = {**order.environ, **({"ARMILLARY_DATABASE__URL": url} if url else {})}
    with Site(catalogue=CATALOGUE, environ=environ).running() as running:
        yield running
