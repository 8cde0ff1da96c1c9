"""What the chart's NetworkPolicies let through and what not, tried from inside sessions of a real hub.

Where hub, proxy, service, controller and database would run there are pods with the chart's labels, which listen at the
chart's ports; the sessions are those that our spawner makes. Every target is tried without the policies, with them, and
without them again: it is there, and it is the policies that keep it away.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.cluster.hub import KubeHub, running
from tests.cluster.reach import OPEN, SILENT, Target, addresses, listener, listening, reached, wait_ready
from tests.helm.chart import MINIMAL, containers, pods, render
from tests.lab import network, policies
from tests.lab.cluster import Cluster
from tests.lab.errors import LabError

METADATA, PUBLIC = "169.254.169.254", "203.0.113.7"
SESSIONS = ("ann", "bob")


@dataclass
class Site:
    """Sessions and core parts, with what was reached from where before the policies came."""

    cluster: Cluster
    hub: KubeHub
    core: str
    users: str
    targets: dict[str, Target]
    settle: Callable[[], None]
    objects: list[dict[str, Any]] = field(default_factory=list)
    before: dict[str, dict[str, str]] = field(default_factory=dict)

    def from_(self, pod: str) -> dict[str, str]:
        """What became of each target from inside a pod."""
        namespace = self.users if pod.startswith("jupyter-") else "default" if pod == "stranger" else self.core
        found = reached(self.cluster, namespace, pod, list(self.targets.values()))
        return {name: found[target] for name, target in self.targets.items()}

    def inside(self, user: str, code: str) -> str:
        """What Python prints in a session, whose own variables it has."""
        command = ["exec", "-n", self.users, f"jupyter-{user}", "--", "python3", "-c", code]
        return self.cluster.kubectl(*command).strip()

    def policies(self) -> list[dict[str, Any]]:
        return [one for one in self.objects if one["kind"] == "NetworkPolicy"]


@contextlib.contextmanager
def also_here(*addresses: str) -> Iterator[None]:
    """Give this machine further addresses, on the pods' bridge, while the block runs."""
    for address in addresses:
        subprocess.run(["ip", "address", "replace", f"{address}/32", "dev", network.BRIDGE], check=True)
    try:
        yield
    finally:
        for address in addresses:
            subprocess.run(["ip", "address", "del", f"{address}/32", "dev", network.BRIDGE], check=True)


def chart(core: str, users: str, hub_port: int) -> list[dict[str, Any]]:
    """The chart for these namespaces; the operator lists the address of the lab's hub, which runs beside the cluster."""
    values = deepcopy(MINIMAL)
    listed = {"to": [{"ipBlock": {"cidr": f"{network.ADDRESS}/32"}}], "ports": [{"protocol": "TCP", "port": hub_port}]}
    values["users"] = {"namespace": {"name": users}, "networkPolicy": {"egress": {"more": [listed]}}}
    return render(values, namespace=core)


def stand_ins(objects: list[dict[str, Any]], core: str, image: str) -> list[dict[str, Any]]:
    """A pod for every Deployment and StatefulSet of the core parts, and the chart's Services in front of them."""
    made = []
    for name, pod in pods(objects):
        kind, _, own = name.partition("/")
        if kind in ("Deployment", "StatefulSet"):
            ports = {port["name"]: port["containerPort"] for part in containers(pod) for port in part["ports"]}
            made.append(listener(own, core, image, ports, pod["metadata"]["labels"]))
    services = [one for one in objects if one["kind"] == "Service"]
    return [*made, *({**one, "metadata": {**one["metadata"], "namespace": core}} for one in services)]


