"""A cluster's nodes and pods, kept up to date change by change, and the counts that follow from them.

A change costs what its own node costs; the counts cost what the nodes cost that changed since they were last asked
for. Knows no API: `spawner.capacity.watch` feeds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from profiles.model import NO_ACCELERATOR, Catalogue, Toleration
from spawner.capacity.count import (
    NOTHING,
    Devices,
    Kind,
    Sum,
    Tally,
    Usage,
    held_back,
    plugin_devices,
    tally,
    together,
)
from spawner.capacity.dra import Dra
from spawner.capacity.model import Count
from spawner.capacity.slim import SlimNode, SlimPod
from spawner.capacity.slim_dra import SlimSlice

__all__ = ["ClusterState"]


class ClusterState:
    """What is known of one cluster.

    Parameters
    ----------
    catalogue
        Its accelerators are counted, those that Kubernetes has.
    namespace
        That of the deployment's own sessions: its pods with a spawn id are ours, all others are others'.
    tolerations
        Of every session, beside those of its accelerator.
    """

    def __init__(self, catalogue: Catalogue, namespace: str, tolerations: Sequence[Toleration] = ()) -> None:
        found = (Kind.of(key, accelerator) for key, accelerator in catalogue.accelerators.items())
        kinds = (*(kind for kind in found if kind is not None), Kind(NO_ACCELERATOR))
        self.kinds = tuple(replace(kind, tolerations=(*kind.tolerations, *tolerations)) for kind in kinds)
        self.nodes: dict[str, SlimNode] = {}
        self.pods: dict[str, SlimPod] = {}
        dra = {kind.key: kind.dra for kind in self.kinds if kind.dra is not None}
        rivals = {key: self._rivals(key, dra) for key in dra}
        self.dra = Dra(dra, namespace, self._is_ours, rivals)
        self._ours = f"{namespace}/"
        self._usage: dict[str, Usage] = {}
        self._kinds_on: dict[str, tuple[Kind, ...]] = {}
        self._tallies: dict[str, dict[str, Tally]] = {}
        self._sums = {kind.key: Sum() for kind in self.kinds}
        self._changed: set[str] = set()
        self._spawns: dict[str, set[str]] = {}
        self._our_uids: set[str] = set()

    def _rivals(self, key: str, keys: Iterable[str]) -> tuple[str, ...]:
        """Return which of the kinds may be on a node that this one may be on."""
        kinds = {kind.key: kind for kind in self.kinds}
        return tuple(other for other in keys if other != key and not kinds[key].apart(kinds[other]))

    # --- changes ---------------------------------------------------------------------------------------------------

    def put_node(self, node: SlimNode) -> None:
        """Take over a node that is new or has changed."""
        before = self.nodes.get(node.name)
        if before == node:
            return  # a heartbeat
        self.nodes[node.name] = node
        if before is None or before.labels != node.labels:
            self._kinds_on[node.name] = tuple(kind for kind in self.kinds if kind.on(node.labels))
        self._changed.add(node.name)

    def forget_node(self, name: str) -> None:
        """Take a node out; what its pods use is kept, in case it comes back under them."""
        if self.nodes.pop(name, None) is not None:
            self._changed.add(name)

    def put_pod(self, pod: SlimPod) -> None:
        """Take over a pod that is new or has changed."""
        before = self.pods.get(pod.key)
        if before == pod:
            return
        if before is not None:
            self._uncount(before)
        self.pods[pod.key] = pod
        self._count(pod)

    def forget_pod(self, key: str) -> None:
        """Take a pod out."""
        pod = self.pods.pop(key, None)
        if pod is not None:
            self._uncount(pod)

    def _count(self, pod: SlimPod) -> None:
        if self._is_our(pod):
            self._spawns.setdefault(pod.spawn_id, set()).add(pod.key)
            self._our_uids.add(pod.uid)
            self.dra.owner_changed(pod.uid)
        if pod.node and not pod.finished:
            self._usage.setdefault(pod.node, Usage()).change(pod, self._is_our(pod), 1)
            self._changed.add(pod.node)

    def _uncount(self, pod: SlimPod) -> None:
        if self._is_our(pod):
            keys = self._spawns.get(pod.spawn_id, set())
            keys.discard(pod.key)
            if not keys:
                self._spawns.pop(pod.spawn_id, None)
            self._our_uids.discard(pod.uid)
            self.dra.owner_changed(pod.uid)
        if pod.node and not pod.finished:
            usage = self._usage[pod.node]
            usage.change(pod, self._is_our(pod), -1)
            if not usage.pods:
                del self._usage[pod.node]
            self._changed.add(pod.node)

    def _is_our(self, pod: SlimPod) -> bool:
        return bool(pod.spawn_id) and pod.key.startswith(self._ours)

    def _is_ours(self, uid: str) -> bool:
        return uid in self._our_uids

    # --- answers ---------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, Count]:
        """Return the count of every accelerator that Kubernetes has, and of `none`."""
        self._changed |= self.dra.changed_nodes()
        for name in self._changed:
            self._retally(name)
        self._changed.clear()
        counts = {key: found.count() for key, found in self._sums.items()}
        for kind in self.kinds:
            if kind.dra is not None:
                counts[kind.key] = self._complete(kind, counts[kind.key])
        return counts

    def seen(self) -> Iterator[str]:
        """Yield the spawn ids of our sessions that the counts include."""
        for spawn_id, keys in self._spawns.items():
            if any(self._is_counted(self.pods[key]) for key in keys):
                yield spawn_id

    def ended(self, spawn_id: str) -> bool | None:
        """Return whether every pod of this start has finished; None: there is none."""
        keys = self._spawns.get(spawn_id)
        return None if not keys else all(self.pods[key].finished for key in keys)

    def _is_counted(self, pod: SlimPod) -> bool:
        # A claim is allocated before its pod is bound, but the two are told by different watches.
        return bool(pod.node) and not pod.finished and (not pod.claims or self.dra.holds(pod.uid))

    def _retally(self, name: str) -> None:
        old = self._tallies.pop(name, {})
        node = self.nodes.get(name)
        new: dict[str, Tally] = {}
        if node is None:
            self._kinds_on.pop(name, None)
        else:
            usage = self._usage.get(name, NOTHING)
            for kind in self._kinds_on[name]:
                part = tally(kind, node, usage, self._devices(kind, node, usage))
                if part is not None:
                    new[kind.key] = part
            self._tallies[name] = new
        for key in old.keys() | new.keys():
            if old.get(key) != new.get(key):
                if key in old:
                    self._sums[key].remove(old[key])
                if key in new:
                    self._sums[key].add(new[key])

    def _devices(self, kind: Kind, node: SlimNode, usage: Usage) -> Devices:
        if kind.resource is not None:
            return plugin_devices(kind.resource, node, usage)
        if kind.dra is not None:
            return self.dra.devices(kind.key, node.name)
        return Devices(0, 0)

    def _complete(self, kind: Kind, local: Count) -> Count:
        """Return the count of a DRA kind with the devices that several nodes can reach."""
        unknown = self.dra.unknown(kind.key)
        if unknown:
            return Count(unknown=unknown)
        rest = Sum()
        parts = tuple(self.dra.shared(kind.key))
        for part, devices in parts:
            self._add_shared(rest, kind, part, devices)
        if parts:
            self._add_room(rest, kind, parts)
        return together(local, rest.count())

    def _add_shared(self, total: Sum, kind: Kind, part: SlimSlice, devices: Devices) -> None:
        """Add a slice's devices once, however many nodes reach them."""
        whys = [
            held_back(kind, node, self._usage.get(name, NOTHING))
            for name, node in self.nodes.items()
            if kind.on(node.labels) and part.reaches(name, node.labels)
        ]
        if not whys:
            return  # no node of this kind reaches them
        left = devices.offered - devices.by_us - devices.by_others
        why = "" if "" in whys else whys[0]
        held = (*devices.withheld, (why, left)) if why and left else devices.withheld
        total.add(Tally(0 if why else left, devices.by_us, devices.by_others, held, None, None))

    def _add_room(self, total: Sum, kind: Kind, parts: Sequence[tuple[SlimSlice, Devices]]) -> None:
        """Add the room on each node for its own devices and all that it reaches: one claim takes them together."""
        for name, node in self.nodes.items():
            reached = [devices for part, devices in parts if part.reaches(name, node.labels)]
            if not reached or not kind.on(node.labels):
                continue
            own = self._tallies[name].get(kind.key)
            with_own = Devices(
                sum(devices.offered for devices in reached) + (own.free if own else 0),
                sum(devices.whole for devices in reached) + (own.empty.count if own and own.empty else 0),
                by_others=sum(devices.by_us + devices.by_others for devices in reached),
            )
            found = tally(kind, node, self._usage.get(name, NOTHING), with_own)
            if found is not None:
                total.add(Tally(0, 0, 0, (), found.now, found.empty))
