"""The way of one start when all is well, and what it leaves in the cluster."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from spawner.pod import SPAWN_ID
from tests.faults.conftest import World
from tests.faults.kube_api import ScriptedCluster, dump


async def test_a_start_tells_each_step_and_ends_with_the_address_of_the_pod(
    world: World, cluster: ScriptedCluster
) -> None:
    start = world.start()
    await world.until(lambda: "Waiting for a node" in world.said())
    cluster.bind()
    await world.until(lambda: "A node was found; connecting your home" in world.said())
    cluster.event("Pulling", 'Pulling image "example.org/base:1"')
    await world.until(lambda: "Pulling the image example.org/base:1" in world.said())
    cluster.event("Pulled", "Successfully pulled image")
    await world.until(lambda: "Making the container" in world.said())
    cluster.container({"running": {}})
    await start
    assert world.said() == [
        "Preparing your session",
        "Asking the cluster for your session",
        "Waiting for a node",
        "A node was found; connecting your home",
        "Pulling the image example.org/base:1",
        "Making the container",
        "Starting JupyterLab",
    ]
    assert world.spawner.server.ip == "127.0.0.1"
    assert await world.spawner.poll() is None
    assert cluster.count("post", "pods") == 1
    assert cluster.count("get", "pods") == 1, "one list; nothing is polled"


async def test_the_token_is_in_a_secret_that_the_pod_owns_and_not_in_the_pod(
    world: World, cluster: ScriptedCluster
) -> None:
    await world.started()
    token = world.spawner.api_token
    pod, secret = cluster.pod(), cluster.objects["secrets", "default", "jupyter-ann-env"]
    assert pod is not None
    assert token
    assert token not in dump(pod)
    assert base64.b64encode(token.encode()).decode() not in dump(pod)
    assert secret["stringData"] == {"JUPYTERHUB_API_TOKEN": token}
    environment = {variable["name"]: variable for variable in pod["spec"]["containers"][0]["env"]}
    assert environment["JUPYTERHUB_API_TOKEN"]["valueFrom"] == {
        "secretKeyRef": {"name": "jupyter-ann-env", "key": "JUPYTERHUB_API_TOKEN"}
    }
    assert "JPY_API_TOKEN" not in environment
    await world.until(lambda: "ownerReferences" in cluster.objects["secrets", "default", "jupyter-ann-env"]["metadata"])
    cluster.remove("pods", "jupyter-ann")
    assert cluster.names("secrets") == [], "the Secret goes with the pod"


async def test_stop_removes_pod_and_secret_and_keeps_the_home(world: World, cluster: ScriptedCluster) -> None:
    await world.started()
    await world.user.stop("")
    assert (cluster.names("pods"), cluster.names("secrets")) == ([], [])
    assert cluster.names("persistentvolumeclaims") == ["claim-ann"]


async def test_the_next_start_finds_the_same_home_and_has_another_token_and_identity(
    world: World, cluster: ScriptedCluster
) -> None:
    await world.started()
    first = cluster.pod()
    token = world.spawner.api_token
    await world.user.stop("")
    await world.started()
    second = cluster.pod()
    assert first is not None
    assert second is not None
    assert world.spawner.api_token != token
    assert first["metadata"]["annotations"][SPAWN_ID] != second["metadata"]["annotations"][SPAWN_ID]
    assert cluster.count("post", "persistentvolumeclaims") == 1
    assert [v["persistentVolumeClaim"] for v in second["spec"]["volumes"] if "persistentVolumeClaim" in v] == [
        {"claimName": "claim-ann"}
    ]


async def test_a_home_that_was_deleted_is_made_again_and_the_user_is_told(
    world: World, cluster: ScriptedCluster
) -> None:
    await world.started()
    await world.user.stop("")
    cluster.remove("persistentvolumeclaims", "claim-ann")
    world.restarted()
    await world.started()
    assert cluster.names("persistentvolumeclaims") == ["claim-ann"]
    assert "Your old home does not exist any more; you get a new, empty one" in world.said()


async def test_a_refused_request_touches_nothing(world: World, cluster: ScriptedCluster) -> None:
    text = await world.refused(world.start(profile="nonsense"))
    assert "nonsense" in text
    assert cluster.objects == {}


async def test_named_servers_share_the_home_and_nothing_else(world: World, cluster: ScriptedCluster) -> None:
    await world.started()
    second = asyncio.ensure_future(world.user.spawn("two", options={"profile": "cpu"}))
    await world.until(lambda: cluster.pod("jupyter-ann--two"))
    cluster.bind("jupyter-ann--two")
    cluster.container({"running": {}}, name="jupyter-ann--two")
    await second
    assert cluster.names("persistentvolumeclaims") == ["claim-ann"]
    assert cluster.names("secrets") == ["jupyter-ann--two-env", "jupyter-ann-env"]
    await world.user.stop("two")
    assert cluster.names("pods") == ["jupyter-ann"]


@pytest.mark.parametrize("hook", ["sync", "async"])
async def test_the_deployers_hooks_see_the_pod_and_may_change_it(
    world: World, cluster: ScriptedCluster, hook: str
) -> None:
    created: list[str] = []

    def change(spawner: Any, pod: Any) -> Any:
        pod.metadata.labels["site"] = "north"
        pod.metadata.annotations.clear()
        return pod

    async def change_later(spawner: Any, pod: Any) -> Any:
        return change(spawner, pod)

    world.config.ArmillarySpawner.modify_pod_hook = change if hook == "sync" else change_later
    world.config.ArmillarySpawner.after_pod_created_hook = lambda _, pod: created.append(pod["metadata"]["name"])
    start = world.start()
    pod = await world.until(cluster.pod)
    assert pod["metadata"]["labels"]["site"] == "north"
    assert SPAWN_ID in pod["metadata"]["annotations"], "what tells our pods from others is put on last"
    await world.running()
    await start
    assert created == ["jupyter-ann"]


async def test_a_start_that_takes_too_long_says_what_it_was_waiting_for(world: World, cluster: ScriptedCluster) -> None:
    world.config.ArmillarySpawner.start_timeout = 1
    start = world.start()
    await world.until(cluster.pod)
    message = (
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. "
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    cluster.set_status(conditions=[condition])
    assert await world.refused(start) == (
        "Your server was not ready after 1 second. It was waiting for this: Waiting for a node: No node has enough free "
        "nvidia.com/gpu at the moment; it is free again when somebody else stops. Try again later."
    )
    assert cluster.names("pods") == []


async def test_what_only_a_start_needs_is_not_kept_as_long_as_the_server_runs(world: World) -> None:
    await world.started()
    spawner = world.spawner
    assert spawner.known is None, "all that anybody held when it started, for each server"
    assert spawner._last_view is None
    assert spawner._pod_maker().in_flight is None, "the whole pod, as it was made"
