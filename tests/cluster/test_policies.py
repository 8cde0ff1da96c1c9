"""The lab's enforcer of NetworkPolicies, by itself: what the chart's policies do is shown with it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.reach import CLOSED, OPEN, SILENT, addresses, listener, listening, reached, wait_ready
from tests.hub.site import wait_for
from tests.lab import policies, processes
from tests.lab.cluster import Cluster

WEB, OTHER = 8080, 8081
API = 6443


@dataclass(frozen=True)
class Place:
    """Two namespaces with pods that listen at both ports, and a service in front of one."""

    cluster: Cluster
    near: str
    far: str
    at: dict[str, str]
    service: str
    settle: Callable[[], None]

    def say(self, direction: str, chosen: dict[str, str], rules: list[dict[str, Any]]) -> None:
        """Apply a policy, and wait until it is in force."""
        spec = {"podSelector": {"matchLabels": chosen}, "policyTypes": [direction.capitalize()], direction: rules}
        kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
        self.cluster.apply({**kind, "metadata": {"name": direction, "namespace": self.near}, "spec": spec})
        self.settle()

    def said(self, name: str, *targets: tuple[str, int]) -> list[str]:
        """What became of these from inside a pod."""
        namespace = self.far if name == "stranger" else self.near
        return list(reached(self.cluster, namespace, name, targets).values())


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[Place]:
    image = cluster.image("base")
    with (
        cluster.namespace("near") as near,
        cluster.namespace("far") as far,
        policies.enforced(cluster) as settle,
    ):
        ports = {"web": WEB, "other": OTHER}
        cluster.apply(
            listener("server", near, image, ports, {"app": "server"}),
            listener("client", near, image, ports, {"app": "client"}),
            listener("stranger", far, image, ports, {"app": "client"}),
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "server", "namespace": near},
                "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": "web"}]},
            },
        )
        for namespace in (near, far):
            wait_ready(cluster, namespace)
        service = cluster.kubectl("get", "service", "server", "-n", near, "-o", "jsonpath={.spec.clusterIP}")
        yield Place(cluster, near, far, addresses(cluster, near) | addresses(cluster, far), service, settle)


@pytest.fixture(autouse=True)
def _no_policy_at_first(place: Place) -> Iterator[None]:
    yield
    place.cluster.kubectl("delete", "networkpolicy", "--all", "-n", place.near)
    place.settle()


def everywhere(place: Place) -> list[str]:
    server = place.at["server"]
    return [
        *place.said("client", (server, WEB), (server, OTHER), (place.service, 80), (place.cluster.bridge_address, API)),
        *place.said("stranger", (server, WEB), (place.service, 80)),
    ]


def test_without_a_policy_all_reach_all(place: Place) -> None:
    # kube-proxy leads to a pod a moment after that is ready.
    wait_for(lambda: everywhere(place) == [OPEN] * 6, "all to reach all", 30, 0.5)


def test_a_policy_of_entry_lets_in_whom_it_names_at_the_port_it_names(place: Place) -> None:
    client = {"podSelector": {"matchLabels": {"app": "client"}}}
    place.say("ingress", {"app": "server"}, [{"from": [client], "ports": [{"port": "web"}]}])
    # Both by the pod's address, which is on the same bridge, and by the service's.
    assert everywhere(place) == [OPEN, SILENT, OPEN, OPEN, SILENT, SILENT]
    assert place.said("server", (place.at["client"], OTHER)) == [OPEN]
    with socket.create_connection((place.at["server"], OTHER), timeout=5):
        pass  # from the pod's own node, which Kubernetes always lets in: its probes go on


def test_a_policy_of_exit_holds_for_pods_services_this_machine_and_beyond(place: Place) -> None:
    bridge = place.cluster.bridge_address
    with listening(bridge, 0, 0) as (allowed, forbidden):
        targets = ((bridge, allowed), (bridge, forbidden), (place.at["stranger"], WEB), (place.at["server"], WEB))
        assert place.said("client", *targets) == [OPEN] * 4
        block = {"ipBlock": {"cidr": "10.88.0.0/16", "except": [f"{place.at['server']}/32"]}}
        rules = [
            {"to": [block], "ports": [{"port": allowed}]},
            {"to": [block], "ports": [{"port": WEB - 1, "endPort": WEB}]},
        ]
        place.say("egress", {"app": "client"}, rules)
        assert place.said("client", *targets) == [OPEN, SILENT, OPEN, SILENT]
        assert everywhere(place) == [SILENT, SILENT, SILENT, SILENT, OPEN, OPEN]
        assert place.said("client", (place.at["client"], OTHER)) == [OPEN]  # itself
        assert place.said("client", (place.at["stranger"], OTHER)) == [SILENT]


def test_a_policy_that_goes_and_a_pod_that_comes_are_noticed(place: Place) -> None:
    place.say("ingress", {"app": "server"}, [])
    assert place.said("client", (place.at["server"], WEB)) == [SILENT]
    place.cluster.apply(
        listener("late", place.near, place.cluster.image("base"), {"web": WEB}, {"app": "server", "late": "yes"})
    )
    wait_ready(place.cluster, place.near)
    place.settle()
    late = addresses(place.cluster, place.near)["late"]
    assert place.said("client", (late, WEB)) == [SILENT]
    place.cluster.kubectl("label", "pod", "late", "app-", "-n", place.near)
    place.settle()
    assert place.said("client", (late, WEB), (late, WEB + 9)) == [OPEN, CLOSED]
    place.cluster.kubectl("delete", "networkpolicy", "ingress", "-n", place.near)
    place.settle()
    assert place.said("client", (place.at["server"], WEB)) == [OPEN]
    place.cluster.kubectl("delete", "pod", "late", "-n", place.near)


def test_link_local_addresses_are_no_way_around(place: Place) -> None:
    read = ["exec", "-n", place.near, "server", "--", "cat", "/proc/net/if_inet6"]
    lines = [line.split() for line in place.cluster.kubectl(*read).splitlines()]
    [digits] = [words[0] for words in lines if words[5] == "eth0"]
    address = ":".join(digits[start : start + 4] for start in range(0, 32, 4)) + "%eth0"
    assert place.said("server", (address, WEB)) == [OPEN]  # it listens there
    assert place.said("client", (address, WEB)) != [OPEN]


def test_an_enforcer_that_was_killed_begins_again_where_it_was(place: Place) -> None:
    place.say("ingress", {"app": "server"}, [])
    processes.stop(policies.NAME, grace=0)
    assert place.said("client", (place.at["server"], WEB)) == [SILENT]
    place.cluster.kubectl("delete", "networkpolicy", "ingress", "-n", place.near)
    assert policies.start(place.cluster)
    assert place.said("client", (place.at["server"], WEB)) == [OPEN]


def test_nothing_of_it_stays(cluster: Cluster, place: Place) -> None:
    place.say("ingress", {"app": "server"}, [])
    policies.stop()
    try:
        for program in ("iptables-save", "ip6tables-save"):
            saved = subprocess.run([program], capture_output=True, text=True, check=True).stdout
            assert "ARMILLARY-LAB-" not in saved
        assert (
            "-A POSTROUTING -j ARMILLARY-LAB\n"
            in subprocess.run(["iptables-save", "-t", "nat"], capture_output=True, text=True, check=True).stdout
        )  # what is not the enforcer's
        assert processes.running(policies.NAME) is None
        assert place.said("client", (place.at["server"], WEB)) == [OPEN]
    finally:
        policies.start(cluster)
