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
from tests.hub.site import wait_for
from tests.lab import network, policies
from tests.lab.cluster import Cluster

METADATA, PUBLIC = "169.254.169.254", "203.0.113.7"


@dataclass
class Site:
    """Sessions and core parts, with what was reached from where before the policies came."""

    cluster: Cluster
    hub: KubeHub
    spaces: dict[str, str]
    targets: dict[str, Target]
    settle: Callable[[], None]
    before: dict[str, dict[str, str]] = field(default_factory=dict)

    def from_(self, pod: str) -> dict[str, str]:
        """What became of each target from inside a pod."""
        space = "users" if pod.startswith("jupyter-") else "core" if pod.startswith("a-") else "elsewhere"
        found = reached(self.cluster, self.spaces[space], pod, list(self.targets.values()))
        return {name: found[target] for name, target in self.targets.items()}

    def inside(self, user: str, code: str) -> str:
        """What Python prints in a session, with the variables that the session has."""
        command = ["exec", "-n", self.spaces["users"], f"jupyter-{user}", "--", "python3", "-c", code]
        return self.cluster.kubectl(*command).strip()

    def apply_policies(self, **egress: object) -> None:
        """Apply the chart's policies as rendered with these values of the sessions' egress; return when they hold."""
        for one in chart(self.spaces, self.hub.api_port, **egress):
            if one["kind"] == "NetworkPolicy":
                one["metadata"].setdefault("namespace", self.spaces["core"])
                self.cluster.apply(one)
        self.settle()

    def remove_policies(self) -> None:
        """Remove them all."""
        for space in self.spaces.values():
            self.cluster.kubectl("delete", "networkpolicies", "--all", "-n", space)
        self.settle()


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


def chart(spaces: dict[str, str], hub_port: int, **egress: object) -> list[dict[str, Any]]:
    """The chart for these namespaces; the operator lists the address of the lab's hub, which runs beside the cluster."""
    values = deepcopy(MINIMAL)
    listed = {"to": [{"ipBlock": {"cidr": f"{network.ADDRESS}/32"}}], "ports": [{"protocol": "TCP", "port": hub_port}]}
    values["users"] = {
        "namespace": {"name": spaces["users"]},
        "networkPolicy": {"egress": {"more": [listed], **egress}},
    }
    return render(values, namespace=spaces["core"])


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


def all_targets(cluster: Cluster, spaces: dict[str, str]) -> dict[str, Target]:
    """Everything that somebody could try to reach; Services by their addresses, as not everybody may ask for names."""
    here = cluster.bridge_address
    at = addresses(cluster, spaces["core"]) | addresses(cluster, spaces["users"])
    found = json.loads(cluster.kubectl("get", "services", "-n", spaces["core"], "-o", "json"))["items"]
    service = {one["metadata"]["name"]: one["spec"]["clusterIP"] for one in found}
    return {
        "hub": (service["a-hub"], 8081),
        "service": (service["a-service"], 8003),
        "proxy": (service["a-proxy"], 80),
        "proxy's API": (service["a-proxy-api"], 8001),
        "proxy's API, its pod": (at["a-proxy"], 8001),
        "controller": (at["a-controller"], 9000),
        "database": (service["a-postgres"], 5432),
        "database, its pod": (at["a-postgres"], 5432),
        "another session": (at["jupyter-bob"], 8888),
        "kubelet": (here, 10250),
        "API server": (here, 6443),
        "API server, its service": ("10.96.0.1", 443),
        "name server": (here, 53),
        "metadata": (METADATA, 80),
        "metadata's names": (METADATA, 53),
        "internet": (PUBLIC, 443),
    }


CORE = ("a-hub", "a-service", "a-proxy", "a-controller", "a-postgres")
POINTS = ("jupyter-ann", *CORE, "stranger")


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    image = cluster.image("base")
    with contextlib.ExitStack() as stack:
        spaces = {name: stack.enter_context(cluster.namespace(name)) for name in ("core", "users", "elsewhere")}
        stack.enter_context(also_here(METADATA, PUBLIC))
        stack.enter_context(listening(METADATA, 80, 53))
        stack.enter_context(listening(PUBLIC, 443))
        hub = stack.enter_context(running(cluster, spaces["users"], tmp_path_factory.mktemp("hub")))
        stranger = listener("stranger", spaces["elsewhere"], image, {"http": 8080}, {"app": "any"})
        cluster.apply(*stand_ins(chart(spaces, hub.api_port), spaces["core"], image), stranger)
        tokens = {user: hub.add(user) for user in ("ann", "bob")}
        for user in tokens:
            hub.start(user)
        for space in ("core", "elsewhere"):
            wait_ready(cluster, spaces[space])
        settle = stack.enter_context(policies.enforced(cluster))
        site = Site(cluster, hub, spaces, all_targets(cluster, spaces), settle)
        # kube-proxy leads to a pod a moment after that is ready.
        with contextlib.suppress(AssertionError):  # what stays away is said by the first test
            wait_for(lambda: set(site.from_(POINTS[0]).values()) == {OPEN}, "everything to be reached", 20, 0.5)
        site.before = {pod: site.from_(pod) for pod in POINTS}
        site.apply_policies()
        yield site


