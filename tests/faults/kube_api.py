"""A Kubernetes API server for tests, on kmock: keeps objects, streams changes, and misbehaves on demand.

It knows what the spawner uses: create, read, list (paged), watch (by resource version, with bookmarks and 410),
delete (with preconditions and grace) and merge patch, of namespaced core/v1 objects. Faults are kmock reactions laid
over it by each test, or the switches below.
"""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import kmock as km
from kmock import KubernetesError

Object = dict[str, Any]

_KINDS = {"pods": "Pod", "secrets": "Secret", "events": "Event", "persistentvolumeclaims": "PersistentVolumeClaim"}


def problem(status: int, reason: str, message: str) -> KubernetesError:
    """Return what, raised or fed into kmock, answers as Kubernetes does."""
    return KubernetesError(status=status, reason=reason, message=message, details={})


class ScriptedCluster:
    """Objects by (plural, namespace, name), their history, and who watches."""

    def __init__(self, server: km.RawHandler) -> None:
        self.server = server
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.version = 100
        self.oldest = 0
        """Watches from an older version than this are answered with 410."""
        self.deaf = False
        """Changes are not told to watches: a connection that a firewall has forgotten."""
        self._history: list[tuple[int, str, Object]] = []
        self._moved = asyncio.Event()
        self._generation = 0
        action = server.action
        for verb, answer in (
            (action.LIST, self._list),
            (action.FETCH, self._read),
            (action.CREATE, self._create),
            (action.UPDATE, self._patch),
            (action.DELETE, self._delete),
        ):
            server.fallback[verb] << answer
        server.fallback[action.WATCH] << self._watch

    # --- what a test does to the cluster ---------------------------------------------------------------------

    def pod(self, name: str = "jupyter-ann") -> Object | None:
        """Return a pod as it is stored."""
        return self.objects.get(("pods", "default", name))

    def names(self, plural: str) -> list[str]:
        """Return the names of all objects of a kind."""
        return sorted(name for kind, _, name in self.objects if kind == plural)

    def put(self, plural: str, item: Object) -> Object:
        """Store an object as if somebody had made or changed it."""
        item = copy.deepcopy(item)
        metadata = item.setdefault("metadata", {})
        metadata.setdefault("namespace", "default")
        metadata.setdefault("uid", str(uuid.uuid4()))
        key = (plural, metadata["namespace"], metadata["name"])
        kind = "MODIFIED" if key in self.objects else "ADDED"
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        self.objects[key] = item
        self._tell(kind, plural, item)
        return item

    def remove(self, plural: str, name: str) -> None:
        """Remove an object for good, with the objects that it owns."""
        item = self.objects.pop((plural, "default", name), None)
        if item is None:
            return
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        self._tell("DELETED", plural, item)
        for (kind, _, owned), other in list(self.objects.items()):
            owners = [owner["uid"] for owner in other["metadata"].get("ownerReferences") or ()]
            if item["metadata"]["uid"] in owners:
                self.remove(kind, owned)

    def set_status(self, name: str = "jupyter-ann", **status: Any) -> None:
        """Change the status of a pod as the scheduler and the kubelet do."""
        pod = copy.deepcopy(self.objects["pods", "default", name])
        pod["status"] = {**pod.get("status", {}), **status}
        self.put("pods", pod)

    def bind(self, name: str = "jupyter-ann", node: str = "node-1") -> None:
        """Schedule a pod."""
        pod = copy.deepcopy(self.objects["pods", "default", name])
        pod["spec"]["nodeName"] = node
        pod["status"] = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}
        self.put("pods", pod)

    def container(
        self, state: Object, *, phase: str = "Running", name: str = "jupyter-ann", ip: str = "127.0.0.1"
    ) -> None:
        """Give the session's container a state."""
        self.set_status(name, phase=phase, podIP=ip, containerStatuses=[
            {"name": "notebook", "image": "example.org/base:1", "ready": "running" in state, "state": state}])  # fmt: skip

    def event(self, reason: str, message: str, *, name: str = "jupyter-ann", count: int = 1) -> None:
        """Record an event about a pod."""
        pod = self.objects["pods", "default", name]
        self.put("events", {
            "metadata": {"name": f"{name}.{uuid.uuid4().hex[:8]}"},
            "involvedObject": {"kind": "Pod", "name": name, "namespace": "default", "uid": pod["metadata"]["uid"]},
            "reason": reason, "message": message, "type": "Normal", "count": count,
        })  # fmt: skip

    def drop_watches(self) -> None:
        """End every watch that is open."""
        self._generation += 1
        self._moved.set()

    def forget_versions(self) -> None:
        """Answer 410 to watches from any version before now."""
        self.version += 1
        self.oldest = self.version

    def count(self, method: str, plural: str, *, watch: bool = False) -> int:
        """Return how many requests of this kind were made."""
        return sum(
            request.method.value.lower() == method
            and request.resource is not None
            and request.resource.plural == plural
            and (request.params.get("watch", "").lower() == "true") is watch
            for request in self.server
        )

    # --- the protocol ----------------------------------------------------------------------------------------

    def _tell(self, kind: str, plural: str, item: Object) -> None:
        self._history.append((self.version, plural, {"type": kind, "object": copy.deepcopy(item)}))
        self._moved.set()

    def _key(self, request: km.Request) -> tuple[str, str, str]:
        assert request.resource is not None
        return str(request.resource.plural), request.namespace or "", request.name or ""

    def _stored(self, request: km.Request) -> Object:
        key = self._key(request)
        if key not in self.objects:
            raise problem(404, "NotFound", f'{key[0]} "{key[2]}" not found')
        return self.objects[key]

    def _list(self, request: km.Request) -> Object:
        plural, namespace, _ = self._key(request)
        items = [
            item for (kind, ns, _), item in sorted(self.objects.items()) if kind == plural and namespace in ("", ns)
        ]
        limit, begin = int(request.params.get("limit", 500)), int(request.params.get("continue", 0))
        metadata = {"resourceVersion": str(self.version)}
        if begin + limit < len(items):
            metadata["continue"] = str(begin + limit)
        return {"kind": "List", "metadata": metadata, "items": items[begin : begin + limit]}

    async def _watch(self, request: km.Request) -> AsyncIterator[Any]:
        plural = self._key(request)[0]
        seen, generation = int(request.params["resourceVersion"]), self._generation
        yield b""
        if seen < self.oldest:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            yield {"type": "ERROR", "object": gone}
            return
        while generation == self._generation:
            self._moved = self._moved if not self._moved.is_set() else asyncio.Event()
            moved = self._moved
            if not self.deaf:
                for version, kind, change in self._history:
                    if version > seen and kind == plural:
                        seen = version
                        yield change
            await moved.wait()

    def _read(self, request: km.Request) -> Object:
        return self._stored(request)

    def _create(self, request: km.Request) -> Any:
        item = copy.deepcopy(request.data)
        plural, namespace, _ = self._key(request)
        name = item["metadata"]["name"]
        if (plural, namespace, name) in self.objects:
            raise problem(409, "AlreadyExists", f'{plural} "{name}" already exists')
        item["metadata"]["namespace"] = namespace
        if plural == "pods":
            item["status"] = {"phase": "Pending"}
        return self.put(plural, item)

    def _patch(self, request: km.Request) -> Object:
        item = copy.deepcopy(self._stored(request))
        item["metadata"].update(request.data.get("metadata") or {})
        return self.put(self._key(request)[0], item)

    def _delete(self, request: km.Request) -> Object:
        item = self._stored(request)
        plural, _, name = self._key(request)
        wanted = ((request.data or {}).get("preconditions") or {}).get("uid")
        if wanted not in (None, item["metadata"]["uid"]):
            raise problem(409, "Conflict", f"the UID in the precondition ({wanted}) does not match")
        if item["metadata"].get("finalizers"):
            return self.put(
                plural, {**item, "metadata": {**item["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
            )
        self.remove(plural, name)
        return item


def dump(item: Any) -> str:
    """Return an object as one string, to look for what must not be in it."""
    return json.dumps(item)
