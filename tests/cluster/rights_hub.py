"""What the hub does in the cluster, by the spawner as JupyterHub calls it; sessions are played on a simulated node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from traitlets.config import Config

from tests.cluster.scene import Scene
from tests.cluster.sessions import WORLD
from tests.lab import kwok
from tests.spawner.hub_user import HubUser, answering

__all__ = ["PIECES"]


@asynccontextmanager
async def _person(scene: Scene, name: str) -> AsyncIterator[HubUser]:
    """Somebody new, whose sessions find a place on the simulated node."""
    async with answering() as port:
        config = Config()
        own = config.ArmillarySpawner
        own.catalogue = scene.catalogue
        own.namespace = scene.site.users
        own.pod_connect_ip, own.port = "127.0.0.1", port
        own.node_selector = {WORLD: scene.site.users}
        own.tolerations = [{"key": kwok.TAINT["key"], "operator": "Exists"}]
        # The lab's volumes are of the real node: there is a claim for the home, and no pod mounts it.
        own.storage_class = "none-such"
        own.volumes = [{"name": "home", "emptyDir": {}}]
        own.volume_mounts = [{"name": "home", "mountPath": "/home/user"}]
        own.k8s_api_request_retry_timeout = 5
        person = HubUser(f"{scene.tag}-{name}", config)
        try:
            yield person
        finally:
            person.close()


async def a_session_with_a_card_starts_and_stops(scene: Scene) -> None:
    """What a start makes is there and is followed, and a stop leaves nothing but the home."""
    async with _person(scene, "ann") as person:
        options = {"profile": "lab", "accelerator": scene.card}
        await scene.done(person.user.spawn("", options=options), "a session starts")
        spawner, users = person.spawner, scene.site.users
        pods, events = spawner.live_pods(), spawner.live_events()
        assert events is not None
        await scene.until(lambda: pods.connected and events.connected, "pods and events are followed")
        name = spawner.pod_name
        uid = (await scene.core.read_namespaced_pod(name, users)).metadata.uid
        watch = spawner.watch({"metadata": {"namespace": users, "name": name, "uid": uid}})

        def told() -> bool:
            return "Scheduled" in [event["reason"] for event in watch.view().events]

        async def owned() -> bool:
            secret = await scene.core.read_namespaced_secret(spawner.environment_secret, users)
            return uid in [one.uid for one in secret.metadata.owner_references or ()]

        await scene.until(told, "an event tells that there is a place")
        await scene.until(owned, "the Secret goes with the pod")
        await scene.done(person.user.stop(""), "the session stops")
        assert await scene.gone(scene.core.read_namespaced_pod, name)
        assert await scene.gone(scene.core.read_namespaced_secret, spawner.environment_secret)
        assert not await scene.gone(scene.core.read_namespaced_persistent_volume_claim, spawner.pvc_name)


async def the_end_of_a_session_is_noticed(scene: Scene) -> None:
    """A pod that an administrator deletes is no session for the hub any more."""
    async with _person(scene, "ben") as person:
        await scene.done(person.user.spawn("", options={"profile": "lab", "accelerator": "none"}), "a session starts")
        spawner = person.spawner
        body = {"gracePeriodSeconds": 0}
        await scene.core.delete_namespaced_pod(spawner.pod_name, scene.site.users, body=body)

        async def ended() -> bool:
            return await spawner.poll() is not None

        await scene.until(ended, "the hub knows that the session has ended")


PIECES = (a_session_with_a_card_starts_and_stops, the_end_of_a_session_is_noticed)
