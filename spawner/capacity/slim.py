"""What counting needs of a node and of a pod, read from the API's plain JSON. Pure.

A cluster's pods are some 10 kB of JSON each; what is kept here is a few hundred bytes. What an object says that cannot
be understood is put so that less seems to be free, never more, and named in `problem`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR
from functools import lru_cache
from typing import Any

from profiles.quantities import QuantityError, parse_quantity

__all__ = ["SPAWN_ID", "Amounts", "SlimNode", "SlimPod", "Taint", "key_of", "slim_node", "slim_pod"]

SPAWN_ID = "armillary/spawn-id"
"""Annotation of our pods and claims; `spawner.pod` has it too, with Kubernetes' models, which nothing here needs."""

_MIG_STATE = "nvidia.com/mig.config.state"
"""Label by which NVIDIA's MIG manager says how a change of the layout goes: pending, rebooting, success, failed."""

_FINISHED = frozenset({"Succeeded", "Failed"})

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Amounts:
    """Sums of resources: cpu in thousandths of a core, memory in bytes, extended resources in pieces."""

    cpu_m: int = 0
    memory: int = 0
    pieces: Mapping[str, int] = field(default_factory=dict)
    pods: int = 0


@dataclass(frozen=True, slots=True)
class Taint:
    """What keeps pods off a node."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class SlimNode:
    """A node; `partitioning`: its cards are being partitioned anew."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    cordoned: bool
    ready: bool
    partitioning: bool
    capacity: Amounts
    allocatable: Amounts
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SlimPod:
    """A pod; `wants` is what the scheduler sets aside for it."""

    key: str
    uid: str
    node: str
    finished: bool
    wants: Amounts
    spawn_id: str = ""
    claims: bool = False
    """Whether it has devices of Dynamic Resource Allocation, which no resource of a node stands for."""
    problem: str = ""
    image: str = ""
    """Reference of the image of a session of ours; of others nobody asks."""
    digest: str = ""
    """Of that image as it runs, such as `sha256:…`; empty: not known yet."""


