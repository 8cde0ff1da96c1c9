"""Counting one kind of accelerator: what each node adds, and the sum of all nodes. Pure, whole numbers only."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from profiles.model import Accelerator, DraDevice, Toleration
from spawner.capacity.model import Count, Fit
from spawner.capacity.slim import Amounts, SlimNode, SlimPod, Taint

__all__ = [
    "BLOCKING",
    "Devices",
    "Kind",
    "Sum",
    "Tally",
    "Usage",
    "held_back",
    "largest_only",
    "plugin_devices",
    "tally",
    "together",
]

BLOCKING = frozenset({"NoSchedule", "NoExecute"})
"""Effects of taints that keep new pods off."""

_KUBERNETES_OWN = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
"""Taints that Kubernetes itself puts on a node and takes off again."""

CORDONED = "cordoned"
NOT_READY = "not ready"
PARTITIONING = "being partitioned"
FULL_OF_PODS = "no room for pods"
UNHEALTHY = "unhealthy"
UNREADABLE = "its use cannot be read"


@dataclass(frozen=True)
class Kind:
    """What is counted under one key of the catalogue; with neither resource nor dra: sessions without accelerator."""

    key: str
    resource: str | None = None
    dra: DraDevice | None = None
    node_labels: Mapping[str, frozenset[str]] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()

    @classmethod
    def of(cls, key: str, accelerator: Accelerator) -> Kind | None:
        """Return how the accelerator is counted; None: Kubernetes does not have it."""
        device = accelerator.kubernetes
        if device is None:
            return None
        labels = {name: frozenset(values) for name, values in device.node_labels.items()}
        return cls(key, device.resource, device.dra, labels, device.tolerations)

    def on(self, labels: Mapping[str, str]) -> bool:
        """Return whether a node with these labels may have it."""
        return all(labels.get(name) in values for name, values in self.node_labels.items())

    def apart(self, other: Kind) -> bool:
        """Return whether no node may have both."""
        return any(
            name in other.node_labels and values.isdisjoint(other.node_labels[name])
            for name, values in self.node_labels.items()
        )


class Usage:
    """What the pods that are bound to one node take of it."""

    __slots__ = ("by_us", "cpu_m", "memory", "pieces", "pods", "unreadable")

    def __init__(self) -> None:
        self.cpu_m = self.memory = self.pods = self.unreadable = 0
        self.pieces: dict[str, int] = {}
        self.by_us: dict[str, int] = {}

    def change(self, pod: SlimPod, ours: bool, sign: int) -> None:
        """Add (`sign` 1) or take off (-1) a pod."""
        self.pods += sign
        self.cpu_m += sign * pod.wants.cpu_m
        self.memory += sign * pod.wants.memory
        self.unreadable += sign * bool(pod.problem)
        for name, number in pod.wants.pieces.items():
            self.pieces[name] = self.pieces.get(name, 0) + sign * number
            if ours:
                self.by_us[name] = self.by_us.get(name, 0) + sign * number


NOTHING = Usage()
"""The use of a node without pods; not to be changed."""


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of one kind on one node.

    `offered` are used or can be had, `withheld` neither, by (why, how many). `whole`: how many one session could get
    if nothing else ran there.
    """

    offered: int
    whole: int
    by_us: int = 0
    by_others: int = 0
    withheld: tuple[tuple[str, int], ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to count."""
        return not (self.offered or self.by_us or self.by_others or self.withheld)


@dataclass(frozen=True, slots=True)
class Tally:
    """What one node adds to the count of one kind."""

    free: int
    by_us: int
    by_others: int
    held: tuple[tuple[str, int], ...]
    now: Fit | None
    empty: Fit | None


def plugin_devices(resource: str, node: SlimNode, usage: Usage) -> Devices:
    """Return the devices of an extended resource: what pods asked for is used, even beyond what the node has."""
    used = usage.pieces.get(resource, 0)
    by_us = usage.by_us.get(resource, 0)
    capacity = node.capacity.pieces.get(resource, 0)
    # More allocatable than there is would be a slip of the plugin's; a card that is in use is not offered again.
    allocatable = min(capacity, node.allocatable.pieces.get(resource, 0))
    lost = capacity - max(allocatable, min(used, capacity))
    return Devices(max(allocatable, used), allocatable, by_us, used - by_us, ((UNHEALTHY, lost),) if lost else ())


def tally(kind: Kind, node: SlimNode, usage: Usage, devices: Devices) -> Tally | None:
    """Return what this node, whose labels match, adds to the count of a kind; None: nothing."""
    counted = kind.resource is not None or kind.dra is not None
    if counted and devices.empty:
        return None
    why = held_back(kind, node, usage)
    left = devices.offered - devices.by_us - devices.by_others
    held = (*devices.withheld, (why, left)) if why and left else devices.withheld
    free = 0 if why else left
    foreign = _foreign(kind, node)
    return Tally(
        free,
        devices.by_us,
        devices.by_others,
        held,
        _room(free, node.allocatable, usage) if not why and (free or not counted) else None,
        _room(devices.whole, node.allocatable, NOTHING) if not foreign and (devices.whole or not counted) else None,
    )


def _room(count: int, allocatable: Amounts, usage: Usage) -> Fit:
    return Fit(count, max(0, allocatable.cpu_m - usage.cpu_m), max(0, allocatable.memory - usage.memory))


def held_back(kind: Kind, node: SlimNode, usage: Usage) -> str:
    """Return why no further session can go to this node now; empty: one can."""
    if node.cordoned:
        return CORDONED
    if not node.ready:
        return NOT_READY
    if node.partitioning:
        return PARTITIONING
    for taint in node.taints:
        if taint.effect in BLOCKING and not _tolerated(taint, kind.tolerations):
            return f"tainted ({taint.key})"
    if usage.unreadable or node.problem:
        return UNREADABLE
    if usage.pods >= node.allocatable.pods:
        return FULL_OF_PODS
    return ""


def _foreign(kind: Kind, node: SlimNode) -> bool:
    """Whether the node is meant for something else: a taint that does not go by itself."""
    return any(
        taint.effect in BLOCKING
        and not taint.key.startswith(_KUBERNETES_OWN)
        and not _tolerated(taint, kind.tolerations)
        for taint in node.taints
    )


def _tolerated(taint: Taint, tolerations: Iterable[Toleration]) -> bool:
    """Whether one of them tolerates the taint (k8s.io/api core/v1, Toleration.ToleratesTaint)."""
    return any(
        toleration.key == taint.key
        and toleration.effect in (None, taint.effect)
        and (toleration.operator == "Exists" or toleration.value == taint.value)
        for toleration in tolerations
    )


class Sum:
    """The running sum of tallies: a node that changes costs its own tally, not a look at all the others."""

    def __init__(self) -> None:
        self._free = self._by_us = self._by_others = 0
        self._held: Counter[str] = Counter()
        self._now: Counter[Fit] = Counter()
        self._empty: Counter[Fit] = Counter()

    def add(self, part: Tally) -> None:
        """Add what a node adds."""
        self._change(part, 1)

    def remove(self, part: Tally) -> None:
        """Take off what was added."""
        self._change(part, -1)

    def _change(self, part: Tally, sign: int) -> None:
        self._free += sign * part.free
        self._by_us += sign * part.by_us
        self._by_others += sign * part.by_others
        for why, number in part.held:
            self._held[why] += sign * number
        for fits, fit in ((self._now, part.now), (self._empty, part.empty)):
            if fit is not None:
                fits[fit] += sign
                if not fits[fit]:
                    del fits[fit]

    def count(self) -> Count:
        """Return the sum."""
        held = tuple(sorted(((why, number) for why, number in self._held.items() if number), key=_most_first))
        held_back = sum(number for _, number in held)
        return Count(
            total=self._free + self._by_us + self._by_others + held_back,
            free=self._free,
            used_by_us=self._by_us,
            used_by_others=self._by_others,
            held_back=held_back,
            held_because=held,
            fits_now=largest_only(self._now),
            fits_empty=largest_only(self._empty),
        )


def together(one: Count, other: Count) -> Count:
    """Return the sum of two counts of the same kind."""
    held = Counter(dict(one.held_because))
    held.update(dict(other.held_because))
    return Count(
        total=one.total + other.total,
        free=one.free + other.free,
        used_by_us=one.used_by_us + other.used_by_us,
        used_by_others=one.used_by_others + other.used_by_others,
        held_back=one.held_back + other.held_back,
        held_because=tuple(sorted(held.items(), key=_most_first)),
        fits_now=largest_only((*one.fits_now, *other.fits_now)),
        fits_empty=largest_only((*one.fits_empty, *other.fits_empty)),
    )


def _most_first(reason: tuple[str, int]) -> tuple[int, str]:
    return -reason[1], reason[0]


def largest_only(fits: Iterable[Fit]) -> tuple[Fit, ...]:
    """Return the fits that are not within another one, the most accelerators first, then the most cpu."""
    front: list[Fit] = []
    # Of those so far, the ones that no other one has both more cpu and more memory than: cpu rises, memory falls.
    cpus: list[int] = []
    memories: list[int] = []
    for fit in sorted(set(fits), key=lambda fit: (fit.count, fit.cpu_m, fit.memory), reverse=True):
        place = bisect_left(cpus, fit.cpu_m)
        if place < len(cpus) and memories[place] >= fit.memory:
            continue
        front.append(fit)
        if place < len(cpus) and cpus[place] == fit.cpu_m:
            del cpus[place], memories[place]
        while place and memories[place - 1] <= fit.memory:
            place -= 1
            del cpus[place], memories[place]
        cpus.insert(place, fit.cpu_m)
        memories.insert(place, fit.memory)
    return tuple(front)
