"""The pod fails, early or late: its user reads why, at once, and nothing is left behind."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.conftest import World
from tests.faults.kube_api import ScriptedCluster

_ADVICE = "Ask your administrators if it happens again."
_GONE = "The image “example.org/base:1” does not exist. Choose another image. " + _ADVICE


async def test_an_image_that_does_not_exist_is_told_at_the_first_failure(
    world: World, cluster: ScriptedCluster
) -> None:
    start = world.start()
    await world.until(cluster.pod)
    cluster.bind()
    waiting = {"reason": "ErrImagePull", "message": "rpc error: manifest unknown: not found"}
    cluster.container({"waiting": waiting}, phase="Pending")
    assert await world.refused(start) == _GONE
    assert (cluster.names("pods"), cluster.names("secrets")) == ([], [])


async def test_a_profile_that_fits_on_no_node_is_refused_at_once(world: World, cluster: ScriptedCluster) -> None:
    start = world.start(profile="gpu")
    await world.until(cluster.pod)
    message = (
        "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. "
        "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    cluster.set_status(conditions=[condition])
    assert await world.refused(start) == (
        "No node of the cluster has T4 as this profile asks for it. Choose something else. " + _ADVICE
    )
    assert cluster.names("pods") == []


async def test_where_nodes_appear_by_themselves_the_same_profile_waits(world: World, cluster: ScriptedCluster) -> None:
    world.config.ArmillarySpawner.nodes_may_appear = True
    start = world.start(profile="gpu")
    await world.until(cluster.pod)
    message = (
        "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. "
        "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    cluster.set_status(conditions=[condition])
    cluster.event("TriggeredScaleUp", "pod triggered scale-up")
    await world.until(lambda: "A new node is being started for you; this takes some minutes" in world.said())
    await world.running()
    await start


CRASHES = [
    pytest.param(
        {"exitCode": 1, "reason": "Error", "message": "Traceback\nModuleNotFoundError: No module named 'jupyterhub'"},
        "Your server has crashed (exit code 1). Its last words: “ModuleNotFoundError: No module named 'jupyterhub'”. "
        + _ADVICE,
        id="crash",
    ),
    pytest.param(
        {"exitCode": 137, "reason": "OOMKilled"},
        "Your server was ended because it had used all of its 2 GiB of memory. "
        "Start it again with more memory, or use less at once.",
        id="out-of-memory",
    ),
    pytest.param(
        {"exitCode": 128, "reason": "StartError", "message": 'exec: "jupyterhub-singleuser": not found in $PATH'},
        "The image has no server to start: “exec: \"jupyterhub-singleuser\": not found in $PATH”. Choose another image. "
        + _ADVICE,
        id="no-program",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("terminated", "text"), CRASHES)
async def test_a_crash_at_the_start_is_told_with_its_cause(
    world: World, cluster: ScriptedCluster, terminated: dict[str, Any], text: str
) -> None:
    world.config.ArmillarySpawner.port = 9  # nothing answers there: the server was still loading
    start = world.start()
    await world.running()
    await world.until(lambda: "Starting JupyterLab" in world.said())
    cluster.container({"terminated": terminated}, phase="Failed")
    assert await world.refused(start) == text
    assert (cluster.names("pods"), cluster.names("secrets")) == ([], [])
    assert world.spawner.ended is not None
    assert world.spawner.ended.text == text, "also to be read after the page of the start is gone"


async def test_a_pod_that_is_deleted_while_it_starts_is_told(world: World, cluster: ScriptedCluster) -> None:
    start = world.start()
    await world.until(cluster.pod)
    cluster.bind()
    await world.until(lambda: "A node was found; connecting your home" in world.said())
    cluster.remove("pods", "jupyter-ann")
    text = "Your server was deleted in the cluster while it was starting. Start it again."
    assert await world.refused(start) == text


_GONE_WITH_ITS_NODE = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
_NODE_GONE = "Your server was ended because its node is gone. Your home is unchanged. Start it again."


async def test_a_pod_whose_node_is_lost_while_it_starts_is_told_so(world: World, cluster: ScriptedCluster) -> None:
    start = world.start()
    await world.until(cluster.pod)
    cluster.bind()
    await world.until(lambda: "A node was found; connecting your home" in world.said())
    cluster.set_status(phase="Failed", conditions=[_GONE_WITH_ITS_NODE])
    cluster.remove("pods", "jupyter-ann")
    assert await world.refused(start) == _NODE_GONE


async def test_a_pod_that_went_with_its_node_between_two_polls_is_told_so(
    world: World, cluster: ScriptedCluster
) -> None:
    await world.started()
    cluster.set_status(phase="Failed", conditions=[_GONE_WITH_ITS_NODE])
    cluster.remove("pods", "jupyter-ann")
    await world.until(lambda: not world.spawner.live_pods().resources)
    assert await world.spawner.poll() == 1
    assert world.spawner.ended is not None
    assert (world.spawner.ended.code, world.spawner.ended.text) == ("node-lost", _NODE_GONE)


async def test_a_pod_that_made_room_and_ended_in_good_order_between_two_polls_is_told_so(
    world: World, cluster: ScriptedCluster
) -> None:
    await world.started()
    pod = cluster.objects["pods", "default", "jupyter-ann"]
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster.set_status(conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}])
    cluster.container({"terminated": {"exitCode": 0, "reason": "Completed"}}, phase="Succeeded")
    cluster.remove("pods", "jupyter-ann")
    await world.until(lambda: not world.spawner.live_pods().resources)
    await world.spawner.poll()
    assert world.spawner.ended is not None
    assert world.spawner.ended.code == "drained"


async def test_an_evicted_pod_is_removed_and_the_reason_kept(world: World, cluster: ScriptedCluster) -> None:
    await world.started()
    cluster.set_status(
        phase="Failed", reason="Evicted", message="The node was low on resource: memory.", containerStatuses=None
    )
    await world.until(lambda: world.spawner.live_pods().resources["default/jupyter-ann"]["status"]["phase"] == "Failed")
    assert await world.spawner.poll() == 1
    text = (
        "Your server was ended because its node had run out of memory. Your home is unchanged. "
        "Start it again, with more memory if it needs more."
    )
    assert world.spawner.ended is not None
    assert world.spawner.ended.text == text
    assert (cluster.names("pods"), cluster.names("secrets")) == ([], [])
    assert world.spawner.get_state()["armillary"]["ended"] == {"code": "evicted", "text": text}


async def test_a_pod_deleted_behind_our_back_is_ended_with_the_reason_and_the_next_start_works(
    world: World, cluster: ScriptedCluster
) -> None:
    await world.started()
    cluster.remove("pods", "jupyter-ann")
    await world.until(lambda: not world.spawner.live_pods().resources)
    assert await world.spawner.poll() == 1
    text = "Your server was deleted in the cluster by somebody else."
    await world.user.stop("")
    assert world.restarted().spawners[""].notices() == [f"Last time: {text}"]
    await world.started()
    assert world.spawner.notices() == []


async def test_a_server_that_runs_out_of_memory_ends_with_its_exit_code_for_good(
    world: World, cluster: ScriptedCluster
) -> None:
    await world.started()
    cluster.container({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, phase="Failed")
    await world.until(lambda: world.spawner.live_pods().resources["default/jupyter-ann"]["status"]["phase"] == "Failed")
    assert await world.spawner.poll() == 137
    assert cluster.names("pods") == []
    await world.until(lambda: not world.spawner.live_pods().resources)
    assert await world.spawner.poll() == 137, "JupyterHub asks twice"
    assert world.spawner.ended is not None
    assert world.spawner.ended.code == "out-of-memory"


async def test_pods_that_ended_can_be_kept_for_a_look_at_them(world: World, cluster: ScriptedCluster) -> None:
    world.config.ArmillarySpawner.delete_stopped_pods = False
    await world.started()
    cluster.container({"terminated": {"exitCode": 3}}, phase="Failed")
    await world.until(lambda: world.spawner.live_pods().resources["default/jupyter-ann"]["status"]["phase"] == "Failed")
    assert await world.spawner.poll() == 3
    assert cluster.names("pods") == ["jupyter-ann"]


async def test_a_stop_that_is_stuck_says_so(world: World, cluster: ScriptedCluster) -> None:
    world.config.ArmillarySpawner.stop_timeout = 1
    await world.started()
    pod = cluster.pod()
    assert pod is not None
    pod["metadata"]["finalizers"] = ["example.org/stuck"]
    with pytest.raises(Exception, match="is still there 1 s after its deletion"):
        await world.user.stop("")