def test_without_the_policies_everything_is_reached_from_everywhere(site: Site) -> None:
    wrong = {pod: {name: what for name, what in found.items() if what != OPEN} for pod, found in site.before.items()}
    assert wrong == {pod: {} for pod in POINTS}


PROXY_API = {"proxy's API", "proxy's API, its pod"}
DATABASE = {"database", "database, its pod"}
BEYOND = {"kubelet", "API server", "API server, its service", "name server", "metadata", "metadata's names", "internet"}
ALLOWED = {
    "jupyter-ann": {"hub", "service", "proxy", "name server", "internet"},
    "a-hub": {"hub", "service", "proxy", *PROXY_API, *DATABASE, "another session", *BEYOND},
    "a-service": {"hub", "service", "proxy", *DATABASE, *BEYOND},
    "a-controller": {"hub", "controller", "proxy", *DATABASE, *BEYOND},
    "a-proxy": {"hub", "service", "proxy", *PROXY_API, "another session", "name server"},
    "a-postgres": DATABASE,
    "stranger": {"proxy", *BEYOND},
}
"""What is reached with the policies. Everybody reaches itself, and everybody the site's own address, the proxy."""


@pytest.mark.parametrize("pod", POINTS)
def test_with_the_policies_what_is_reached_is_what_is_needed(site: Site, pod: str) -> None:
    found = site.from_(pod)
    assert {name for name, what in found.items() if what == OPEN} == ALLOWED[pod]
    # The rest is not answered, which is what a policy does; nobody says that nothing listens there.
    assert {what for name, what in found.items() if name not in ALLOWED[pod]} == {SILENT}


def test_names_are_found_from_a_session(site: Site) -> None:
    names = [f"a-hub.{site.spaces['core']}.svc.cluster.local", "kubernetes.default.svc"]
    found = site.inside("ann", f"import socket; print(*map(socket.gethostbyname, {names}))").split()
    assert found == [site.targets["hub"][0], "10.96.0.1"]


def test_a_session_reaches_the_hub_and_nobody_elses_things_there(site: Site) -> None:
    code = """
import os, urllib.error, urllib.request
def status(method, path):
    url = os.environ["JUPYTERHUB_API_URL"] + path
    headers = {"Authorization": "token " + os.environ["JUPYTERHUB_API_TOKEN"]}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code
print(status("GET", "/user"), status("GET", "/users/bob"), status("DELETE", "/users/bob/server"),
      status("POST", "/users/bob/tokens"), status("GET", "/users"), status("GET", "/proxy"))
"""
    own, *others = map(int, site.inside("ann", code).split())
    assert own == 200
    assert set(others) <= {403, 404}
    assert site.hub.server("bob").get("ready")


def test_sessions_run_begin_and_end_under_the_policies(site: Site) -> None:
    token = site.hub.add("cem")
    site.hub.start("cem")
    assert site.hub.compute("cem", token, "print(6 * 7)") == "42\n"
    site.hub.stop("cem")
    assert site.hub.server("ann").get("ready")


def test_without_the_internet_no_port_leads_there(site: Site) -> None:
    site.apply_policies(internet=False)
    try:
        found = site.from_("jupyter-ann")
        assert {name for name, what in found.items() if what == OPEN} == ALLOWED["jupyter-ann"] - {"internet"}
        with listening(PUBLIC, 53):
            assert reached(site.cluster, site.spaces["users"], "jupyter-ann", [(PUBLIC, 53)]) == {(PUBLIC, 53): SILENT}
    finally:
        site.apply_policies()


def test_what_was_refused_is_there_once_the_policies_are_gone(site: Site) -> None:
    site.remove_policies()
    try:
        assert set(site.from_("jupyter-ann").values()) == {OPEN}
    finally:
        site.apply_policies()
