"""Pods and claims of a cluster, from what the controller's watch sees; few are asked for singly."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from kubespawner.clients import shared_client

from hub.reconcile.picture import Running
from spawner.capacity.cluster import ClusterState

__all__ = ["ClusterSeen", "KubernetesEngine", "look_at"]

_log = logging.getLogger(__name__)

_ASK_S = 10.0
_ANSWERS = (200, 202, 404, 409)  # 409: the uid is another object's by now
_USER, _SERVER = "hub.jupyter.org/username", "hub.jupyter.org/servername"


@dataclass(frozen=True)
class ClusterSeen:
    """Pods of sessions that have not finished, by spawn id, and claims whose pods are gone. Replaced as a whole."""

    pods: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, str] = field(default_factory=dict)


def look_at(state: ClusterState) -> ClusterSeen:
    """Return what a watch has seen; to be called in its event loop."""
    pods = {pod.spawn_id: pod.key for pod in state.pods.values() if pod.spawn_id and not pod.finished}
    alive = {pod.uid for pod in state.pods.values()}
    return ClusterSeen(pods, dict.fromkeys(state.dra.without_pods(alive), "its pods are gone"))


class KubernetesEngine:
    """The cluster.

    Parameters
    ----------
    seen
        Return what the watch saw last; None: it does not see the cluster now.
    namespace
        That of the sessions; pods elsewhere are never touched.
    """

    def __init__(self, seen: Callable[[], ClusterSeen | None], namespace: str) -> None:
        self._seen = seen
        self._namespace = namespace

    async def running(self) -> Mapping[str, Running] | None:
        """See `hub.reconcile.engines.Engine`."""
        seen = self._seen()
        if seen is None:
            return None
        ours = f"{self._namespace}/"
        return {key: Running(key, f"pod {name}") for key, name in seen.pods.items() if name.startswith(ours)}

    async def planned(self) -> frozenset[str] | None:
        """See `Engine`: the API server may still make a pod of which it has not answered."""
        return None

    async def owner(self, one: Running) -> Running | None:
        """See `Engine`: the annotations of the pod tell whose it is."""
        _, pod = await self._read(one)
        if pod is None:
            return None
        annotations = pod["metadata"].get("annotations") or {}
        user = annotations.get(_USER)
        return Running(one.spawn_id, one.where, user, annotations.get(_SERVER) or "") if user else None

    async def end(self, one: Running) -> bool:
        """See `Engine`: exactly this pod is deleted, not one that has its name by now."""
        status, pod = await self._read(one)
        if pod is None:
            return status in (200, 404)
        body = {"preconditions": {"uid": pod["metadata"]["uid"]}}
        return await self._gone("CoreV1Api", "delete_namespaced_pod", one.where.rpartition("/")[2], body)

    async def claims(self) -> Mapping[str, str]:
        """See `Engine`."""
        seen = self._seen()
        ours = f"{self._namespace}/"
        return {key: said for key, said in seen.claims.items() if key.startswith(ours)} if seen is not None else {}

    async def drop_claim(self, key: str) -> bool:
        """See `Engine`."""
        name = key.rpartition("/")[2]
        status, claim = await self._ask("ResourceV1Api", "read_namespaced_resource_claim", name)
        if status == 404:
            return True
        if status != 200 or (claim.get("status") or {}).get("reservedFor"):
            return False  # somebody uses it after all
        body = {"preconditions": {"uid": claim["metadata"]["uid"]}}
        return await self._gone("ResourceV1Api", "delete_namespaced_resource_claim", name, body)

    async def _read(self, one: Running) -> tuple[int, dict[str, Any] | None]:
        """Return the status of the answer, and the pod if it is still the one of this start."""
        status, pod = await self._ask("CoreV1Api", "read_namespaced_pod", one.where.rpartition("/")[2])
        found = ((pod.get("metadata") or {}).get("annotations") or {}).get("armillary/spawn-id")
        return status, pod if status == 200 and found == one.spawn_id else None

    async def _gone(self, group: str, method: str, name: str, body: Mapping[str, Any]) -> bool:
        status, _ = await self._ask(group, method, name, body=dict(body))
        return status in _ANSWERS

    async def _ask(self, group: str, method: str, name: str, **more: Any) -> tuple[int, dict[str, Any]]:
        """Return status (0: no answer) and object; what the cluster refuses is said in the log."""
        try:
            async with asyncio.timeout(_ASK_S):
                call = getattr(shared_client(group), method)
                answer = await call(name, self._namespace, _preload_content=False, **more)
                async with answer:
                    text = await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.warning("%s %s/%s: no answer: %s", method, self._namespace, name, type(error).__name__)
            return 0, {}
        try:
            found = json.loads(text)
        except ValueError:
            found = {}
        status, said = int(answer.status), found if isinstance(found, dict) else {}
        if status not in _ANSWERS:
            _log.warning("%s %s/%s: %d %s", method, self._namespace, name, status, said.get("message", ""))
        return status, said
