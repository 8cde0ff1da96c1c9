"""The controller's work on Kubernetes: watch the cluster, publish what is free, give back what ended pods held."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from hub.controller.loop import DATABASE_AWAY, Publisher
from hub.metrics import APPLIED
from hub.reconcile.cluster import look_at
from hub.settings import Settings
from hub.usage.ledger import Ran
from profiles.model import Catalogue
from spawner.capacity.cluster import ClusterState
from spawner.capacity.watch import ClusterWatch, NoCluster
from spawner.reservation import Reservation

__all__ = ["PUBLISH_S", "run", "seen_and_gone"]

_log = logging.getLogger(__name__)

PUBLISH_S = 3.0
"""How often counts are published although nothing changed, so that they do not look stale."""

_DEBOUNCE_S = 0.25
"""How long further changes are waited for before one is published: what changes together is published together."""

_LOOK_S = 0.5
"""How often it is looked whether the cluster is still seen."""

_PAUSE_S = 1.0


async def run(settings: Settings, catalogue: Catalogue, publisher: Publisher, stop: asyncio.Event) -> None:
    """Publish on change and at least every 3 s, until `stop` is set.

    Raises
    ------
    StaleEpoch
        Another controller leads.
    """
    watch = ClusterWatch(catalogue, settings.kubernetes.namespace, settings.kubernetes.tolerations)
    if not await _begin(watch, publisher, stop):
        return
    try:
        await _publish_changes(watch, publisher, stop)
    finally:
        await watch.stop()


async def _begin(watch: ClusterWatch, publisher: Publisher, stop: asyncio.Event) -> bool:
    """Begin to watch, trying until there is a cluster to watch; return whether there is one before `stop` is set."""
    while not stop.is_set():
        try:
            await watch.start()
        except NoCluster as error:
            publisher.status.blinded(str(error), _log)
            await _pause(stop, 5 * _PAUSE_S)
        else:
            return True
    return False


async def _publish_changes(watch: ClusterWatch, publisher: Publisher, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    published_at = -PUBLISH_S
    published_blind = False
    applied = 0
    while not stop.is_set():
        changed = await _wait(watch.changed, stop)
        watch.ensure_running()
        blind = watch.blind_because
        publisher.status.blinded(blind, _log)
        news = bool(blind) != published_blind
        due = loop.time() - published_at >= PUBLISH_S
        if changed and not (news and blind):
            await _pause(stop, _DEBOUNCE_S)
        watch.changed.clear()
        if not watch.loaded or not (changed or due or news):
            continue
        try:
            published_blind = await _publish(watch, publisher)
        except DATABASE_AWAY as error:
            publisher.failed(error)
            watch.changed.set()
            await _pause(stop, _PAUSE_S)
            continue
        published_at = loop.time()
        APPLIED.inc(watch.applied - applied)
        applied = watch.applied


async def _publish(watch: ClusterWatch, publisher: Publisher) -> bool:
    """Publish the counts of now; return whether they say that nothing is seen."""
    held = await publisher.reservations()
    # From here to the end of the count nothing else runs: what is called seen is in the numbers.
    snapshot = watch.snapshot()
    seen, gone = seen_and_gone(watch.state, held)
    ours = [pod for pod in watch.state.pods.values() if pod.spawn_id]
    publisher.status.cluster = look_at(watch.state) if snapshot.blind_since is None else None
    publisher.status.pods = {pod.spawn_id: pod.key.partition("/")[2] for pod in ours}
    ran = {pod.spawn_id: Ran(pod.node, pod.image, pod.digest) for pod in ours if not pod.finished}
    if snapshot.blind_since is not None:
        gone = frozenset()  # what is gone is gone all the same when it can be seen again
    await publisher.publish(snapshot, seen=seen, gone=gone, ran=ran)
    return snapshot.blind_since is not None


def seen_and_gone(state: ClusterState, held: Iterable[Reservation]) -> tuple[frozenset[str], frozenset[str]]:
    """Return which reservations the counts include now, and of which nothing is left.

    A pod that waits for a node is in no count, so its reservation is not seen yet. Nothing is left of a start whose
    pod has finished, or was seen and is not there any more.
    """
    counted = frozenset(state.seen())
    seen, gone = set(), set()
    for one in held:
        ended = state.ended(one.id)
        if ended or (ended is None and one.seen):
            gone.add(one.id)
        elif one.id in counted:
            seen.add(one.id)
    return frozenset(seen), frozenset(gone)


async def _wait(changed: asyncio.Event, stop: asyncio.Event) -> bool:
    """Wait for a change, for a moment at most; return whether there was one."""
    waiting = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(stop.wait())]
    try:
        await asyncio.wait(waiting, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    return changed.is_set()


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
