"""Pods and claims of a cluster as the reconciler sees and ends them: exactly those, and nothing in place of a silence."""

from __future__ import annotations

from typing import Any

import kmock as km
import pytest

from hub.reconcile.cluster import ClusterSeen, KubernetesEngine, look_at
from hub.reconcile.picture import Running
from spawner.capacity.cluster import ClusterState
from spawner.capacity.slim import slim_pod
from spawner.capacity.slim_dra import slim_claim
from tests.faults.kube_api import ScriptedCluster, problem
from tests.spawner.capacity_objects import DRA, NAMESPACE, catalogue, claim, mine, pod

SPAWN = "a" * 32
OURS = {"app": "armillary", "armillary/accelerator": "l40s"}


def session(uid: str = "uid-1", spawn_id: str = SPAWN) -> dict[str, Any]:
    annotations = {
        "armillary/spawn-id": spawn_id,
        "hub.jupyter.org/username": "ann",
        "hub.jupyter.org/servername": "two",
    }
    metadata = {"name": "jupyter-ann", "namespace": "default", "uid": uid, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": {"phase": "Running"}}


@pytest.fixture
def engine(cluster: ScriptedCluster) -> KubernetesEngine:
    return KubernetesEngine(lambda: ClusterSeen({SPAWN: "default/jupyter-ann", "b": "other/pod"}), "default")


async def test_the_pods_of_our_namespace_run_and_their_owner_is_asked_of_the_cluster(
    engine: KubernetesEngine, cluster: ScriptedCluster
) -> None:
    cluster.put("pods", session())
    running = await engine.running()
    assert running == {SPAWN: Running(SPAWN, "pod default/jupyter-ann")}
    assert await engine.owner(running[SPAWN]) == Running(SPAWN, "pod default/jupyter-ann", "ann", "two")
    assert await engine.planned() is None


async def test_the_pod_of_another_start_has_no_owner_here_and_is_not_ended(
    engine: KubernetesEngine, cluster: ScriptedCluster
) -> None:
    cluster.put("pods", session(spawn_id="c" * 32))
    one = Running(SPAWN, "pod default/jupyter-ann")
    assert await engine.owner(one) is None
    assert await engine.end(one)
    assert cluster.names("pods") == ["jupyter-ann"]


async def test_a_pod_is_ended_once(engine: KubernetesEngine, cluster: ScriptedCluster) -> None:
    cluster.put("pods", session())
    one = Running(SPAWN, "pod default/jupyter-ann", "ann", "two")
    assert await engine.end(one)
    assert cluster.names("pods") == []
    assert await engine.end(one)


async def test_a_cluster_that_refuses_or_is_silent_ends_nothing_and_the_log_says_why(
    engine: KubernetesEngine, cluster: ScriptedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.put("pods", session())
    cluster.server["delete", "/api/v1/namespaces/default/pods/jupyter-ann"] << problem(403, "Forbidden", "no")
    assert not await engine.end(Running(SPAWN, "pod default/jupyter-ann"))
    assert "delete_namespaced_pod default/jupyter-ann: 403 no" in caplog.text
    cluster.server["get", "/api/v1/namespaces/default/pods/jupyter-ann"] << problem(503, "ServiceUnavailable", "later")
    assert not await engine.end(Running(SPAWN, "pod default/jupyter-ann"))
    assert "read_namespaced_pod default/jupyter-ann: 503 later" in caplog.text
    assert cluster.names("pods") == ["jupyter-ann"]


async def test_where_the_cluster_is_not_seen_nothing_is_said_about_it() -> None:
    blind = KubernetesEngine(lambda: None, "default")
    assert (await blind.running(), await blind.claims()) == (None, {})


_CLAIM = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/c1"


@pytest.mark.parametrize("used", [True, False])
async def test_a_claim_is_deleted_unless_somebody_uses_it_after_all(
    engine: KubernetesEngine, cluster: ScriptedCluster, used: bool
) -> None:
    deleted = []

    def delete(request: km.Request) -> dict[str, Any]:
        deleted.append(request)
        return {}

    status = {"reservedFor": [{"resource": "pods", "name": "x", "uid": "x"}]} if used else {}
    cluster.server["get", _CLAIM] << {"metadata": {"name": "c1", "uid": "u1"}, "status": status}
    cluster.server["delete", _CLAIM] << delete
    assert await engine.drop_claim("default/c1") is not used
    assert len(deleted) == (0 if used else 1)


def test_a_watch_tells_pods_that_have_not_finished_and_our_claims_without_pods() -> None:
    state = ClusterState(catalogue({"l40s": DRA}), NAMESPACE)
    runs = mine("jupyter-ann", "n1", {}, SPAWN)
    uid = runs["metadata"].setdefault("uid", "uid-ann")
    over = mine("jupyter-bob", "n1", {}, "b" * 32)
    over["status"] = {"phase": "Succeeded"}
    for one in (runs, over, pod("stranger", "n1", {})):
        state.put_pod(slim_pod(one))
    for name, pods, labels in (
        ("used", [uid], OURS),
        ("orphan", ["gone"], OURS),
        ("theirs", ["gone"], {}),
    ):
        made = claim(name, [("n1", name)], pods=pods)
        made["metadata"]["labels"] = labels
        state.dra.put_claim(slim_claim(made))
    waits = claim("waits", [], pods=["gone"])
    waits["metadata"]["labels"] = OURS
    state.dra.put_claim(slim_claim(waits))
    elsewhere = claim("elsewhere", [("n1", "e")], pods=["gone"], namespace="other")
    elsewhere["metadata"]["labels"] = OURS
    state.dra.put_claim(slim_claim(elsewhere))
    seen = look_at(state)
    assert seen.pods == {SPAWN: f"{NAMESPACE}/jupyter-ann"}
    assert list(seen.claims) == [f"{NAMESPACE}/orphan"]
