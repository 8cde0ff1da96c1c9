"""As `tests/faults/test_admission_steps.py`, on Kubernetes: hub and service are killed at every step of the way.

All steps with a card on a simulated node; those that touch a pod with a card on the real kubelet too. By default
those that touch a pod are tested on both, and the queue on the first. The whole table, each step before and after:

    ARMILLARY_ALL_STEPS=1 python -m pytest tests/cluster/test_admission_steps.py
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from hub.db.engine import connect
from tests.cluster.served_hub import ServedHub
from tests.faults.admission_steps import ALL_STEPS, Place, World, kill_at, one_of_each_part, whole_table
from tests.faults.killing import KillOrder
from tests.hub.site import free_ports, wait_for
from tests.lab.cluster import Cluster

pytestmark = [pytest.mark.timeout(600)]

RESOURCE = {"real": "steps.lab.test/card", "simulated": "steps.lab.test/played"}
NODE = "steps-simulated"
NAMES = ("person1", "person2")
"""As `tests.bench.stub_server` knows people."""

POD_ROWS = {
    "spawn": (
        ("hub", "spawner.pod_maker:PodMaker.make"),
        ("hub", "spawner.readiness:wait_until_answering"),
    ),
    "stop": (
        ("hub", "spawner.kube:ArmillarySpawner.stop"),
        ("hub", "hub.admission.desk:SqlDesk.release"),
    ),
}
"""What touches a pod."""

OTHER_ROWS = {
    "request": (
        ("service", "hub.admission.doors:request"),
        ("service", "hub.admission.reservations:insert"),
        ("service", "hub.admission.hub_api:HubServers.start"),
    ),
    "spawn": (
        ("hub", "hub.admission.reservations:begin"),
        ("hub", "hub.admission.desk:SqlDesk.reserve"),
    ),
    "runs": (
        ("service", "hub.admission.outcome:settle"),
        ("service", "hub.controller.publish:publish"),
        ("service", "hub.usage.ledger:beat"),
    ),
    "stop": (
        ("hub", "hub.admission.changes:ended"),
        ("hub", "hub.usage.ledger:close"),
    ),
}
QUEUE_ROWS = {
    "queue": (
        ("service", "hub.admission.tickets:insert"),
        ("service", "hub.admission.promote:promote_next"),
        ("service", "hub.admission.tickets:promote"),
    ),
}
ALL_ROWS = {
    part: tuple(row for rows in (OTHER_ROWS, POD_ROWS, QUEUE_ROWS) for row in rows.get(part, ()))
    for part in ("request", "spawn", "runs", "stop", "queue")
}
STEPS = frozenset(step for rows in ALL_ROWS.values() for _, step in rows)
WHOLE = os.environ.get(ALL_STEPS, "") == "1"
ROWS = (
    whole_table(ALL_ROWS, ("simulated",)) + whole_table(POD_ROWS, ("real",))
    if WHOLE
    else one_of_each_part({**POD_ROWS, **QUEUE_ROWS}, ("simulated",)) + one_of_each_part(POD_ROWS, ("real",))
)


def catalogue(kind: str, image: str) -> dict[str, Any]:
    """Sessions with or without the card, of which there is one."""
    options = {"image": "base", "accelerator": ["none", "card"], "cpu": [0.1], "memory": ["256Mi"]}
    return {
        "accelerators": {"card": {"title": "Lab card", "kubernetes": {"resource": RESOURCE[kind]}}},
        "images": {"base": {"title": "JupyterLab", "reference": image, "default_url": "/lab"}},
        "profiles": {"jupyterlab": {"title": "JupyterLab", "options": options}},
    }


class Beside(World):
    """A hub and a service beside the cluster; the test itself starts again what dies."""

    def __init__(self, hub: ServedHub, order: KillOrder) -> None:
        tokens = {name: hub.add(name) for name in NAMES}
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
def card_on_the_real_node(cluster: Cluster) -> Iterator[Mapping[str, str]]:
    def offer(number: str | None) -> None:
        status = {"status": {part: {RESOURCE["real"]: number} for part in ("capacity", "allocatable")}}
        cluster.kubectl("patch", "node", cluster.node, "--subresource=status", "--type=merge", "-p", json.dumps(status))

    offer("1")
    try:
        yield {}
    finally:
        offer(None)


@contextlib.contextmanager
def card_on_a_simulated_node(cluster: Cluster) -> Iterator[Mapping[str, str]]:
    """With a server that answers for what is played there."""
    port = free_ports(1, cluster.bridge_address)[0]
    command = [sys.executable, "-m", "tests.bench.stub_server", cluster.bridge_address, str(port), str(len(NAMES))]
    stub = subprocess.Popen(command)
    try:
        cluster.add_simulated_node(NODE, {RESOURCE["simulated"]: "1"}, tainted=False)
        yield {"HUB_SERVERS": f"{cluster.bridge_address}:{port}"}
    finally:
        stub.terminate()
        stub.wait(30)
        cluster.remove_node(NODE)


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.param
    return found


@pytest.fixture(scope="module")
def world(cluster: Cluster, place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    order = KillOrder(tmp_path_factory.mktemp("order"), STEPS)
    cards = {"real": card_on_the_real_node, "simulated": card_on_a_simulated_node}[place.kind]
    with contextlib.ExitStack() as stack:
        environ = {**stack.enter_context(cards(cluster)), **order.environ}
        namespace = stack.enter_context(cluster.namespace("steps"))
        folder = tmp_path_factory.mktemp("hub")
        hub = ServedHub(cluster, namespace, folder, catalogue(place.kind, cluster.image("base")), environ)
        stack.callback(hub.down)
        hub.up()
        made = Beside(hub, order)
        stack.callback(made.database.dispose)
        yield made


# Without its scope said, pytest takes the narrowest, and makes a site for each row.
@pytest.mark.parametrize(("place", "when", "who", "step"), ROWS, indirect=["place"], scope="module")
def test_whoever_is_killed_no_card_is_held_by_nobody_and_no_second_is_charged_twice(
    world: World, place: Place, when: str, who: str, step: str
) -> None:
    kill_at(world, place, when, who, step)
