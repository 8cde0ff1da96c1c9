"""The naive way to say what is free, as the predecessor had it: list the whole cluster for each page view.

Two lists of nodes and one of pods, through the synchronous client; here at least in a thread, so that the hub can go on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from kubernetes import client, config

from profiles.access import Person
from profiles.model import Catalogue
from spawner.capacity.availability import Availability
from spawner.capacity.model import Count, Snapshot
from spawner.reservation import Reservation

__all__ = ["NaiveDesk"]


class NaiveDesk:
    """Counts by listing; grants everything."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        config.load_kube_config()
        self.core = client.CoreV1Api()

    def __deepcopy__(self, memo: object) -> NaiveDesk:
        return self

    async def availability(self) -> Availability:
        """List and count, for this view alone."""
        now = datetime.now(UTC)
        snapshot = Snapshot("kubernetes", now, await asyncio.to_thread(self._count))
        return Availability(snapshot, fresh=True, as_of=now)

    async def reserve(self, wanted: Reservation, *, expires_in_s: float, person: Person | None = None) -> Reservation:
        """Grant it."""
        return wanted

    async def release(self, spawn_id: str) -> None:
        """Nothing was held."""

    def _count(self) -> dict[str, Count]:
        models = {node.metadata.name: node for node in self.core.list_node().items}
        capacity = {node.metadata.name: node.status.allocatable for node in self.core.list_node().items}
        used: dict[str, Counter[str]] = {}
        for pod in self.core.list_pod_for_all_namespaces().items:
            if pod.status.phase in ("Succeeded", "Failed") or not pod.spec.node_name:
                continue
            for container in pod.spec.containers:
                for resource, quantity in (container.resources.limits or {}).items():
                    if "/" in resource:
                        used.setdefault(pod.spec.node_name, Counter())[resource] += int(quantity)
        return {key: self._one(key, models, capacity, used) for key in self.catalogue.accelerators}

    def _one(self, key: str, models: dict[str, Any], capacity: dict[str, Any], used: dict[str, Counter[str]]) -> Count:
        device = self.catalogue.accelerators[key].kubernetes
        if device is None or device.resource is None:
            return Count()
        total = taken = 0
        for name, node in models.items():
            labels = node.metadata.labels or {}
            if all(labels.get(label) in values for label, values in device.node_labels.items()):
                here = int(capacity.get(name, {}).get(device.resource, 0))
                total += here
                taken += min(here, used.get(name, Counter())[device.resource])
        return Count(total, total - taken, 0, taken)
