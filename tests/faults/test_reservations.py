"""What a start holds of the cluster's accelerators, and when it is given back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from profiles.accelerators import DraDevice
from profiles.access import Person
from spawner.capacity.availability import Availability
from spawner.capacity.model import Count, Fit, Snapshot
from spawner.claims import claim_template
from spawner.pod import SPAWN_ID
from spawner.refusal import Refusal
from spawner.reservation import Reservation
from tests.faults.conftest import SECONDS, World
from tests.faults.kube_api import ScriptedCluster, problem
from tests.spawner.catalogues import catalogue, contents

_TEMPLATES = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaimtemplates"
_DRA = DraDevice(device_class="gpu.example.org")
_ROOM = Fit(2, 32_000, 256 * 1024**3)


class Desk:
    """A desk that grants, until it is told to refuse; it remembers what is held."""

    def __init__(self) -> None:
        self.held: dict[str, Reservation] = {}
        self.given_back: list[str] = []
        self.expires_in_s = 0.0
        self.refusal: Refusal | None = None
        self.away = False
        self.count = Count(total=2, used_by_others=2, fits_empty=(_ROOM,))

    def __deepcopy__(self, memo: object) -> Desk:
        return self  # traitlets copies what stands in a configuration

    async def availability(self) -> Availability:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        return Availability(Snapshot("kubernetes", at, {"t4": self.count}), True, at, tuple(self.held.values()))

    async def reserve(self, wanted: Reservation, *, expires_in_s: float, person: Person | None = None) -> Reservation:
        if self.refusal is not None:
            raise self.refusal
        self.expires_in_s = expires_in_s
        return self.held.setdefault(wanted.id, wanted)

    async def release(self, spawn_id: str) -> None:
        if self.away:
            raise ConnectionError("the database does not answer")
        self.held.pop(spawn_id, None)
        self.given_back.append(spawn_id)


@pytest.fixture
def desk(world: World) -> Desk:
    desk = Desk()
    world.config.ArmillarySpawner.desk = desk
    changes = contents()
    changes["accelerators"]["dra"] = {"title": "Dra", "kubernetes": {"dra": _DRA.model_dump()}}
    changes["profiles"]["gpu"]["options"]["accelerator"].append("dra")
    world.config.ArmillarySpawner.catalogue = catalogue(**changes)
    world.restarted()
    return desk


_GPU = {"profile": "gpu", "accelerator": "t4", "count": "2", "cpu": "4", "memory": "8Gi"}


async def ended(world: World) -> None:
    async with asyncio.timeout(SECONDS):
        while await world.spawner.poll() is None:
            await asyncio.sleep(0.05)


def unplaced(cluster: ScriptedCluster, message: str) -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    cluster.set_status(conditions=[condition])


async def test_what_is_held_is_what_the_pod_asks_for_under_the_identity_that_it_bears(
    world: World, cluster: ScriptedCluster, desk: Desk
) -> None:
    start = world.start(**_GPU)
    pod = await world.until(cluster.pod)
    (held,) = desk.held.values()
    assert held == Reservation(
        pod["metadata"]["annotations"][SPAWN_ID],
        "ann",
        "",
        "gpu",
        "t4",
        2,
        cpu_m=4000,
        memory=8 * 1024**3,
        options={**_GPU, "image": "torch", "dataset": "small"},
    )
    assert desk.expires_in_s > world.config.ArmillarySpawner.start_timeout
    await world.running()
    await start
    assert desk.held, "it is held as long as the session runs"
    await world.user.stop("")
    assert desk.held == {}
    assert cluster.names("pods") == []


async def test_a_refused_reservation_makes_nothing_and_tells_why(
    world: World, cluster: ScriptedCluster, desk: Desk
) -> None:
    desk.refusal = Refusal("full", "All 2 T4 are in use: 2 by others.", status=409)
    assert await world.refused(world.start(**_GPU)) == "All 2 T4 are in use: 2 by others."
    assert [cluster.names(kind) for kind in ("pods", "secrets", "persistentvolumeclaims")] == [[], [], []]
    assert cluster.count("post", "pods") == 0
    assert desk.given_back == []


async def test_a_start_that_fails_gives_back_when_its_pod_is_gone_and_not_before(
    world: World, cluster: ScriptedCluster, desk: Desk
) -> None:
    start = world.start(**_GPU)
    pod = await world.until(cluster.pod)
    cluster.put("pods", {**pod, "metadata": {**pod["metadata"], "finalizers": ["example.org/slow"]}})
    said = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    unplaced(cluster, said)
    refused = asyncio.ensure_future(world.refused(start))
    await world.until(lambda: (cluster.pod() or {}).get("metadata", {}).get("deletionTimestamp"))
    await asyncio.sleep(0.2)
    assert desk.held, "the pod is still there, and may have a card"
    cluster.remove("pods", "jupyter-ann")
    assert "The cluster has T4, but no node that has it meets what else" in await refused
    await world.until(lambda: not desk.held)


async def test_a_pod_that_waits_says_who_has_what_it_waits_for_as_it_is_now(
    world: World, cluster: ScriptedCluster, desk: Desk
) -> None:
    start = world.start(**{**_GPU, "count": "1"})
    await world.until(cluster.pod)
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 No pods."
    unplaced(cluster, message)
    full = "Waiting for a node: All 2 T4 are in use: 2 by others. Try again later, or choose another accelerator."
    await world.until(lambda: full in world.said())
    desk.count = Count(total=2, used_by_others=1, held_back=1, held_because=(("cordoned", 1),), fits_empty=(_ROOM,))
    held_back = (
        "Waiting for a node: None of the 2 T4 is free: in use 1 by others; 1 cannot be used now: cordoned. "
        "Try again later, or choose another accelerator."
    )
    await world.until(lambda: held_back in world.said())
    await world.running()
    await start


async def test_a_session_that_has_ended_by_itself_gives_back(
    world: World, cluster: ScriptedCluster, desk: Desk
) -> None:
    await world.started()
    assert desk.held
    cluster.container({"terminated": {"exitCode": 1, "reason": "Error"}}, phase="Failed")
    await ended(world)
    await world.until(lambda: not desk.held)


async def test_a_pod_that_was_deleted_behind_the_hubs_back_gives_back(
    world: World, cluster: ScriptedCluster, desk: Desk
) -> None:
    await world.started()
    cluster.remove("pods", "jupyter-ann")
    await ended(world)
    await world.until(lambda: not desk.held)


async def test_a_pod_that_may_still_appear_keeps_what_was_reserved_for_it(
    world: World, cluster: ScriptedCluster, desk: Desk
) -> None:
    cluster.server["post", "/api/v1/namespaces/default/pods"] << problem(504, "Timeout", "no answer from etcd")
    await world.refused(world.start(**_GPU))
    assert len(desk.held) == 1, "nobody knows yet whether it was made"


async def test_a_database_that_is_away_does_not_keep_a_session_from_stopping(
    world: World, cluster: ScriptedCluster, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    await world.started()
    desk.away = True
    await world.user.stop("")
    assert cluster.names("pods") == []
    assert "its reservation is given back later: the database does not answer" in caplog.text


async def test_a_hub_that_was_restarted_gives_back_what_it_did_not_reserve_itself(
    world: World, cluster: ScriptedCluster, desk: Desk
) -> None:
    await world.started()
    world.restarted()
    assert world.spawner.reservation is None
    await world.user.stop("")
    assert desk.held == {}


async def test_a_claim_of_a_device_is_made_by_the_cluster_out_of_a_template(
    world: World, cluster: ScriptedCluster, desk: Desk
) -> None:
    start = world.start(profile="gpu", accelerator="dra")
    pod = await world.until(cluster.pod)
    (name,) = cluster.names("resourceclaimtemplates")
    assert [one["resourceClaimTemplateName"] for one in pod["spec"]["resourceClaims"]] == [name]
    await world.running()
    await start
    await world.user.stop("")
    assert cluster.names("resourceclaimtemplates") == [name], "it holds nothing, and the next session uses it again"


async def test_a_template_is_read_and_not_made_again(world: World, cluster: ScriptedCluster, desk: Desk) -> None:
    for _ in range(2):
        start = world.start(profile="gpu", accelerator="dra")
        await world.running()
        await start
        await world.user.stop("")
    assert cluster.count("post", "resourceclaimtemplates") == 1


def changed(cluster: ScriptedCluster) -> None:
    ((key, item),) = ((key, item) for key, item in cluster.objects.items() if key[0] == "resourceclaimtemplates")
    item["spec"]["spec"]["devices"]["requests"][0]["exactly"]["count"] = 8
    cluster.put(key[0], item)


async def test_a_template_that_somebody_has_replaced_is_not_used(
    world: World, cluster: ScriptedCluster, desk: Desk
) -> None:
    start = world.start(profile="gpu", accelerator="dra")
    await world.running()
    await start
    await world.user.stop("")
    changed(cluster)
    text = await world.refused(world.start(profile="gpu", accelerator="dra"))
    assert text.startswith("The cluster holds another description of this accelerator")
    assert cluster.names("pods") == []
    assert desk.held == {}


@pytest.mark.parametrize(
    ("status", "reason", "message", "text"),
    [
        (404, "NotFound", "404 page not found", "Dynamic Resource Allocation is not switched on there"),
        (
            403,
            "Forbidden",
            "cannot get resource resourceclaimtemplates",
            "The hub may not make the claim for your accel",
        ),
    ],
)
async def test_a_cluster_that_gives_no_claims_is_told_as_such(
    world: World, cluster: ScriptedCluster, desk: Desk,
    status: int, reason: str, message: str, text: str,
) -> None:  # fmt: skip
    template = claim_template("dra", _DRA, 1).name
    cluster.server["get", f"{_TEMPLATES}/{template}"] << problem(status, reason, message)
    cluster.server["post", _TEMPLATES] << problem(status, reason, message)
    said: Any = await world.refused(world.start(profile="gpu", accelerator="dra"))
    assert text in said
    await world.until(lambda: not desk.held)
