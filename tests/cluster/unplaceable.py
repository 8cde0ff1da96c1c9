"""Each way in which the scheduler finds no node, provoked on simulated nodes.

`PYTHONPATH=. python -m tests.cluster.unplaceable` records what the lab's scheduler says, for the unit tests to read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profiles.loader import load
from profiles.model import Catalogue
from spawner.request import Request
from tests.cluster.sessions import Object, World, node, refusal, running
from tests.lab import kubernetes
from tests.lab.cluster import Cluster

__all__ = ["CASES", "RECORDED", "Case", "known", "provoked"]

RECORDED = Path(__file__).parents[1] / "spawner" / "recorded" / "scheduler-messages.json"
_CASE = "lab.test/case"
_DRIVER = "unplaceable.lab.test"
_MODEL = f"device.attributes['{_DRIVER}'].model"
_T4 = {"nvidia.com/gpu.product": "Tesla-T4"}
_A100 = {"nvidia.com/gpu.product": "NVIDIA-A100-PCIE-40GB"}
_ONE = {"nvidia.com/gpu": "1"}
_TAINT = {"key": "dedicated", "value": "exam", "effect": "NoSchedule"}


def known() -> Catalogue:
    """Return the shipped catalogue with some devices of Dynamic Resource Allocation."""
    contents = load(Path(__file__).parents[2] / "profiles" / "catalogue.yaml").model_dump(
        mode="json", exclude_none=True
    )
    selectors = {"dra": f"{_MODEL} == 'lab'", "dra-error": f"device.attributes['{_DRIVER}'].nothing == 'lab'"}
    for key, selector in selectors.items():
        device = {"device_class": _DRIVER, "selectors": [selector]}
        contents["accelerators"][key] = {"title": "Lab card", "kubernetes": {"dra": device}}
    missing = {"device_class": f"missing.{_DRIVER}"}
    contents["accelerators"]["dra-classless"] = {"title": "Lab card", "kubernetes": {"dra": missing}}
    return Catalogue.model_validate(contents)


@dataclass(frozen=True)
class Case:
    """Nodes, what runs on them already, and the session that finds no place.

    `nodes` by name: (capacity, labels, further arguments of `World.node`). `fill` are the sizes in cpu of sessions that
    ask for the same and come first. `alone`: other cases' messages would name its nodes, so that it has the cluster
    for itself.
    """

    accelerator: str | None = "t4"
    count: int = 1
    nodes: Mapping[str, tuple[dict[str, str], dict[str, str], dict[str, Any]]] = field(default_factory=dict)
    fill: tuple[float, ...] = ()
    cpu: float = 1
    memory: int = 1024**3
    devices: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    objects: Callable[[str], list[Object]] = lambda _: []
    alone: bool = False


def _one(capacity: dict[str, str] | None = None, labels: dict[str, str] | None = None, **how: Any) -> dict[str, Any]:
    return {"a": (_ONE if capacity is None else capacity, _T4 if labels is None else labels, how)}


def _claim(name: str) -> Object:
    spec = {
        "storageClassName": "none-such",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def _volume(name: str) -> dict[str, Any]:
    return {"volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": name}}]}


CASES: Mapping[str, Case] = {
    "no-node-has-the-label": Case(nodes=_one(labels=_A100)),
    "no-node-has-the-resource": Case(nodes=_one({})),
    "all-in-use": Case(nodes=_one(), fill=(1,)),
    "more-than-any-node-has": Case(count=2, nodes=_one()),
    "tainted": Case(nodes=_one(taints=(_TAINT,)), alone=True),
    "cordoned": Case(nodes=_one(cordoned=True), alone=True),
    "cpu-in-use-beside-a-free-card": Case(nodes=_one({"nvidia.com/gpu": "2", "cpu": "4"}), fill=(3,), cpu=2),
    "more-cpu-than-any-node-has": Case(nodes=_one({**_ONE, "cpu": "4"}), cpu=8),
    "more-memory-than-any-node-has": Case(nodes=_one({**_ONE, "memory": "4Gi"}), memory=8 * 1024**3),
    "card-and-cpu-in-use": Case(nodes=_one({**_ONE, "cpu": "4"}), fill=(3,), cpu=2),
    "no-card-asked-and-cpu-in-use": Case(accelerator=None, nodes=_one({"cpu": "4"}, {}), fill=(3,), cpu=2),
    "pods-in-use": Case(nodes=_one({"nvidia.com/gpu": "2", "pods": "1"}), fill=(1,)),
    "the-profiles-own-selector": Case(nodes=_one(), settings={"node_selector": {"pool": "exam"}}),
    "claims-in-use": Case("dra", nodes=_one({}, {}), devices=1, fill=(1,)),
    "more-devices-than-any-node-has": Case("dra", count=3, nodes=_one({}, {}), devices=2),
    "device-class-missing": Case("dra-classless", nodes=_one({}, {})),
    "selector-does-not-fit-the-devices": Case("dra-error", nodes=_one({}, {}), devices=1),
    "volume-unbound": Case(nodes=_one(), settings=_volume("unbound"), objects=lambda _: [_claim("unbound")]),
    "volume-missing": Case(nodes=_one(), settings=_volume("missing")),
    "many-reasons": Case(
        nodes={
            "full": (_ONE, _T4, {}),
            "small": ({**_ONE, "cpu": "1"}, _T4, {}),
            "cordoned": (_ONE, _T4, {"cordoned": True}),
            "tainted": (_ONE, _T4, {"taints": (_TAINT,)}),
            "other": ({"nvidia.com/gpu": "8"}, _A100, {}),
        },
        fill=(2,),
        cpu=2,
        alone=True,
    ),
}


def provoked(world: World, names: Iterable[str]) -> dict[str, Object]:
    """Return the pods that find no place, by case; all these cases are there at once."""
    chosen = {name: CASES[name] for name in names}
    world.add(*(item for name, case in chosen.items() for item in _things(world, name, case)))
    fillers = [
        item
        for name, case in chosen.items()
        for number, cpu in enumerate(case.fill)
        for item in _session(world, name, f"{name}-{number}", case, cpu, "ben")
    ]
    if fillers:
        world.cluster.apply(*fillers)
        world.until(lambda pods: all(map(node, pods.values())), "what comes first is placed")
    world.cluster.apply(
        *(item for name, case in chosen.items() for item in _session(world, name, name, case, case.cpu, "ann"))
    )

    def all_refused(pods: dict[str, Object]) -> dict[str, Object] | None:
        found = {name: pods[name] for name in chosen}
        return found if all(map(refusal, found.values())) else None

    refused: dict[str, Object] = world.until(all_refused, "the scheduler says something about each")
    return refused


def _things(world: World, name: str, case: Case) -> list[Object]:
    nodes = [
        world.node(f"{name}-{key}", capacity, {_CASE: name, **labels}, **how)
        for key, (capacity, labels, how) in case.nodes.items()
    ]
    objects = case.objects(name)
    for item in objects:
        item["metadata"]["namespace"] = world.namespace
    return [*nodes, *objects, *(_slices(nodes[0]["metadata"]["name"], case.devices) if case.devices else [])]


def _slices(node_name: str, devices: int) -> list[Object]:
    selector = {"cel": {"expression": f"device.driver == '{_DRIVER}'"}}
    pool = {"name": node_name, "generation": 1, "resourceSliceCount": 1}
    cards = [{"name": f"card-{number}", "attributes": {"model": {"string": "lab"}}} for number in range(devices)]
    spec = {"driver": _DRIVER, "nodeName": node_name, "pool": pool, "devices": cards}
    kind = "resource.k8s.io/v1"
    return [
        {"apiVersion": kind, "kind": "DeviceClass", "metadata": {"name": _DRIVER}, "spec": {"selectors": [selector]}},
        {"apiVersion": kind, "kind": "ResourceSlice", "metadata": {"name": node_name}, "spec": spec},
    ]


def _session(world: World, name: str, pod: str, case: Case, cpu: float, user: str) -> list[Object]:
    request = Request("jupyterlab", accelerator=case.accelerator, count=case.count if case.accelerator else 0)
    settings = dict(case.settings)
    selector = {_CASE: name, **settings.pop("node_selector", {})}
    return world.session(pod, request, user=user, cpu=cpu, memory=case.memory, node_selector=selector, **settings)


def record(cluster: Cluster) -> None:
    """Write what the scheduler says to the file that the unit tests read."""
    version = json.loads(cluster.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    found: dict[str, Any] = {}
    for name in CASES:
        with running(cluster, "unplaceable", known()) as world:
            pod = provoked(world, [name])[name]
        (condition,) = (one for one in pod["status"]["conditions"] if one["type"] == "PodScheduled")
        said = condition["message"].replace(world.namespace, "sessions")
        found[name] = {"reason": condition["reason"], "message": said}
    contents = {"kubernetes": version, "messages": found}
    RECORDED.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    with kubernetes.in_use() as running_cluster:
        record(running_cluster)
