"""Devices of Dynamic Resource Allocation, kept up to date change by change: which are whose, which are free.

The rules are the scheduler's (k8s.io/dynamic-resource-allocation/structured): of each pool only the slices of its
newest generation count, and only if all of them are there. Where devices are no plain things that one claim has or
nobody (partitions of each other, shared by capacity), the kind is unknown, in words, and no number is given.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from profiles.model import DraDevice
from spawner.capacity.count import BLOCKING, Devices
from spawner.capacity.selectors import Selectors, Unevaluable
from spawner.capacity.slim_dra import SlimClaim, SlimClass, SlimDevice, SlimSlice

__all__ = ["NOT_SERVED", "Dra"]

NOT_SERVED = "the cluster does not offer devices this way (resource.k8s.io/v1)"

Pool = tuple[str, str]


class Dra:
    """What is known of a cluster's devices.

    Parameters
    ----------
    kinds
        What is counted, by key of the catalogue.
    namespace
        That of the deployment's own sessions.
    is_ours
        Tells whether the uid is that of a pod of ours.
    rivals
        Of a kind, the others that may be on the same nodes: a device must not be one of both.
    """

    def __init__(
        self,
        kinds: Mapping[str, DraDevice],
        namespace: str,
        is_ours: Callable[[str], bool],
        rivals: Mapping[str, Collection[str]],
    ) -> None:
        self.unseen = ""
        """Why nothing is known of the devices now, in words for an operator; empty: it is."""
        self._kinds = dict(kinds)
        self._ours = f"{namespace}/"
        self._is_ours = is_ours
        self._rivals = rivals
        self._classes: dict[str, SlimClass] = {}
        self._slices: dict[str, SlimSlice] = {}
        self._pools: dict[Pool, dict[str, SlimSlice]] = {}
        self._by_node: dict[str, set[Pool]] = defaultdict(set)
        self._without_node: set[Pool] = set()
        self._claims: dict[str, SlimClaim] = {}
        self._holder: dict[tuple[str, str, str], str] = {}
        self._claims_of: dict[str, set[str]] = defaultdict(set)
        self._selectors: dict[str, Selectors | str] = {}
        self._matches: dict[str, dict[str, frozenset[str] | str]] = {}
        self._changed: set[str] = set()
        self._unknown: dict[str, str] | None = None

    # --- changes ---------------------------------------------------------------------------------------------------

    def put_class(self, new: SlimClass) -> None:
        """Take over a device class that is new or has changed."""
        if self._classes.get(new.name) != new:
            self._classes[new.name] = new
            self._reselect()

    def forget_class(self, name: str) -> None:
        """Take a device class out."""
        if self._classes.pop(name, None) is not None:
            self._reselect()

    def put_slice(self, new: SlimSlice) -> None:
        """Take over a slice that is new or has changed."""
        if self._slices.get(new.name) == new:
            return
        self.forget_slice(new.name)
        self._slices[new.name] = new
        self._pools.setdefault((new.driver, new.pool), {})[new.name] = new
        self._place(new)

    def forget_slice(self, name: str) -> None:
        """Take a slice out."""
        old = self._slices.pop(name, None)
        if old is None:
            return
        pool = (old.driver, old.pool)
        self._touch(pool)
        self._matches.pop(name, None)
        del self._pools[pool][name]
        rest = self._pools[pool].values()
        if old.node and not any(other.node == old.node for other in rest):
            self._by_node[old.node].discard(pool)
        if all(other.node for other in rest):
            self._without_node.discard(pool)
        if not rest:
            del self._pools[pool]

    def put_claim(self, new: SlimClaim) -> None:
        """Take over a claim that is new or has changed."""
        if self._claims.get(new.key) == new:
            return
        self.forget_claim(new.key)
        self._claims[new.key] = new
        for device in new.devices:
            self._holder[device] = new.key
            self._touch(device[:2])
        if new.devices:
            for pod in new.pods:
                self._claims_of[pod].add(new.key)

    def forget_claim(self, key: str) -> None:
        """Take a claim out; its devices are free."""
        old = self._claims.pop(key, None)
        if old is None:
            return
        for device in old.devices:
            if self._holder.get(device) == key:
                del self._holder[device]
            self._touch(device[:2])
        for pod in old.pods:
            self._claims_of[pod].discard(key)
            if not self._claims_of[pod]:
                del self._claims_of[pod]

    def owner_changed(self, pod_uid: str) -> None:
        """Take note that a pod has become one of ours, or is none any more: its devices change hands."""
        for key in self._claims_of.get(pod_uid, ()):
            for device in self._claims[key].devices:
                self._touch(device[:2])

    def changed_nodes(self) -> set[str]:
        """Return the nodes whose devices may count otherwise than when this was last asked."""
        changed, self._changed = self._changed, set()
        return changed

    def _place(self, new: SlimSlice) -> None:
        pool = (new.driver, new.pool)
        if new.node:
            self._by_node[new.node].add(pool)
        else:
            self._without_node.add(pool)
        self._touch(pool)

    def _touch(self, pool: Pool) -> None:
        self._unknown = None
        self._changed.update(part.node for part in self._pools.get(pool, {}).values() if part.node)

    def _reselect(self) -> None:
        self._selectors.clear()
        self._matches.clear()
        for pool in self._pools:
            self._touch(pool)
        self._unknown = None

    def classes(self) -> Collection[str]:
        """Return the names of the classes."""
        return self._classes.keys()

    def slices(self) -> Collection[str]:
        """Return the names of the slices."""
        return self._slices.keys()

    def claims(self) -> Collection[str]:
        """Return the keys of the claims."""
        return self._claims.keys()

    # --- answers ---------------------------------------------------------------------------------------------------

    def holds(self, pod_uid: str) -> bool:
        """Return whether devices are allocated to a claim of this pod."""
        return pod_uid in self._claims_of

    def without_pods(self, pods: Collection[str]) -> list[str]:
        """Return the keys of our claims that have devices although none of their pods is among these (uids)."""
        ours = (one for key, one in self._claims.items() if key.startswith(self._ours) and one.marked)
        return [one.key for one in ours if one.devices and not any(uid in pods for uid in one.pods)]

    def devices(self, key: str, node: str) -> Devices:
        """Return the devices of a kind that only this node has."""
        parts = (part for pool in self._by_node.get(node, ()) for part in self._current(pool)[0] if part.node == node)
        return self._counted(key, parts)

    def shared(self, key: str) -> Iterator[tuple[SlimSlice, Devices]]:
        """Yield the devices of a kind that several nodes can reach, slice by slice."""
        for pool in self._without_node:
            for part in self._current(pool)[0]:
                if not part.node and not (found := self._counted(key, (part,))).empty:
                    yield part, found

    def unknown(self, key: str) -> str:
        """Return why a kind cannot be counted, in words; empty: it can."""
        if self.unseen:
            return NOT_SERVED if self.unseen == NOT_SERVED else "the cluster's devices cannot be seen at the moment"
        if self._unknown is None:
            self._unknown = {key: self._why_unknown(key) for key in self._kinds}
        return self._unknown[key]

    def _why_unknown(self, key: str) -> str:
        selectors = self._selectors_of(key)
        if isinstance(selectors, str):
            return selectors
        incomplete: dict[str, str] = {}
        drivers: set[str] = set()
        for pool in self._pools:
            current, complete = self._current(pool)
            for part in current:
                found = self._matched(key, part)
                if isinstance(found, str):
                    return found
                rival = self._rival(key, part, found)
                if rival:
                    return f"its devices are also {rival}, as the selectors of the two are in the catalogue"
                drivers.update([part.driver] if found else [])
            if not complete:
                incomplete[pool[0]] = f"the driver {pool[0]} has not told all devices of the pool {pool[1]}"
        for driver, why in incomplete.items():
            if driver in drivers or not drivers:
                return why
        return ""

    def _rival(self, key: str, part: SlimSlice, found: frozenset[str]) -> str:
        """Return which other kind has one of these devices too."""
        for other in self._rivals[key] if found else ():
            theirs = self._matched(other, part)
            if not isinstance(theirs, str) and not found.isdisjoint(theirs):
                return other
        return ""

    def _current(self, pool: Pool) -> tuple[list[SlimSlice], bool]:
        """Return the slices of the newest generation, and whether they are all there."""
        slices = self._pools.get(pool, {}).values()
        newest = max((part.generation for part in slices), default=0)
        current = [part for part in slices if part.generation == newest]
        return current, all(part.slices == len(current) for part in current)

    def _counted(self, key: str, slices: Iterable[SlimSlice]) -> Devices:
        free = by_us = by_others = whole = 0
        withheld: Counter[str] = Counter()
        for part in slices:
            found = self._matched(key, part)
            if isinstance(found, str):
                return Devices(0, 0)  # `unknown` says why
            for device in part.devices:
                if device.name not in found:
                    continue
                holder = self._holder.get((part.driver, part.pool, device.name))
                why = _tainted(device)
                whole += not why
                if holder is None:
                    free += not why
                    withheld.update([why] if why else [])
                elif self._is_our_claim(holder):
                    by_us += 1
                else:
                    by_others += 1
        return Devices(free + by_us + by_others, whole, by_us, by_others, tuple(sorted(withheld.items())))

    def _is_our_claim(self, key: str) -> bool:
        claim = self._claims[key]
        return key.startswith(self._ours) and (claim.marked or any(self._is_ours(uid) for uid in claim.pods))

    def _selectors_of(self, key: str) -> Selectors | str | None:
        """Return what selects devices of a kind; a sentence if nobody can tell, None if there is no such class."""
        device = self._kinds[key]
        found = self._classes.get(device.device_class)
        if found is None:
            return None
        if key not in self._selectors:
            try:
                self._selectors[key] = found.problem or Selectors((*found.selectors, *device.selectors))
            except Unevaluable as error:
                self._selectors[key] = str(error)
        return self._selectors[key]

    def _matched(self, key: str, part: SlimSlice) -> frozenset[str] | str:
        """Return which devices of a slice are of this kind, or why nobody can tell."""
        known = self._matches.setdefault(part.name, {})
        if key not in known:
            known[key] = self._select(key, part)
        return known[key]

    def _select(self, key: str, part: SlimSlice) -> frozenset[str] | str:
        selectors = self._selectors_of(key)
        if not isinstance(selectors, Selectors):
            return selectors or frozenset()
        found = set()
        for device in part.devices:
            try:
                if not selectors.match(part.driver, device.attributes, device.capacity, many=device.many):
                    continue
            except Unevaluable as error:
                return str(error)
            if device.uncountable:
                return device.uncountable
            found.add(device.name)
        return frozenset(found)


def _tainted(device: SlimDevice) -> str:
    return next((f"tainted ({taint.key})" for taint in device.taints if taint.effect in BLOCKING), "")