def _targets(site_pods: dict[str, str], core: str) -> dict[str, Target]:
    here = network.ADDRESS
    return {
        "hub": (f"a-hub.{core}.svc.cluster.local", 8081),
        "service": (f"a-service.{core}.svc.cluster.local", 8003),
        "proxy": (f"a-proxy.{core}.svc.cluster.local", 80),
        "proxy's API": (site_pods["a-proxy"], 8001),
        "proxy's API by name": (f"a-proxy-api.{core}.svc.cluster.local", 8001),
        "controller": (site_pods["a-controller"], 9000),
        "database": (site_pods["a-postgres"], 5432),
        "database by name": (f"a-postgres.{core}.svc.cluster.local", 5432),
        "another session": (site_pods["jupyter-bob"], 8888),
        "kubelet": (here, 10250),
        "API server": (here, 6443),
        "API server by name": ("kubernetes.default.svc.cluster.local", 443),
        "name server": (here, 53),
        "metadata": (METADATA, 80),
        "metadata's names": (METADATA, 53),
        "internet": (PUBLIC, 443),
    }


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    image = cluster.image("base")
    with contextlib.ExitStack() as stack:
        core = stack.enter_context(cluster.namespace("core"))
        users = stack.enter_context(cluster.namespace("users"))
        stack.enter_context(also_here(METADATA, PUBLIC))
        stack.enter_context(listening(METADATA, 80, 53))
        stack.enter_context(listening(PUBLIC, 443))
        hub = stack.enter_context(running(cluster, users, tmp_path_factory.mktemp("hub")))
        objects = chart(core, users, hub.api_port)
        stranger = listener("stranger", "default", image, {}, {})
        stack.callback(cluster.kubectl, "delete", "pod", "stranger", "-n", "default", "--wait=false")
        cluster.apply(*stand_ins(objects, core, image), stranger)
        for user in SESSIONS:
            hub.add(user)
            hub.request_start(user)
        for user in SESSIONS:
            hub.until(lambda user=user: hub.server(user).get("ready"), f"{user}'s server is ready")
        for namespace in (core, "default"):
            wait_ready(cluster, namespace)
        everybody = addresses(cluster, core) | addresses(cluster, users)
        settle = stack.enter_context(policies.enforced(cluster))
        site = Site(cluster, hub, core, users, _targets(everybody, core), settle, objects)
        site.before = {pod: site.from_(pod) for pod in ("jupyter-ann", *addresses(cluster, core), "stranger")}
        cluster.kubectl("apply", "-f", "-", "-n", core, input=json.dumps(_list(site.policies())), )  # fmt: skip
        settle()
        yield site


def _list(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": objects}


def test_without_the_policies_everything_is_reached_from_everywhere(site: Site) -> None:
    assert len(site.before) == 7
    for pod, found in site.before.items():
        assert {name for name, what in found.items() if what != OPEN} == set(), pod


ALLOWED = {
    "jupyter-ann": {"hub", "service", "proxy", "name server", "internet"},
    "a-hub": None,
    "a-service": {"hub", "service", "proxy", "database", "database by name"},
    "a-controller": {"hub", "controller", "proxy", "database", "database by name"},
    "a-proxy": {"hub", "service", "proxy", "proxy's API", "proxy's API by name", "another session", "name server"},
    "a-postgres": {"database", "database by name"},
    "stranger": {"proxy"},
}
"""What is reached with the policies, of what is a pod for those whose own way out is not limited. All reach themselves."""

PODS = {"hub", "service", "proxy", "proxy's API", "proxy's API by name", "controller", "database", "database by name"}
PODS.add("another session")
BEYOND = {"kubelet", "API server", "API server by name", "name server", "metadata", "metadata's names", "internet"}
UNLIMITED = ("a-hub", "a-service", "a-controller", "stranger")


@pytest.mark.parametrize("pod", ALLOWED)
def test_what_is_reached_is_what_is_needed(site: Site, pod: str) -> None:
    allowed = ALLOWED[pod]
    expected = PODS - {"controller"} if allowed is None else allowed
    if pod in UNLIMITED:
        expected = expected | BEYOND
    if pod == "a-postgres":  # it cannot even ask for names
        site.targets = {name: target for name, target in site.targets.items() if target[0][0].isdigit()}
    found = site.from_(pod)
    assert {name for name, what in found.items() if what == OPEN} == expected
    assert {name for name, what in found.items() if what == SILENT} == set(site.targets) - expected
