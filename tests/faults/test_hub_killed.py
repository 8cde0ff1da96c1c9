"""The hub is killed at each step of a start, and after it: nothing is lost, nothing is started twice."""

from __future__ import annotations

import asyncio
from typing import Any

import kmock as km
import pytest

from tests.faults.conftest import World
from tests.faults.kube_api import ScriptedCluster


async def killed(world: World, start: asyncio.Task[object]) -> None:
    """Lose the hub's memory in the midst of a start; what is in the database and in the cluster stays."""
    spawner = world.spawner
    if spawner._start_future is not None:
        spawner._start_future.cancel()
    start.cancel()
    await asyncio.wait([start])
    await type(spawner)._stop_all_reflectors()
    world.restarted()


async def test_a_pod_that_was_starting_is_found_and_its_address_noted_when_it_runs(
    world: World, cluster: ScriptedCluster, session_port: int
) -> None:
    start = world.start()
    await world.until(cluster.pod)
    await killed(world, start)
    spawner = world.spawner
    assert await spawner.poll() is None
    await world.running()
    await world.until(lambda: spawner.live_pods().resources["default/jupyter-ann"]["status"]["phase"] == "Running")
    assert await spawner.poll() is None
    assert (spawner.server.ip, spawner.server.port) == ("127.0.0.1", session_port)
    await world.user.stop("")
    assert (cluster.names("pods"), cluster.names("secrets")) == ([], [])


async def test_a_pod_is_found_by_user_and_server_when_even_the_state_is_lost(
    world: World, cluster: ScriptedCluster
) -> None:
    start = world.start()
    await world.until(cluster.pod)
    world.spawner.orm_spawner.state = {}
    world.db.commit()
    await killed(world, start)
    assert world.spawner.spawn_id is None
    assert await world.spawner.poll() is None
    await world.user.stop("")
    assert cluster.names("pods") == []


async def test_a_hub_killed_before_the_pod_was_made_finds_that_there_is_none(
    world: World, cluster: ScriptedCluster
) -> None:
    asked = asyncio.Event()

    async def silent(request: km.Request) -> Any:
        asked.set()
        await asyncio.sleep(30)

    cluster.server["post", "/api/v1/namespaces/default/secrets"] << silent
    start = world.start()
    await asked.wait()
    await killed(world, start)
    assert await world.spawner.poll() == 0


async def test_a_running_server_is_found_after_a_kill_and_its_pod_is_not_touched(
    world: World, cluster: ScriptedCluster
) -> None:
    await world.started()
    uid = cluster.pod()["metadata"]["uid"]  # type: ignore[index]
    await type(world.spawner)._stop_all_reflectors()
    spawner = world.restarted().spawners[""]
    assert await spawner.poll() is None
    assert spawner.get_state()["armillary"]["pod_uid"] == uid
    assert cluster.count("delete", "pods") == 0


async def test_the_pod_of_an_earlier_start_is_not_taken_for_the_present_one(
    world: World, cluster: ScriptedCluster
) -> None:
    await world.started()
    state = dict(world.spawner.orm_spawner.state)
    state["armillary"] = {**state["armillary"], "spawn_id": "of-another-start", "pod_uid": None}
    world.spawner.orm_spawner.state = state
    world.db.commit()
    assert await world.restarted().spawners[""].poll() == 1


@pytest.mark.parametrize(
    "state", [{}, {"pod_name": "jupyter-ann"}, {"kubespawner_version": "7.1.0", "pod_name": "jupyter-ann"}]
)
async def test_states_of_other_versions_are_read(world: World, cluster: ScriptedCluster, state: dict[str, str]) -> None:
    spawner = world.spawner
    spawner.load_state(state)
    assert await spawner.poll() == 0
    assert spawner.spawn_id is None
