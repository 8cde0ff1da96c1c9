"""Watches are dropped, go deaf, expire; the reflector dies: no start is lost, and no server is taken for stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import kmock as km

from spawner.metrics import REFLECTOR_LISTS, UNKNOWN_POLLS
from tests.faults.conftest import World
from tests.faults.kube_api import ScriptedCluster, problem

_PODS = "/api/v1/namespaces/default/pods"


def unknown() -> float:
    return UNKNOWN_POLLS._value.get()


def lists() -> float:
    return REFLECTOR_LISTS.labels("pods")._value.get()


async def test_a_dropped_watch_is_resumed_where_it_was_without_another_list(
    world: World, cluster: ScriptedCluster
) -> None:
    before = lists()
    start = world.start()
    await world.until(lambda: "Waiting for a node" in world.said())
    cluster.drop_watches()
    cluster.bind()
    await world.until(lambda: "A node was found; connecting your home" in world.said())
    cluster.drop_watches()
    cluster.container({"running": {}})
    await start
    assert lists() - before == 1
    assert cluster.count("get", "pods", watch=True) >= 2


async def test_a_version_that_the_server_has_forgotten_leads_to_one_new_list(
    world: World, cluster: ScriptedCluster
) -> None:
    before = lists()
    await world.started()
    cluster.forget_versions()
    cluster.drop_watches()
    await world.until(lambda: lists() - before == 2)
    await world.until(lambda: world.spawner.live_pods().connected)
    assert await world.spawner.poll() is None


async def test_a_start_gets_through_though_its_watch_is_deaf(world: World, cluster: ScriptedCluster) -> None:
    cluster.deaf = True
    start = world.start()
    await world.until(cluster.pod)
    cluster.bind()
    cluster.container({"running": {}})
    await asyncio.wait_for(start, 20)
    assert "Starting JupyterLab" in world.said()


async def test_a_start_gets_through_though_pods_cannot_be_listed(world: World, cluster: ScriptedCluster) -> None:
    cluster.server["get", _PODS] << problem(403, "Forbidden", "pods is forbidden: cannot list")
    start = world.start()
    await world.until(cluster.pod)
    cluster.bind()
    cluster.container({"running": {}})
    await asyncio.wait_for(start, 20)


async def test_a_running_server_is_unknown_and_not_stopped_while_the_cluster_is_silent(
    world: World, cluster: ScriptedCluster
) -> None:
    await world.started()
    before = unknown()
    live = world.spawner.live_pods()
    await live.stop()
    live.resources.clear()

    async def silent(request: km.Request) -> Any:
        await asyncio.sleep(30)

    cluster.server[km.method.GET] << silent
    assert await world.spawner.poll() is None
    assert unknown() == before + 1


async def test_a_copy_that_has_lost_touch_is_not_believed(world: World, cluster: ScriptedCluster) -> None:
    await world.started()
    before = unknown()
    world.spawner.live_pods().stale_after = 0
    assert await world.spawner.poll() is None
    assert unknown() == before, "the API server was asked and knew"
    cluster.server[km.method.GET] << problem(500, "InternalError", "etcd is gone")
    assert await world.spawner.poll() is None
    assert unknown() == before + 1


async def test_a_dead_reflector_is_started_again_and_nothing_is_stopped_meanwhile(
    world: World, cluster: ScriptedCluster
) -> None:
    await world.started()
    live = world.spawner.live_pods()
    assert live.watch_task is not None
    live.watch_task.cancel()
    await asyncio.wait([live.watch_task])
    live.resources.clear()
    assert await world.spawner.poll() is None
    await world.until(lambda: "default/jupyter-ann" in live.resources)
    assert live.watch_task is not None
    assert not live.watch_task.done()


async def test_after_a_start_of_the_hub_without_an_answering_cluster_running_servers_are_kept(
    world: World, cluster: ScriptedCluster, monkeypatch: Any
) -> None:
    await world.started()
    await type(world.spawner)._stop_all_reflectors()
    monkeypatch.setattr("spawner.kube._LOADING_S", 0.3)
    down = True

    def err(request: km.Request) -> Any:
        return problem(503, "ServiceUnavailable", "apiserver is shutting down") if down else NotImplemented

    cluster.server[km.method.GET] << err
    before = unknown()
    spawner = world.restarted().spawners[""]
    assert await spawner.poll() is None
    assert await spawner.poll() is None
    assert unknown() == before + 2
    down = False
    await world.until(lambda: "default/jupyter-ann" in spawner.live_pods().resources)
    assert await spawner.poll() is None
    assert unknown() == before + 2, "now it is known to run"


async def test_lists_are_read_in_pages_and_without_what_nobody_needs(world: World, cluster: ScriptedCluster) -> None:
    for number in range(25):
        metadata = {"name": f"jupyter-{number}", "managedFields": [{"manager": "kubelet"}]}
        cluster.put("pods", {"metadata": metadata, "spec": {}, "status": {}})
    world.config.LivePods.page_size = 10
    live = world.spawner.live_pods()
    assert await live.loaded(5)
    assert len(live.resources) == 25
    assert not any("managedFields" in pod["metadata"] for pod in live.resources.values())
    assert cluster.count("get", "pods") == 3
