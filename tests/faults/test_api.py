"""The API server is slow, refuses, or errs: what happens to the pod, and what the user reads."""

from __future__ import annotations

import asyncio
from typing import Any

import kmock as km
import pytest

from spawner import pod_maker
from spawner.pod import SPAWN_ID
from tests.faults.conftest import World
from tests.faults.kube_api import ScriptedCluster, problem

_PODS = "/api/v1/namespaces/default/pods"
_OTHERS = {"hub.jupyter.org/username": "ben"}
_OURS = {"hub.jupyter.org/username": "ann"}


def leftover(annotations: dict[str, str], **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "jupyter-ann",
            "annotations": annotations,
            "labels": {"component": "singleuser-server"},
            **metadata,
        },
        "spec": {"nodeName": "node-1", "containers": []},
        "status": {"phase": "Running"},
    }


async def test_a_pod_that_the_api_server_stores_but_confirms_too_late_is_not_made_twice_and_not_killed(
    world: World, cluster: ScriptedCluster
) -> None:
    late = []

    async def slow(request: km.Request) -> Any:
        if late:
            return NotImplemented
        late.append(cluster._create(request))
        await asyncio.sleep(3)
        return late[0]

    cluster.server["post", _PODS] << slow
    start = world.start()
    await world.running()
    uid = cluster.pod()["metadata"]["uid"]  # type: ignore[index]
    await asyncio.wait_for(start, 20)
    assert cluster.pod()["metadata"]["uid"] == uid  # type: ignore[index]
    assert cluster.count("post", "pods") == 2
    assert cluster.count("delete", "pods") == 0


async def test_a_pod_that_appears_after_the_start_was_given_up_is_removed(
    world: World, cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_maker, "_LATE_LOOKS_S", (0.2, 0.2, 0.2, 0.2, 0.2))
    asked: list[km.Request] = []

    async def silent(request: km.Request) -> Any:
        asked.append(request)
        await asyncio.sleep(30)

    cluster.server["post", _PODS] << silent
    text = await world.refused(world.start())
    assert text == (
        "The cluster did not answer in time, so that your server could not be made. "
        "Nothing was lost; try again in some minutes."
    )
    cluster._create(asked[0])
    assert cluster.names("pods") == ["jupyter-ann"]
    await world.until(lambda: not cluster.names("pods"))


async def test_a_start_that_is_cancelled_while_the_pod_is_being_made_leaves_no_pod(
    world: World, cluster: ScriptedCluster
) -> None:
    arrived = asyncio.Event()

    async def slow(request: km.Request) -> Any:
        arrived.set()
        await asyncio.sleep(0.5)
        return cluster._create(request)

    cluster.server["post", _PODS] << slow
    start = world.start()
    await arrived.wait()
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert await world.spawner.poll() is None, "it may come to life any moment"
    await world.user.stop("")
    assert cluster.names("pods") == []


async def test_what_an_earlier_start_left_behind_is_removed_first(world: World, cluster: ScriptedCluster) -> None:
    old = cluster.put("pods", leftover({**_OURS, SPAWN_ID: "earlier"}))
    start = world.start()
    await world.until(lambda: cluster.pod() and cluster.pod()["metadata"]["uid"] != old["metadata"]["uid"])  # type: ignore[index]
    assert "Removing what is left of your last session" in world.said()
    await world.running()
    await start


async def test_a_leftover_on_a_node_that_does_not_answer_is_named_and_not_forced(
    world: World, cluster: ScriptedCluster
) -> None:
    world.config.ArmillarySpawner.stop_timeout = 1
    cluster.put("pods", leftover({**_OURS, SPAWN_ID: "earlier"}, finalizers=["example.org/stuck"]))
    assert await world.refused(world.start()) == (
        "Your last session cannot be removed: the node that it ran on does not answer. "
        "Tell your administrators, or start a server of another name meanwhile."
    )


async def test_the_pod_of_somebody_else_is_never_touched(world: World, cluster: ScriptedCluster) -> None:
    other = cluster.put("pods", leftover(_OTHERS))
    assert await world.refused(world.start()) == (
        "Another server in the cluster has the name that yours would have. "
        "Tell your administrators; the hub's log names it."
    )
    assert cluster.pod() == other
    assert cluster.names("secrets") == [], "what the failed start had made is removed"


_RBAC = 'pods is forbidden: User "system:serviceaccount:hub:hub" cannot create resource "pods" in API group ""'