def key_of(item: Json) -> str:
    """Return "namespace/name", or the name alone for what is in no namespace.

    Raises
    ------
    KeyError, TypeError
        It has no name.
    """
    metadata = item["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


# --- quantities --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16_384)
def _thousandths(text: str, rounding: str) -> int:
    return int((parse_quantity(text) * 1000).to_integral_value(rounding))


@lru_cache(maxsize=16_384)
def _whole(text: str, rounding: str) -> int:
    return int(parse_quantity(text).to_integral_value(rounding))


class _Reading:
    """Reads the quantities of one object, and notes those that make no sense."""

    def __init__(self, rounding: str) -> None:
        self.rounding = rounding
        self.problems: list[str] = []

    def amounts(self, said: object) -> dict[str, int]:
        """Return whole numbers by resource: cpu in thousandths. What cannot be read, or is negative, is 0."""
        if not isinstance(said, Mapping):
            if said is not None:
                self.problems.append(f"{type(said).__name__} in place of resources")
            return {}
        return {str(name): self._amount(str(name), value) for name, value in said.items()}

    def _amount(self, name: str, value: object) -> int:
        read: Callable[[str, str], int] = _thousandths if name == "cpu" else _whole
        try:
            amount = read(str(value), self.rounding)
        except QuantityError:
            amount = -1
        if amount < 0:
            self.problems.append(f"{name}: {str(value)[:40]!r}")
            return 0
        return amount


def _amounts(found: Mapping[str, int]) -> Amounts:
    pieces = {name: number for name, number in found.items() if "/" in name and number}
    return Amounts(found.get("cpu", 0), found.get("memory", 0), pieces, found.get("pods", 0))


# --- nodes -------------------------------------------------------------------------------------------------------


def slim_node(item: Json) -> SlimNode:
    """Read a node.

    Raises
    ------
    KeyError, TypeError, AttributeError
        It has no name, or is no object.
    """
    metadata = item["metadata"]
    spec, status = _mapping(item.get("spec")), _mapping(item.get("status"))
    labels = {str(key): str(value) for key, value in _mapping(metadata.get("labels")).items()}
    reading = _Reading(ROUND_FLOOR)
    return SlimNode(
        name=str(metadata["name"]),
        labels=labels,
        taints=tuple(_taints(spec)),
        cordoned=bool(spec.get("unschedulable")),
        ready=any(
            condition.get("type") == "Ready" and condition.get("status") == "True"
            for condition in _mappings(status.get("conditions"))
        ),
        partitioning=labels.get(_MIG_STATE, "success") != "success",
        capacity=_amounts(reading.amounts(status.get("capacity"))),
        allocatable=_amounts(reading.amounts(status.get("allocatable"))),
        problem=", ".join(reading.problems),
    )


def _taints(spec: Json) -> Iterator[Taint]:
    for taint in _mappings(spec.get("taints")):
        yield Taint(str(taint.get("key") or ""), str(taint.get("value") or ""), str(taint.get("effect") or ""))


# --- pods --------------------------------------------------------------------------------------------------------


def slim_pod(item: Json) -> SlimPod:
    """Read a pod.

    Raises
    ------
    KeyError, TypeError, AttributeError
        It has no name, or is no object.
    """
    metadata, spec, status = item["metadata"], _mapping(item.get("spec")), _mapping(item.get("status"))
    finished = status.get("phase") in _FINISHED
    reading = _Reading(ROUND_CEILING)
    wants = _amounts(_requests(spec, status, reading)) if not finished else Amounts()
    spawn_id = str(_mapping(metadata.get("annotations")).get(SPAWN_ID) or "")
    image, digest = _image(spec, status) if spawn_id else ("", "")
    return SlimPod(
        key=key_of(item),
        uid=str(metadata.get("uid") or ""),
        node=str(spec.get("nodeName") or ""),
        finished=finished,
        wants=wants,
        spawn_id=spawn_id,
        claims=bool(spec.get("resourceClaims")),
        problem=", ".join(reading.problems),
        image=image,
        digest=digest,
    )


def _image(spec: Json, status: Json) -> tuple[str, str]:
    """Return what the pod's first container runs: the session; others are sidecars. As asked for, and as pulled."""
    for container in _mappings(spec.get("containers")):
        for told in _mappings(status.get("containerStatuses")):
            if told.get("name") == container.get("name"):
                # `registry/name@sha256:…`; of an image that came from no registry only its own `sha256:…`
                pulled = str(told.get("imageID") or "").rpartition("@")[2]
                return str(container.get("image") or ""), pulled if pulled.startswith("sha256:") else ""
        return str(container.get("image") or ""), ""
    return "", ""


def _requests(spec: Json, status: Json, reading: _Reading) -> dict[str, int]:
    """Return what the scheduler sets aside (k8s.io/component-helpers, resource.PodRequests).

    The larger of what all containers need together, sidecars (init containers that are always restarted) among them,
    and what the neediest moment of the initialisation needs; what is asked for the pod as a whole in their place; and
    the runtime's overhead on top.
    """
    given = _allocated(status)
    running: dict[str, int] = {}
    for container in _mappings(spec.get("containers")):
        _add(running, _of_container(container, given, reading))
    sidecars: dict[str, int] = {}
    starting: dict[str, int] = {}
    for container in _mappings(spec.get("initContainers")):
        needs = _of_container(container, given, reading)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, needs)
            needs = {}
        moment = dict(sidecars)
        _add(moment, needs)
        _raise_to(starting, moment)
    _add(running, sidecars)
    _raise_to(running, starting)
    whole = _mapping(spec.get("resources"))
    running.update(reading.amounts(whole.get("requests")))
    _add(running, reading.amounts(spec.get("overhead")))
    return running


def _of_container(container: Json, given: Mapping[str, Json], reading: _Reading) -> dict[str, int]:
    resources = _mapping(container.get("resources"))
    # A limit without a request is both; the API server writes it so, other writers may not.
    needs = {**reading.amounts(resources.get("limits")), **reading.amounts(resources.get("requests"))}
    held = given.get(str(container.get("name")))
    if held:  # being resized in place: the larger of what it has and what it is to get
        _raise_to(needs, reading.amounts(held))
    return needs


def _allocated(status: Json) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name in ("containerStatuses", "initContainerStatuses"):
        for container in _mappings(status.get(name)):
            held = container.get("allocatedResources")
            if isinstance(held, Mapping):
                found[str(container.get("name"))] = held
    return found


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, number in more.items():
        total[name] = total.get(name, 0) + number


def _raise_to(total: dict[str, int], least: Mapping[str, int]) -> None:
    for name, number in least.items():
        total[name] = max(total.get(name, 0), number)


def _mapping(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> Iterable[Json]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else ()
