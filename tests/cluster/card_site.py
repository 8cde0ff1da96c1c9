"""A hub and a service beside the cluster, and one card, on a simulated node or on the real one."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hub.db.engine import connect
from tests.cluster.served_hub import ServedHub
from tests.faults.admission_steps import World
from tests.faults.killing import KillOrder
from tests.hub.site import free_ports, wait_for
from tests.lab.cluster import Cluster

__all__ = ["CARDS", "NODE", "Beside", "offer_simulated", "site"]

_RESOURCE = {"real": "steps.lab.test/card", "simulated": "steps.lab.test/played"}
NODE = "steps-simulated"
"""The simulated node with the card."""

_NAMES = ("person1", "person2")
"""As `tests.bench.stub_server` knows people."""


def _catalogue(kind: str, image: str) -> dict[str, Any]:
    """Sessions with or without the card, of which there is one."""
    options = {"image": "base", "accelerator": ["none", "card"], "cpu": [0.1], "memory": ["256Mi"]}
    return {
        "accelerators": {"card": {"title": "Lab card", "kubernetes": {"resource": _RESOURCE[kind]}}},
        "images": {"base": {"title": "JupyterLab", "reference": image, "default_url": "/lab"}},
        "profiles": {"jupyterlab": {"title": "JupyterLab", "options": options}},
    }


class Beside(World):
    """A hub and a service beside the cluster; the test itself starts again what dies."""

    def __init__(self, hub: ServedHub, order: KillOrder) -> None:
        tokens = {name: hub.add(name) for name in _NAMES}
        super().__init__(hub.url, order, connect(f"sqlite:///{hub.folder / 'armillary.sqlite'}"), tokens)
        self.hub = hub

    def server(self, name: str) -> dict[str, Any]:
        return self.hub.server(name)

    def ask_to_stop(self, name: str) -> None:
        self.hub.http.delete(f"/hub/api/users/{name}/server")

    def sessions(self, name: str) -> list[str]:
        """Every pod counts until the cluster has forgotten it."""
        return [one["metadata"]["uid"] for one in self.hub.objects("pods", f"jupyter-{name}")]

    def pid_of(self, who: str) -> int:
        return self.hub.pid_of(who)

    def look_after(self) -> None:
        self.hub.look_after()

    def mended(self) -> None:
        self.hub.up()
        wait_for(self.well, "the service to be well", 120)


@contextlib.contextmanager
def _card_on_the_real_node(cluster: Cluster) -> Iterator[Mapping[str, str]]:
    def offer(number: str | None) -> None:
        status = {"status": {part: {_RESOURCE["real"]: number} for part in ("capacity", "allocatable")}}
        cluster.kubectl("patch", "node", cluster.node, "--subresource=status", "--type=merge", "-p", json.dumps(status))

    offer("1")
    try:
        yield {}
    finally:
        offer(None)


def offer_simulated(cluster: Cluster) -> None:
    """Bring up the simulated node with its card."""
    cluster.add_simulated_node(NODE, {_RESOURCE["simulated"]: "1"}, tainted=False)


@contextlib.contextmanager
def _card_on_a_simulated_node(cluster: Cluster) -> Iterator[Mapping[str, str]]:
    """With a server that answers for what is played there."""
    port = free_ports(1, cluster.bridge_address)[0]
    command = [sys.executable, "-m", "tests.bench.stub_server", cluster.bridge_address, str(port), str(len(_NAMES))]
    stub = subprocess.Popen(command)
    try:
        offer_simulated(cluster)
        yield {"HUB_SERVERS": f"{cluster.bridge_address}:{port}"}
    finally:
        stub.terminate()
        stub.wait(30)
        cluster.remove_node(NODE)


CARDS: Mapping[str, Callable[[Cluster], AbstractContextManager[Mapping[str, str]]]] = {
    "real": _card_on_the_real_node,
    "simulated": _card_on_a_simulated_node,
}
"""Offer the card while a block runs; yields what the hub's environment needs for it."""


@contextlib.contextmanager
def site(cluster: Cluster, kind: str, folder: Path, order: KillOrder, environ: Mapping[str, str]) -> Iterator[Beside]:
    """Run a hub and a service while the block runs."""
    with contextlib.ExitStack() as stack:
        namespace = stack.enter_context(cluster.namespace("steps"))
        hub = ServedHub(cluster, namespace, folder, _catalogue(kind, cluster.image("base")), environ)
        stack.callback(hub.down)
        hub.up()
        made = Beside(hub, order)
        stack.callback(made.database.dispose)
        yield made
