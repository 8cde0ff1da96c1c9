"""What the controller does in the cluster: it counts from a watch of everything, and ends what belongs to nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hub.reconcile.cluster import KubernetesEngine, look_at
from hub.reconcile.picture import Running
from spawner.capacity.watch import ClusterWatch
from tests.cluster.scene import CLAIMED_CARDS, PLAIN_CARDS, Scene

__all__ = ["PIECES"]

_STEADY_S = 1.0


@asynccontextmanager
async def _watching(scene: Scene) -> AsyncIterator[ClusterWatch]:
    watch = ClusterWatch(scene.catalogue, scene.site.users)
    await watch.start()
    try:
        yield watch
    finally:
        await watch.stop()


def _engine(scene: Scene, watch: ClusterWatch) -> KubernetesEngine:
    return KubernetesEngine(lambda: look_at(watch.state), scene.site.users)


async def all_cards_are_counted_and_stay_so(scene: Scene) -> None:
    """The counts are those of the simulated node, and for a while nothing is said to be out of sight."""
    async with _watching(scene) as watch:

        def counted() -> bool:
            if not watch.loaded:
                return False
            seen = watch.snapshot()
            plain, claimed = seen.accelerators["plain"], seen.accelerators[scene.card]
            known = seen.blind_since is None and not claimed.unknown
            return known and (plain.total, claimed.total) == (PLAIN_CARDS, CLAIMED_CARDS)

        async def steady() -> bool:
            loop = asyncio.get_running_loop()
            until = loop.time() + _STEADY_S
            while counted():
                if loop.time() > until:
                    return True
                await asyncio.sleep(0.02)
            return False

        await scene.until(steady, "all cards are counted, and nothing is out of sight")


async def a_pod_of_nobody_is_ended(scene: Scene) -> None:
    """A pod of ours that the hub knows nothing of: the controller sees it, looks whose it is, and ends it."""
    name, spawn_id = f"lost-{scene.tag}", f"spawn-{scene.tag}"
    marks = {"armillary/spawn-id": spawn_id, "hub.jupyter.org/username": "ann"}
    await scene.core.create_namespaced_pod(scene.site.users, _pod(name, marks))
    async with _watching(scene) as watch:
        engine = _engine(scene, watch)

        async def found() -> Running | None:
            return (await engine.running() or {}).get(spawn_id)

        running = await scene.until(found, "the pod is seen")
        owner = await engine.owner(running)
        assert owner is not None, "nobody can tell whose the pod is"
        assert owner.user == "ann"
        assert await engine.end(running), "the pod is not ended"
        await scene.until(lambda: scene.gone(scene.core.read_namespaced_pod, name), "the pod is gone")


async def a_claim_of_nobody_is_removed(scene: Scene) -> None:
    """A claim of ours that has a device while no pod uses it."""
    site, name = scene.site, f"lost-{scene.tag}"
    exactly = {"deviceClassName": site.driver}
    body = {
        "metadata": {"name": name, "labels": {"armillary/accelerator": scene.card}},
        "spec": {"devices": {"requests": [{"name": "devices", "exactly": exactly}]}},
    }
    await scene.devices.create_namespaced_resource_claim(site.users, body)
    result = {"request": "devices", "driver": site.driver, "pool": site.node, "device": f"of-{name}"}
    status = {"status": {"allocation": {"devices": {"results": [result]}}}}
    await scene.devices.patch_namespaced_resource_claim_status(
        name, site.users, status, _content_type="application/merge-patch+json"
    )
    async with _watching(scene) as watch:
        engine, key = _engine(scene, watch), f"{site.users}/{name}"

        async def found() -> bool:
            return key in await engine.claims()

        await scene.until(found, "the claim is seen")
        assert await engine.drop_claim(key), "the claim is not removed"
        await scene.until(lambda: scene.gone(scene.devices.read_namespaced_resource_claim, name), "the claim is gone")


def _pod(name: str, annotations: dict[str, str]) -> dict[str, Any]:
    """A pod that satisfies Pod Security and waits for a node that there is not."""
    confined = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {"name": "notebook", "image": "localhost/none:1", "securityContext": confined}
    spec = {
        "nodeSelector": {"rights.lab.test/none": "such"},
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {"metadata": {"name": name, "annotations": annotations}, "spec": spec}


PIECES = (all_cards_are_counted_and_stay_so, a_pod_of_nobody_is_ended, a_claim_of_nobody_is_removed)
