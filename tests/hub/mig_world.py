"""A node, its pods and its MIG manager, as objects; and an API server that keeps them, for tests of `armillary mig`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from hub.cluster_api import Away, ClusterApi, Conflict, NotFound

__all__ = ["CONFIG", "FakeApi", "manager_pod", "mig_node", "pod", "session"]

# Names and shape as in mig-parted's README; `all-balanced` with device filters as the operator's default has it.
CONFIG = """
version: v1
mig-configs:
  all-disabled:
    - devices: all
      mig-enabled: false
  all-enabled:
    - devices: all
      mig-enabled: true
      mig-devices: {}
  all-1g.5gb:
    - devices: all
      mig-enabled: true
      mig-devices: {"1g.5gb": 7}
  all-3g.20gb:
    - devices: all
      mig-enabled: true
      mig-devices: {"3g.20gb": 2}
  all-1g.10gb.me:
    - devices: all
      mig-enabled: true
      mig-devices: {"1g.10gb+me": 1}
  half:
    - devices: [0]
      mig-enabled: false
    - devices: [1]
      mig-enabled: true
      mig-devices: {"1g.5gb": 7}
  all-balanced:
    - device-filter: ["0x20B010DE"]
      devices: all
      mig-enabled: true
      mig-devices: {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}
    - device-filter: "0x20B210DE"
      devices: all
      mig-enabled: true
      mig-devices: {"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1}
"""
NODE, OPERATOR, SESSIONS = "gpu-1", "gpu-operator", "sessions"


def mig_node(
    offered: Mapping[str, str] | None = None, annotations: Mapping[str, str] | None = None, **labels: str
) -> dict[str, Any]:
    """Return a node; labels as `mig_config="all-disabled"`, an empty one is left out."""
    defaults = {"mig_capable": "true", "mig_strategy": "mixed", "mig_config": "all-disabled", "mig_config_state": "success",
                "gpu_product": "NVIDIA-A100-SXM4-40GB"}  # fmt: skip
    found = {f"nvidia.com/{key.replace('_', '.')}": value for key, value in {**defaults, **labels}.items() if value}
    return {
        "metadata": {"name": NODE, "resourceVersion": "1", "labels": found, "annotations": dict(annotations or {})},
        "spec": {},
        "status": {"allocatable": {"cpu": "4", **({"nvidia.com/gpu": "1"} if offered is None else offered)}},
    }


def pod(
    name: str, devices: Mapping[str, str] | None = None, *, namespace: str = "jobs", **metadata: Any
) -> dict[str, Any]:
    """Return a pod that runs on the node."""
    resources = {"limits": dict(devices), "requests": dict(devices)} if devices else {}
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", **metadata},
        "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "x", "resources": resources}]},
        "status": {"phase": "Running", "startTime": "2026-11-21T09:00:00Z"},
    }


def session(name: str, user: str, accelerator: str = "", server: str = "") -> dict[str, Any]:
    """Return the pod of a session."""
    notes = {"armillary/spawn-id": f"id-{name}", "hub.jupyter.org/username": user}
    notes |= {"armillary/accelerator": accelerator} if accelerator else {}
    notes |= {"hub.jupyter.org/servername": server} if server else {}
    return pod(name, {"nvidia.com/gpu": "1"} if accelerator else None, namespace=SESSIONS, annotations=notes)


def manager_pod(config: str = "default-mig-parted-config", *, reboots: bool = False) -> dict[str, Any]:
    """Return the pod of the MIG manager."""
    made = pod("nvidia-mig-manager-x7k2p", namespace=OPERATOR, labels={"app": "nvidia-mig-manager"})
    made["spec"]["volumes"] = [{"name": "config", "configMap": {"name": config}}]
    made["spec"]["containers"][0]["env"] = [{"name": "WITH_REBOOT", "value": "true" if reboots else "false"}]
    return made


class FakeApi(ClusterApi):
    """An API server in memory: one node, pods, ConfigMaps; merge patches, and conflicts as a real one has them.

    `before` is called with method and path ahead of every request, to change something or to raise.
    """

    def __init__(self, node: dict[str, Any], *pods: dict[str, Any], configs: Mapping[str, str] | None = None) -> None:
        super().__init__(None, "the test's cluster")
        self.node = node
        self.pods = list(pods)
        self.configs = {"default-mig-parted-config": CONFIG} if configs is None else dict(configs)
        self.before: Callable[[str, str], None] = lambda method, path: None
        self.events: list[dict[str, Any]] = []
        self.schedulable_with: list[str] = []

    def write(self, patch: Mapping[str, Any]) -> None:
        """Change the node as somebody else would."""
        self.node = _merged(self.node, patch)
        self.node["metadata"]["resourceVersion"] = str(int(self.node["metadata"]["resourceVersion"]) + 1)
        labels = self.node["metadata"]["labels"]
        if not self.node["spec"].get("unschedulable"):
            self.schedulable_with.append(
                f"{labels.get('nvidia.com/mig.config')} {labels.get('nvidia.com/mig.config.state')}"
            )

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int],
        body: dict[str, Any] | None = None,
        kind: str = "application/json",
    ) -> dict[str, Any]:
        self.before(method, path)
        parts = path.strip("/").split("/")
        if path == f"/api/v1/nodes/{NODE}":
            if method == "PATCH":
                assert body is not None
                if body["metadata"]["resourceVersion"] != self.node["metadata"]["resourceVersion"]:
                    raise Conflict("the node has changed")
                self.write(body)
            return copy.deepcopy(self.node)
        if path == "/api/v1/pods":
            return {"items": copy.deepcopy(self.pods)}
        if "configmaps" in parts:
            if parts[-1] not in self.configs:
                raise NotFound("no such ConfigMap")
            return {"data": {"config.yaml": self.configs[parts[-1]]}}
        if parts[-1] == "events":
            assert body is not None
            if body["metadata"]["name"] in {event["metadata"]["name"] for event in self.events}:
                raise Conflict("exists")
            self.events.append(body)
            return body
        if parts[-1] == "eviction" or method == "DELETE":
            name = parts[-2] if parts[-1] == "eviction" else parts[-1]
            options = (body or {}).get("deleteOptions", body)
            self.pods = [one for one in self.pods if one["metadata"]["name"] != name or not _same(one, options)]
            return {}
        raise NotFound(path)

    def away(self, times: int) -> None:
        """Do not answer the next requests."""
        left = [times]

        def gone(method: str, path: str) -> None:
            if left[0]:
                left[0] -= 1
                raise Away("The API server does not answer.")

        self.before = gone


def _same(one: Mapping[str, Any], options: Mapping[str, Any] | None) -> bool:
    wanted = ((options or {}).get("preconditions") or {}).get("uid")
    if wanted not in (None, one["metadata"]["uid"]):
        raise Conflict("another pod of that name")
    return True


def _merged(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """JSON merge patch, RFC 7396."""
    merged = dict(old)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = _merged(merged.get(key) or {}, value)
        else:
            merged[key] = value
    return merged
