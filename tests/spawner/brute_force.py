"""The counts of a cluster once more, from complete lists, the slow and obvious way; for comparison.

Shares no code with `spawner.capacity`: quantities are read by the Kubernetes client, each node is looked at for each
accelerator, each pod for each node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from spawner.capacity.model import Count

Json = dict[str, Any]
Matches = Callable[[Json, str], bool]
"""Whether a device of a slice, of this driver, is one: what a CEL selector says, in Python."""


@dataclass
class Expected:
    """What a count must be; the fits as sets, because their order is no matter of counting."""

    free: int = 0
    by_us: int = 0
    by_others: int = 0
    held: dict[str, int] = field(default_factory=dict)
    now: set[tuple[int, int, int]] = field(default_factory=set)
    empty: set[tuple[int, int, int]] = field(default_factory=set)

    def hold(self, why: str, number: int) -> None:
        if number:
            self.held[why] = self.held.get(why, 0) + number

    def as_tuple(self) -> tuple[Any, ...]:
        total = self.free + self.by_us + self.by_others + sum(self.held.values())
        return total, self.free, self.by_us, self.by_others, self.held, maximal(self.now), maximal(self.empty)


def counted(count: Count) -> tuple[Any, ...]:
    """Return a count in the form of `Expected.as_tuple`."""
    fits = [{(fit.count, fit.cpu_m, fit.memory) for fit in fits} for fits in (count.fits_now, count.fits_empty)]
    assert not count.unknown, count.unknown
    assert count.total == count.free + count.used_by_us + count.used_by_others + count.held_back
    assert min(count.total, count.free, count.used_by_us, count.used_by_others, count.held_back) >= 0
    return count.total, count.free, count.used_by_us, count.used_by_others, dict(count.held_because), *fits


def maximal(points: Iterable[tuple[int, int, int]]) -> set[tuple[int, int, int]]:
    """Return the points that no other one is at least as large as in all three."""
    found = set(points)
    return {p for p in found if not any(p != q and all(a <= b for a, b in zip(p, q, strict=True)) for q in found)}


def expected(
    device: Json | None,
    nodes: Iterable[Json],
    pods: Iterable[Json],
    namespace: str,
    *,
    slices: Iterable[Json] = (),
    claims: Iterable[Json] = (),
    matches: Matches | None = None,
) -> tuple[Any, ...]:
    """Count one accelerator (its `kubernetes` section as in the catalogue; None: sessions without one)."""
    result = Expected()
    device = device or {}
    pods, slices, claims = list(pods), list(slices), list(claims)
    of_kind: list[Json] = []
    for node in nodes:
        labels = node["metadata"].get("labels") or {}
        if any(labels.get(key) not in _list(values) for key, values in (device.get("node_labels") or {}).items()):
            continue
        of_kind.append(node)
        here = [pod for pod in pods if pod["spec"].get("nodeName") == node["metadata"]["name"] and not _over(pod)]
        if "dra" in device:
            assert matches is not None
            _devices(result, device, node, here, pods, slices, claims, namespace, matches)
        else:
            _plugin(result, device, node, here, namespace)
    if "dra" in device:
        assert matches is not None
        _shared(result, device, of_kind, pods, slices, claims, namespace, matches)
    return result.as_tuple()


def _plugin(result: Expected, device: Json, node: Json, here: list[Json], namespace: str) -> None:
    resource = device.get("resource")
    why = trouble(node, here, device.get("tolerations") or [])
    if resource is None:
        if not why:
            result.now.add((0, *_left(node, here)))
        if not lasting_taint(node, device.get("tolerations") or []):
            result.empty.add((0, *_left(node, [])))
        return
    capacity, allocatable = (
        _whole(node["status"].get(part, {}).get(resource, "0")) for part in ("capacity", "allocatable")
    )
    allocatable = min(allocatable, capacity)
    used = sum(request(pod, resource) for pod in here)
    mine = sum(request(pod, resource) for pod in here if ours(pod, namespace))
    result.by_us += mine
    result.by_others += used - mine
    spare = max(0, capacity - used)
    free = max(0, min(spare, allocatable - used))
    result.hold("unhealthy", spare - free)
    if why:
        result.hold(why, free)
    else:
        result.free += free
        if free:
            result.now.add((free, *_left(node, here)))
    if allocatable and not lasting_taint(node, device.get("tolerations") or []):
        result.empty.add((allocatable, *_left(node, [])))


def _devices(
    result: Expected,
    device: Json,
    node: Json,
    here: list[Json],
    pods: list[Json],
    slices: list[Json],
    claims: list[Json],
    namespace: str,
    matches: Matches,
) -> None:
    why = trouble(node, here, device.get("tolerations") or [])
    free = whole = 0
    for part in slices:
        spec = part["spec"]
        if spec.get("nodeName") == node["metadata"]["name"] and _newest(part, slices):
            states = _states(part, pods, claims, namespace, matches)
            free += _take(result, states, why)
            whole += sum(not tainted for tainted, _ in states)
    result.free += free
    for part in slices:  # a claim takes those of the network together with the node's own
        if part["spec"].get("allNodes") and _newest(part, slices):
            states = _states(part, pods, claims, namespace, matches)
            free += 0 if why else sum(tainted == who == "" for tainted, who in states)
            whole += sum(not tainted for tainted, _ in states)
    if free:
        result.now.add((free, *_left(node, here)))
    if whole and not lasting_taint(node, device.get("tolerations") or []):
        result.empty.add((whole, *_left(node, [])))


def _shared(
    result: Expected,
    device: Json,
    nodes: list[Json],
    pods: list[Json],
    slices: list[Json],
    claims: list[Json],
    namespace: str,
    matches: Matches,
) -> None:
    """Count the devices that all nodes reach, once."""
    whys = []
    for node in nodes:
        here = [pod for pod in pods if pod["spec"].get("nodeName") == node["metadata"]["name"] and not _over(pod)]
        whys.append(trouble(node, here, device.get("tolerations") or []))
    for part in slices:
        if whys and part["spec"].get("allNodes") and _newest(part, slices):
            states = _states(part, pods, claims, namespace, matches)
            result.free += _take(result, states, "" if "" in whys else whys[0])


def _newest(part: Json, slices: list[Json]) -> bool:
    spec = part["spec"]
    return bool(
        spec["pool"]["generation"]
        == max(
            other["spec"]["pool"]["generation"]
            for other in slices
            if (other["spec"]["driver"], other["spec"]["pool"]["name"]) == (spec["driver"], spec["pool"]["name"])
        )
    )


def _states(
    part: Json, pods: list[Json], claims: list[Json], namespace: str, matches: Matches
) -> list[tuple[str, str]]:
    """Return of each device that is one how it is tainted, and who has it: `us`, `others` or nobody."""
    states = []
    spec = part["spec"]
    for one in spec.get("devices") or []:
        if not matches(one, spec["driver"]):
            continue
        holder = _holder(claims, (spec["driver"], spec["pool"]["name"], one["name"]))
        taint = next((t["key"] for t in one.get("taints") or [] if t["effect"] in ("NoSchedule", "NoExecute")), "")
        who = ""
        if holder is not None:
            users = {user["uid"] for user in (holder["status"].get("reservedFor") or [])}
            users |= {owner["uid"] for owner in holder["metadata"].get("ownerReferences") or []}
            mine = holder["metadata"]["namespace"] == namespace and any(
                ours(pod, namespace) and pod["metadata"]["uid"] in users for pod in pods
            )
            who = "us" if mine else "others"
        states.append((f"tainted ({taint})" if taint else "", who))
    return states


def _take(result: Expected, states: list[tuple[str, str]], why: str) -> int:
    """Take over who has devices and which are held back; return how many are free."""
    free = 0
    for tainted, who in states:
        result.by_us += who == "us"
        result.by_others += who == "others"
        if not who and (tainted or why):
            result.hold(tainted or why, 1)
        free += not (who or tainted or why)
    return free


def _holder(claims: list[Json], device: tuple[str, str, str]) -> Json | None:
    for claim in claims:
        allocation = (claim.get("status") or {}).get("allocation") or {}
        for got in (allocation.get("devices") or {}).get("results") or []:
            if (got["driver"], got["pool"], got["device"]) == device:
                return claim
    return None


def trouble(node: Json, here: list[Json], tolerations: list[Json]) -> str:
    """Return why nothing more can be placed on a node."""
    spec, status = node["spec"], node["status"]
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions") or []}
    blocking = [t["key"] for t in spec.get("taints") or [] if not _tolerated(t, tolerations)]
    state = (node["metadata"].get("labels") or {}).get("nvidia.com/mig.config.state")
    if spec.get("unschedulable"):
        return "cordoned"
    if conditions.get("Ready") != "True":
        return "not ready"
    if state not in (None, "success"):
        return "being partitioned"
    if blocking:
        return f"tainted ({blocking[0]})"
    if len(here) >= _whole(status.get("allocatable", {}).get("pods", "0")):
        return "no room for pods"
    return ""


def lasting_taint(node: Json, tolerations: list[Json]) -> bool:
    """Return whether a taint keeps sessions off that somebody has put there."""
    return any(
        not _tolerated(taint, tolerations) and "node.kubernetes.io/" not in taint["key"]
        for taint in node["spec"].get("taints") or []
    )


def _tolerated(taint: Json, tolerations: list[Json]) -> bool:
    if taint["effect"] == "PreferNoSchedule":
        return True
    return any(
        t["key"] == taint["key"]
        and t.get("effect") in (None, taint["effect"])
        and ("value" not in t or t["value"] == taint.get("value", ""))
        for t in tolerations
    )


def ours(pod: Json, namespace: str) -> bool:
    """Return whether a pod is a session of this deployment."""
    annotations = pod["metadata"].get("annotations") or {}
    return pod["metadata"]["namespace"] == namespace and bool(annotations.get("armillary/spawn-id"))


def request(pod: Json, resource: str, unit: int = 1) -> int:
    """Return what the scheduler sets aside for a pod, in `unit` parts of the resource, rounded up for each container."""
    spec = pod["spec"]

    def of(container: Json) -> int:
        resources = container.get("resources") or {}
        amount = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.get(resource, "0")
        return math.ceil(number(amount) * unit)

    early = spec.get("initContainers") or []
    sidecars = [container for container in early if container.get("restartPolicy") == "Always"]
    peaks = [sum(map(of, spec["containers"])) + sum(map(of, sidecars))]
    for place, container in enumerate(early):
        before = [other for other in early[:place] if other.get("restartPolicy") == "Always"]
        peaks.append(of(container) + sum(map(of, before)))
    whole = ((spec.get("resources") or {}).get("requests") or {}).get(resource)
    needed = max(peaks) if whole is None else math.ceil(number(whole) * unit)
    return needed + math.ceil(number((spec.get("overhead") or {}).get(resource, "0")) * unit)


def _left(node: Json, here: list[Json]) -> tuple[int, int]:
    allocatable: Mapping[str, str] = node["status"].get("allocatable") or {}
    cpu = math.floor(number(allocatable.get("cpu", "0")) * 1000)
    memory = math.floor(number(allocatable.get("memory", "0")))
    used_cpu = sum(request(pod, "cpu", 1000) for pod in here)
    used_memory = sum(request(pod, "memory") for pod in here)
    return max(0, cpu - used_cpu), max(0, memory - used_memory)


def _over(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _whole(text: str) -> int:
    return math.floor(number(text))


def _list(values: Any) -> list[str]:
    return [values] if isinstance(values, str) else list(values)


def number(text: str) -> Decimal:
    """Return what a quantity stands for, as the Kubernetes client reads it."""
    read: Decimal = parse_quantity(text)
    return read
