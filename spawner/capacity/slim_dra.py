"""What counting needs of the objects of resource.k8s.io/v1 (Dynamic Resource Allocation), from plain JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spawner.capacity.slim import SPAWN_ID, Taint, key_of

__all__ = ["NodeTerm", "SlimClaim", "SlimClass", "SlimDevice", "SlimSlice", "slim_claim", "slim_class", "slim_slice"]

_ACCELERATOR = "armillary/accelerator"
"""Label that `spawner.claims` gives to what is made out of its templates."""

Json = Mapping[str, Any]
DeviceId = tuple[str, str, str]
"""Driver, pool and name: what identifies a device in the cluster."""


@dataclass(frozen=True)
class SlimClass:
    """A DeviceClass; `problem`: something in it that this does not know."""

    name: str
    selectors: tuple[str, ...]
    problem: str = ""


@dataclass(frozen=True)
class SlimDevice:
    """A device of a slice; `uncountable` says why it is no thing that is either free or taken."""

    name: str
    attributes: Json
    capacity: Json
    taints: tuple[Taint, ...] = ()
    many: bool = False
    uncountable: str = ""


@dataclass(frozen=True)
class NodeTerm:
    """One of the alternatives of a node selector; all of it must be met."""

    labels: tuple[tuple[str, str, tuple[str, ...]], ...]
    names: tuple[tuple[str, str, tuple[str, ...]], ...]

    def takes(self, name: str, labels: Mapping[str, str]) -> bool:
        """Return whether a node meets it; an empty one is met by none."""
        return (
            bool(self.labels or self.names)
            and all(_met(labels.get(key), operator, values) for key, operator, values in self.labels)
            and all(_met(name, operator, values) for _, operator, values in self.names)
        )


@dataclass(frozen=True)
class SlimSlice:
    """A part of a pool of devices; of one `node`, or of every node that meets one of `terms`."""

    name: str
    driver: str
    pool: str
    generation: int
    slices: int
    node: str
    terms: tuple[NodeTerm, ...]
    all_nodes: bool
    devices: tuple[SlimDevice, ...]

    def reaches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Return whether pods of a node can have its devices."""
        return self.all_nodes or name == self.node or any(term.takes(name, labels) for term in self.terms)


@dataclass(frozen=True)
class SlimClaim:
    """A ResourceClaim: the devices that are allocated to it, and the uids of the pods that own or use it."""

    key: str
    marked: bool
    """It carries a spawn id, or was made out of one of our templates."""
    pods: tuple[str, ...]
    devices: tuple[DeviceId, ...]


def slim_class(item: Json) -> SlimClass:
    """Read a DeviceClass; KeyError and its like if it has no name."""
    selectors = _mappings(_mapping(item.get("spec")).get("selectors"))
    found = [_mapping(selector.get("cel")).get("expression") for selector in selectors]
    known = tuple(expression for expression in found if isinstance(expression, str))
    problem = "" if len(known) == len(found) else "its device class selects in a way that is not known here"
    return SlimClass(key_of(item), known, problem)


def slim_slice(item: Json) -> SlimSlice:
    """Read a ResourceSlice; KeyError and its like if it is none."""
    spec = item["spec"]
    pool = spec["pool"]
    shared = "its devices are cut out of larger ones, which cannot be counted" if spec.get("sharedCounters") else ""
    if spec.get("perDeviceNodeSelection"):
        shared = "each of its devices is on other nodes, which cannot be counted"
    terms = _mappings(_mapping(spec.get("nodeSelector")).get("nodeSelectorTerms"))
    return SlimSlice(
        name=key_of(item),
        driver=str(spec["driver"]),
        pool=str(pool["name"]),
        generation=int(pool["generation"]),
        slices=int(pool["resourceSliceCount"]),
        node=str(spec.get("nodeName") or ""),
        terms=tuple(NodeTerm(_wishes(t.get("matchExpressions")), _wishes(t.get("matchFields"))) for t in terms),
        all_nodes=bool(spec.get("allNodes")),
        devices=tuple(_device(device, shared) for device in _mappings(spec.get("devices"))),
    )


def _device(device: Json, uncountable: str) -> SlimDevice:
    many = bool(device.get("allowMultipleAllocations"))
    if device.get("consumesCounters"):
        uncountable = "its devices are cut out of larger ones, which cannot be counted"
    elif many:
        uncountable = "its devices are shared by capacity, which cannot be counted"
    taints = _mappings(device.get("taints"))
    return SlimDevice(
        name=str(device["name"]),
        attributes=_mapping(device.get("attributes")),
        capacity=_mapping(device.get("capacity")),
        taints=tuple(Taint(str(t.get("key")), str(t.get("value") or ""), str(t.get("effect"))) for t in taints),
        many=many,
        uncountable=uncountable,
    )


def slim_claim(item: Json) -> SlimClaim:
    """Read a ResourceClaim; KeyError and its like if it has no name."""
    metadata, status = item["metadata"], _mapping(item.get("status"))
    allocated = _mapping(_mapping(status.get("allocation")).get("devices"))
    users = [*_mappings(status.get("reservedFor")), *_mappings(metadata.get("ownerReferences"))]
    return SlimClaim(
        key=key_of(item),
        marked=any(_mapping(metadata.get(part)).get(SPAWN_ID) for part in ("annotations", "labels"))
        or _ACCELERATOR in _mapping(metadata.get("labels")),
        pods=tuple(dict.fromkeys(str(user.get("uid")) for user in users if user.get("uid"))),
        devices=tuple(
            (str(result["driver"]), str(result["pool"]), str(result["device"]))
            for result in _mappings(allocated.get("results"))
            if not result.get("adminAccess")  # looks at a device that somebody else may have
        ),
    )


def _wishes(expressions: object) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    return tuple(
        (str(wish["key"]), str(wish["operator"]), tuple(map(str, wish.get("values") or ())))
        for wish in _mappings(expressions)
    )


_OPERATORS: dict[str, Callable[[str | None, tuple[str, ...]], bool]] = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, values: value is not None,
    "DoesNotExist": lambda value, values: value is None,
    "Gt": lambda value, values: _whole(value) > _whole(values[0]),
    "Lt": lambda value, values: _whole(value) < _whole(values[0]),
}


def _met(value: str | None, operator: str, values: tuple[str, ...]) -> bool:
    """Return whether a label, or a name, is as wished (k8s.io/component-helpers, nodeaffinity); not if unreadable."""
    try:
        return _OPERATORS[operator](value, values)
    except (KeyError, IndexError, ValueError):
        return False


def _whole(value: str | None) -> int:
    return int(value or "")


def _mapping(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> Iterable[Json]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else ()
