"""Session pods without a hub: what the spawner would make of a request, placed onto simulated nodes of one's own.

Everything is kept apart from other users of the lab by one label, the "world": nodes carry it, pods select it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kubernetes_asyncio.client import ApiClient
from kubespawner.objects import make_pod

from profiles.model import Catalogue
from spawner.placement import Placement, place, placed
from spawner.pod import annotated, restricted
from spawner.request import Request
from tests.lab import kwok
from tests.lab.cluster import Cluster

__all__ = ["WORLD", "Object", "World", "node", "refusal", "running"]

WORLD = "lab.test/world"
_PATIENCE_S = 60.0

Object = dict[str, Any]


class World:
    """Simulated nodes, and a namespace for sessions that run on no others."""

    def __init__(self, cluster: Cluster, namespace: str, contents: Catalogue) -> None:
        self.cluster, self.namespace, self.catalogue = cluster, namespace, contents
        self._others: list[tuple[str, str]] = []

    # --- what there is ---------------------------------------------------------------------------------------

    def node(
        self,
        name: str,
        capacity: Mapping[str, str],
        labels: Mapping[str, str] | None = None,
        *,
        taints: tuple[Object, ...] = (),
        cordoned: bool = False,
    ) -> Object:
        """Return a simulated node of this world."""
        item: Any = kwok.node(f"{self.namespace}-{name}", capacity, {WORLD: self.namespace, **(labels or {})}, True)
        item["spec"]["taints"] += taints
        item["spec"]["unschedulable"] = cordoned
        return dict(item)

    def add(self, *objects: Object) -> None:
        """Make objects; those outside of the namespace are removed in the end."""
        self._others += [
            (item["kind"], item["metadata"]["name"]) for item in objects if "namespace" not in item["metadata"]
        ]
        self.cluster.apply(*objects)
        nodes = [f"node/{item['metadata']['name']}" for item in objects if item["kind"] == "Node"]
        if nodes:
            self.cluster.kubectl("wait", "--for=condition=Ready", *nodes, "--timeout=60s")

    def remove_others(self) -> None:
        """Remove what was made outside of the namespace."""
        for kind, name in self._others:
            self.cluster.kubectl("delete", kind, name, "--ignore-not-found", "--wait=false")

    # --- sessions --------------------------------------------------------------------------------------------

    def placement(self, request: Request, memory: int) -> Placement:
        """Return what the spawner would place."""
        return place(request, self.catalogue, memory=memory, shm_share=0.5)

    def session(
        self, name: str, request: Request, *, user: str = "ann", cpu: float = 1, memory: int = 1024**3, **settings: Any
    ) -> list[Object]:
        """Return the pod of a session, after the claim templates that it needs."""
        placement = self.placement(request, memory)
        tolerations = [{"key": kwok.TAINT["key"], "operator": "Exists"}, *settings.pop("tolerations", ())]
        selector = {WORLD: self.namespace, **settings.pop("node_selector", {})}
        usual: dict[str, Any] = {"cmd": ["true"], "image": "localhost/none:1", "uid": 1000, "gid": 1000}
        amounts = {"cpu_limit": cpu, "cpu_guarantee": cpu, "mem_limit": memory, "mem_guarantee": memory}
        given = make_pod(
            **{**usual, **amounts, **settings},
            name=name,
            port=8888,
            env={},
            tolerations=tolerations,
            node_selector=selector,
        )
        marks = {"hub.jupyter.org/username": user, "armillary/spawn-id": name, "armillary/profile": request.profile}
        if request.accelerator:
            marks["armillary/accelerator"] = request.accelerator
        item = asyncio.run(_plain(annotated(restricted(placed(given, placement)), marks)))
        item["metadata"]["namespace"] = self.namespace
        templates = [template.manifest() for template in placement.claims]
        for template in templates:
            template["metadata"]["namespace"] = self.namespace
        return [*templates, item]

    def start(self, name: str, request: Request, **settings: Any) -> None:
        """Make a session's pod."""
        self.cluster.apply(*self.session(name, request, **settings))

    def clear(self) -> None:
        """End all sessions, at once."""
        arguments = ("pods", "--all", "-n", self.namespace, "--grace-period=0", "--force")
        self.cluster.kubectl("delete", *arguments)

    def pods(self) -> dict[str, Object]:
        """Return all pods by name."""
        found = json.loads(self.cluster.kubectl("get", "pods", "-n", self.namespace, "-o", "json"))["items"]
        return {item["metadata"]["name"]: item for item in found}

    def until(self, true: Callable[[dict[str, Object]], Any], what: str) -> Any:
        """Wait until something is true of the pods, and return it."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            pods = self.pods()
            if found := true(pods):
                return found
            if time.monotonic() > deadline:
                said = {name: refusal(pod) or node(pod) for name, pod in pods.items()}
                raise AssertionError(f"not within {_PATIENCE_S:g} s: {what}; {said}")
            time.sleep(0.1)


def node(pod: Object) -> str:
    """Return the node that a pod is on; empty before."""
    return str(pod["spec"].get("nodeName") or "")


def refusal(pod: Object) -> str:
    """Return what the scheduler says about a pod that it cannot place; empty if it says nothing."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message") or "")
    return ""


async def _plain(pod: Any) -> Object:
    async with ApiClient() as client:
        return dict(client.sanitize_for_serialization(pod))


_RUNTIME_CLASS = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "nvidia"},
    "handler": "runc",
}
# Pods that name a class that is not there are refused. It stays for whoever uses the lab beside us.


@contextlib.contextmanager
def running(cluster: Cluster, prefix: str, contents: Catalogue) -> Iterator[World]:
    """A world while the block runs."""
    with cluster.namespace(prefix) as namespace:
        world = World(cluster, namespace, contents)
        cluster.apply(_RUNTIME_CLASS)
        try:
            yield world
        finally:
            world.remove_others()
