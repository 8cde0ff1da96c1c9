"""Nodes, pods, slices and claims as the Kubernetes API writes them, and a catalogue that asks for all sorts."""

from __future__ import annotations

from typing import Any

from profiles.loader import loads
from profiles.model import Catalogue

Json = dict[str, Any]

NAMESPACE = "armillary"
MIG = "nvidia.com/mig-1g.5gb"
GPU = "nvidia.com/gpu"

DEVICES: dict[str, Json] = {
    "slice": {"resource": MIG, "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]},
    "t4": {"resource": GPU, "node_labels": {"nvidia.com/gpu.product": ["Tesla-T4", "Tesla-T4-SHARED"]}},
    "a100": {
        "resource": GPU,
        "node_labels": {"nvidia.com/gpu.product": ["NVIDIA-A100-SXM4-40GB"]},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "ai", "effect": "NoSchedule"}],
    },
}

_PROFILES = """
profiles:
  lab:
    title: Lab
    options: {image: lab, cpu: [1, 2], memory: [1Gi]}
images:
  lab: {title: Lab, reference: "example.org/lab:1", local: {}}
"""


def catalogue(devices: dict[str, Json] | None = None) -> Catalogue:
    """Return a catalogue with these accelerators for Kubernetes, and one that only the local engine has."""
    import yaml

    accelerators: Json = {
        key: {"title": key.upper(), "kubernetes": device}
        for key, device in (DEVICES if devices is None else devices).items()
    }
    accelerators["here-only"] = {"title": "Here only", "simulated": {"count": 2}}
    text = yaml.safe_dump({"accelerators": accelerators})
    options = "{accelerator: [" + ", ".join(["none", *accelerators]) + "], image: lab, count: [1, 2, 3, 4]}"
    return loads(text + _PROFILES.replace("profiles:\n", f"profiles:\n  gpu: {{title: GPU, options: {options}}}\n"))


def node(
    name: str = "n1",
    capacity: Json | None = None,
    *,
    allocatable: Json | None = None,
    labels: Json | None = None,
    taints: list[Json] | None = None,
    cordoned: bool = False,
    ready: str | None = "True",
    pods: str = "110",
) -> Json:
    """Return a node; `allocatable` differs from `capacity` in what it names."""
    offered = {"cpu": "32", "memory": "256Gi", "pods": pods, **(capacity or {})}
    conditions = [{"type": "MemoryPressure", "status": "False"}]
    conditions += [{"type": "Ready", "status": ready}] if ready else []
    return {
        "metadata": {"name": name, "labels": dict(labels or {}), "resourceVersion": "1"},
        "spec": {"taints": list(taints or []), **({"unschedulable": True} if cordoned else {})},
        "status": {
            "capacity": offered,
            "allocatable": {**offered, **(allocatable or {})},
            "conditions": conditions,
        },
    }


def pod(
    name: str = "p1",
    on: str | None = "n1",
    requests: Json | None = None,
    *,
    namespace: str = "other",
    spawn_id: str | None = None,
    phase: str = "Running",
    deleted: bool = False,
    uid: str | None = None,
    **spec: Any,
) -> Json:
    """Return a pod of one container."""
    metadata: Json = {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}", "resourceVersion": "1"}
    if spawn_id:
        metadata["annotations"] = {"armillary/spawn-id": spawn_id}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {
        "metadata": metadata,
        "spec": {
            "containers": [container(requests)],
            **({"nodeName": on} if on else {}),
            **spec,
        },
        "status": {"phase": phase},
    }


def container(requests: Json | None, name: str = "notebook", **more: Any) -> Json:
    """Return a container that asks for this."""
    return {"name": name, "resources": {"requests": dict(requests or {}), "limits": dict(requests or {})}, **more}


def mine(name: str, on: str | None, requests: Json, spawn_id: str, **more: Any) -> Json:
    """Return a pod of this deployment."""
    return pod(name, on, requests, namespace=NAMESPACE, spawn_id=spawn_id, **more)


# --- Dynamic Resource Allocation -----------------------------------------------------------------------------------

DRIVER = "gpu.example.com"
DRA: Json = {
    "dra": {
        "device_class": "gpu.example.com",
        "selectors": ['device.attributes["gpu.example.com"].model == "L40S"'],
    }
}


def device_class(name: str = "gpu.example.com", *expressions: str) -> Json:
    """Return a DeviceClass; by default of all devices of our driver."""
    selectors = expressions or (f'device.driver == "{DRIVER}"',)
    return {"metadata": {"name": name}, "spec": {"selectors": [{"cel": {"expression": one}} for one in selectors]}}


def device(name: str = "d0", model: str = "L40S", **more: Any) -> Json:
    """Return a device of a slice."""
    attributes = {"model": {"string": model}, "uuid": {"string": f"GPU-{name}"}}
    return {"name": name, "attributes": attributes, "capacity": {"memory": {"value": "48Gi"}}, **more}


def resource_slice(
    name: str = "s1",
    devices: list[Json] | None = None,
    *,
    on: str | None = "n1",
    pool: str | None = None,
    generation: int = 1,
    slices: int = 1,
    driver: str = DRIVER,
    **spec: Any,
) -> Json:
    """Return a ResourceSlice; without `on` it needs `nodeSelector` or `allNodes`."""
    return {
        "metadata": {"name": name},
        "spec": {
            "driver": driver,
            "pool": {"name": pool or on or name, "generation": generation, "resourceSliceCount": slices},
            **({"nodeName": on} if on else {}),
            "devices": [device()] if devices is None else devices,
            **spec,
        },
    }


def claim(
    name: str = "c1",
    devices: list[tuple[str, str]] | None = None,
    *,
    pods: list[str] | None = None,
    namespace: str = NAMESPACE,
    driver: str = DRIVER,
    **result: Any,
) -> Json:
    """Return a ResourceClaim that has these devices, by (pool, name), and is for pods with these uids."""
    users = [{"resource": "pods", "name": uid, "uid": uid} for uid in pods or []]
    results = [
        {"driver": driver, "pool": pool, "device": one, "request": "devices", **result} for pool, one in devices or []
    ]
    allocation = {"allocation": {"devices": {"results": results}}} if results else {}
    owners = [{"kind": "Pod", "name": uid, "uid": uid} for uid in pods or []]
    return {
        "metadata": {"name": name, "namespace": namespace, "ownerReferences": owners},
        "spec": {},
        "status": {**allocation, **({"reservedFor": users} if results else {})},
    }