REFUSED = [
    pytest.param(
        403, "Forbidden",
        'pods "jupyter-ann" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: 4, limited: 4',
        "The cluster's quota is used up: gpus, requested: requests.nvidia.com/gpu=1, used: 4, limited: 4. "
        "Stop another server, ask for less, or ask your administrators for a larger quota.",
        id="quota",
    ),
    pytest.param(
        403, "Forbidden", _RBAC,
        "The hub may not make your server in the cluster. This is a mistake in its installation, not yours: "
        "tell your administrators; the hub's log names the missing right.",
        id="rights",
    ),
    pytest.param(
        403, "Forbidden", 'pods "jupyter-ann" is forbidden: violates PodSecurity "restricted:latest": privileged',
        "The cluster's security rules forbid your server as this profile describes it. "
        "Choose another profile and tell your administrators.",
        id="pod-security",
    ),
    pytest.param(
        400, "BadRequest", 'admission webhook "images.example.org" denied the request: image is not signed',
        "A rule of the cluster forbids your server: image is not signed",
        id="webhook",
    ),
    pytest.param(
        403, "Forbidden", 'pods "jupyter-ann" is forbidden: pod rejected: RuntimeClass "nvidia" not found',
        "The cluster has no runtime class nvidia, which this accelerator needs. "
        "Choose another accelerator and tell your administrators.",
        id="runtime-class",
    ),
    pytest.param(
        422, "Invalid", 'Pod "jupyter-ann" is invalid: spec.containers[0].image: Required value',
        "The cluster did not accept your server as this profile describes it. "
        "Choose another profile and tell your administrators; the hub's log has the cause.",
        id="invalid",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("status", "reason", "message", "text"), REFUSED)
async def test_a_refusal_of_the_cluster_is_put_into_words_and_not_repeated(
    world: World, cluster: ScriptedCluster, status: int, reason: str, message: str, text: str
) -> None:
    cluster.server["post", _PODS] << problem(status, reason, message)
    assert await world.refused(world.start()) == text
    assert cluster.count("post", "pods") == 1
    assert cluster.names("secrets") == []


async def test_an_error_that_passes_is_not_noticed(world: World, cluster: ScriptedCluster) -> None:
    answers = iter(
        [problem(500, "InternalError", "etcdserver: leader changed"), problem(503, "ServiceUnavailable", "")]
    )

    def err(request: km.Request) -> Any:
        found = next(answers, None)
        return NotImplemented if found is None else found

    cluster.server["post", _PODS] << err
    await world.started()
    assert cluster.count("post", "pods") == 3


@pytest.mark.parametrize(("status", "said"), [(500, "answered with an error (500)"), (429, "is overloaded")])
async def test_an_error_that_stays_is_told_after_the_retry_time(
    world: World, cluster: ScriptedCluster, status: int, said: str
) -> None:
    cluster.server["post", _PODS] << problem(status, "InternalError", "etcdserver: request timed out")
    assert await world.refused(world.start()) == (
        f"The cluster {said}, so that your server could not be made. Nothing was lost; try again in some minutes."
    )
    assert cluster.count("post", "pods") > 2


async def test_a_quota_that_two_starts_change_at_once_is_no_leftover(world: World, cluster: ScriptedCluster) -> None:
    answers = iter(
        [problem(409, "Conflict", "Operation cannot be fulfilled on resourcequotas: the object has been modified")]
    )

    def clash(request: km.Request) -> Any:
        return next(answers, NotImplemented)

    cluster.server["post", _PODS] << clash
    await world.started()
    assert cluster.count("delete", "pods") == 0


async def test_a_home_over_quota_is_told(world: World, cluster: ScriptedCluster) -> None:
    message = "exceeded quota: homes, requested: requests.storage=10Gi, used: 95Gi, limited: 100Gi"
    cluster.server["post", "/api/v1/namespaces/default/persistentvolumeclaims"] << problem(403, "Forbidden", message)
    assert await world.refused(world.start()) == (
        "The cluster's quota is used up: homes, requested: requests.storage=10Gi, used: 95Gi, limited: 100Gi. "
        "Stop another server, ask for less, or ask your administrators for a larger quota."
    )


async def test_nothing_but_silence_is_told_too(world: World, cluster: ScriptedCluster) -> None:
    async def silent(request: km.Request) -> Any:
        await asyncio.sleep(30)

    cluster.server[km.method.POST] << silent
    cluster.server[km.method.GET] << silent
    cluster.server[km.method.DELETE] << silent
    text = await world.refused(world.start())
    assert text.startswith("The cluster did not answer in time, so that your ")
