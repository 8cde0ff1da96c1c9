"""Nodes and pods in, counts out: every rule of counting, and a long random life against a brute-force count."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from profiles.model import Toleration
from spawner.capacity.cluster import ClusterState
from spawner.capacity.count import largest_only
from spawner.capacity.model import Count, Fit
from spawner.capacity.slim import slim_node, slim_pod
from tests.spawner.brute_force import counted, expected, maximal
from tests.spawner.capacity_objects import DEVICES, GPU, MIG, NAMESPACE, catalogue, container, mine, node, pod

GIB = 1024**3


def count(*objects: dict[str, Any], key: str = "slice") -> Count:
    state = ClusterState(catalogue(), NAMESPACE)
    for item in objects:
        if "containers" in item["spec"]:
            state.put_pod(slim_pod(item))
        else:
            state.put_node(slim_node(item))
    return state.counts()[key]


def figures(found: Count) -> tuple[int, int, int, int, dict[str, int]]:
    assert found.total == found.free + found.used_by_us + found.used_by_others + found.held_back
    return found.total, found.free, found.used_by_us, found.used_by_others, dict(found.held_because)


SEVEN = node(capacity={MIG: "7"})


@pytest.mark.parametrize(
    ("objects", "wanted"),
    [
        pytest.param([SEVEN], (7, 7, 0, 0, {}), id="all free"),
        pytest.param([SEVEN, pod(requests={MIG: "2"})], (7, 5, 0, 2, {}), id="others use some, in any namespace"),
        pytest.param([SEVEN, mine("a", "n1", {MIG: "1"}, "s1")], (7, 6, 1, 0, {}), id="ours"),
        pytest.param(
            [SEVEN, pod(requests={MIG: "1"}, spawn_id="s1", namespace="elsewhere")],
            (7, 6, 0, 1, {}),
            id="a spawn id in another namespace is not ours",
        ),
        pytest.param(
            [SEVEN, pod(requests={MIG: "1"}, namespace=NAMESPACE)],
            (7, 6, 0, 1, {}),
            id="our namespace alone is not ours",
        ),
        pytest.param([SEVEN, pod(requests={MIG: "1"}, phase="Succeeded")], (7, 7, 0, 0, {}), id="finished well"),
        pytest.param([SEVEN, pod(requests={MIG: "1"}, phase="Failed")], (7, 7, 0, 0, {}), id="finished badly"),
        pytest.param([SEVEN, pod(requests={MIG: "1"}, phase="Pending")], (7, 6, 0, 1, {}), id="pending, bound"),
        pytest.param(
            [SEVEN, pod(on=None, requests={MIG: "1"}, phase="Pending")], (7, 7, 0, 0, {}), id="pending, unbound"
        ),
        pytest.param([SEVEN, pod(requests={MIG: "1"}, deleted=True)], (7, 6, 0, 1, {}), id="terminating still has it"),
        pytest.param([SEVEN, pod(requests={MIG: "1"}, phase="Unknown")], (7, 6, 0, 1, {}), id="state not known"),
        pytest.param([pod(requests={MIG: "1"})], (0, 0, 0, 0, {}), id="a node that is not there"),
        pytest.param([node(capacity={MIG: "7"}, cordoned=True)], (7, 0, 0, 0, {"cordoned": 7}), id="cordoned"),
        pytest.param(
            [node(capacity={MIG: "7"}, cordoned=True), pod(requests={MIG: "2"})],
            (7, 0, 0, 2, {"cordoned": 5}),
            id="cordoned with a user",
        ),
        pytest.param([node(capacity={MIG: "7"}, ready="False")], (7, 0, 0, 0, {"not ready": 7}), id="not ready"),
        pytest.param([node(capacity={MIG: "7"}, ready="Unknown")], (7, 0, 0, 0, {"not ready": 7}), id="lost"),
        pytest.param([node(capacity={MIG: "7"}, ready=None)], (7, 0, 0, 0, {"not ready": 7}), id="no condition yet"),
        pytest.param(
            [node(capacity={MIG: "7"}, allocatable={MIG: "5"})], (7, 5, 0, 0, {"unhealthy": 2}), id="two are broken"
        ),
        pytest.param(
            [node(capacity={MIG: "7"}, allocatable={MIG: "5"}), pod(requests={MIG: "6"})],
            (7, 0, 0, 6, {"unhealthy": 1}),
            id="one broke under its user",
        ),
        pytest.param(
            [node(capacity={MIG: "7"}, allocatable={MIG: "9"})], (7, 7, 0, 0, {}), id="more allocatable than there is"
        ),
        pytest.param(
            [node(capacity={MIG: "2"}), pod(requests={MIG: "7"})], (7, 0, 0, 7, {}), id="used beyond what is there"
        ),
        pytest.param([node(), pod(requests={MIG: "3"})], (3, 0, 0, 3, {}), id="the plugin is gone, its users are not"),
        pytest.param(
            [node(capacity={MIG: "7"}, taints=[{"key": "maintenance", "effect": "NoSchedule"}])],
            (7, 0, 0, 0, {"tainted (maintenance)": 7}),
            id="tainted",
        ),
        pytest.param(
            [node(capacity={MIG: "7"}, taints=[{"key": "maintenance", "effect": "PreferNoSchedule"}])],
            (7, 7, 0, 0, {}),
            id="a taint that only asks",
        ),
        pytest.param(
            [node(capacity={MIG: "7"}, taints=[{"key": GPU, "value": "present", "effect": "NoSchedule"}])],
            (7, 7, 0, 0, {}),
            id="a tolerated taint",
        ),
        pytest.param(
            [node(capacity={MIG: "7"}, taints=[{"key": GPU, "value": "present", "effect": "NoExecute"}])],
            (7, 0, 0, 0, {f"tainted ({GPU})": 7}),
            id="tolerated for another effect only",
        ),
        pytest.param(
            [node(capacity={MIG: "7"}, labels={"nvidia.com/mig.config.state": "pending"})],
            (7, 0, 0, 0, {"being partitioned": 7}),
            id="being partitioned",
        ),
        pytest.param(
            [node(capacity={MIG: "7"}, labels={"nvidia.com/mig.config.state": "success"})],
            (7, 7, 0, 0, {}),
            id="partitioned",
        ),
        pytest.param(
            [node(capacity={MIG: "7"}, pods="1"), pod(requests={})], (7, 0, 0, 0, {"no room for pods": 7}), id="no slot"
        ),
        pytest.param(
            [node(capacity={MIG: "7"}, pods="1"), pod(requests={}, phase="Succeeded")],
            (7, 7, 0, 0, {}),
            id="a finished pod needs no slot",
        ),
        pytest.param(
            [node("a", {MIG: "7"}), node("b", {MIG: "7"}, cordoned=True), pod(on="a", requests={MIG: "1"})],
            (14, 6, 0, 1, {"cordoned": 7}),
            id="two nodes",
        ),
    ],
)
def test_each_rule(objects: list[dict[str, Any]], wanted: tuple[Any, ...]) -> None:
    found = count(*objects)
    assert figures(found) == wanted
    nodes = [item for item in objects if "containers" not in item["spec"]]
    pods = [item for item in objects if "containers" in item["spec"]]
    assert counted(found) == expected(DEVICES["slice"], nodes, pods, NAMESPACE)


def test_only_nodes_with_the_labels_count() -> None:
    t4 = node("a", {GPU: "2"}, labels={"nvidia.com/gpu.product": "Tesla-T4-SHARED"})
    a100 = node("b", {GPU: "4"}, labels={"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"})
    plain = node("c", {GPU: "8"})
    assert count(t4, a100, plain, key="t4").total == 2
    assert count(t4, a100, plain, key="a100").total == 4


def test_an_accelerator_of_the_local_engine_is_not_counted() -> None:
    state = ClusterState(catalogue(), NAMESPACE)
    assert set(state.counts()) == {"slice", "t4", "a100", "none"}


def test_what_one_node_has_left_beside_the_cards() -> None:
    found = count(
        node("a", {MIG: "7"}),
        pod("p", "a", {MIG: "5", "cpu": "1500m", "memory": "6Gi"}),
        node("b", {MIG: "1", "cpu": "64"}),
        node("c", {MIG: "7"}, cordoned=True),
    )
    assert found.fits_now == (Fit(2, 30_500, 250 * GIB), Fit(1, 64_000, 256 * GIB))
    assert found.fits_empty == (Fit(7, 32_000, 256 * GIB), Fit(1, 64_000, 256 * GIB))


def test_sessions_without_accelerator_fit_where_no_taint_keeps_them_off() -> None:
    found = count(
        node("a", {"cpu": "8"}),
        node("b", {"cpu": "64"}, taints=[{"key": GPU, "effect": "NoSchedule"}]),
        node("c", {"cpu": "16"}, cordoned=True),
        node(
            "d", {"cpu": "12"}, ready="False", taints=[{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
        ),
        key="none",
    )
    assert found.fits_now == (Fit(0, 8000, 256 * GIB),)
    assert found.fits_empty == (Fit(0, 16_000, 256 * GIB),), "a cordoned node comes back, a tainted one is for others"
    assert found.total == 0


INIT = {"name": "init", "resources": {"requests": {"cpu": "5", "memory": "1Gi", MIG: "3"}}}
SIDECAR = {**container({"cpu": "1", "memory": "2Gi"}, "side"), "restartPolicy": "Always"}


@pytest.mark.parametrize(
    ("spec", "cpu_m", "memory", "cards"),
    [
        pytest.param({}, 2000, GIB, 1, id="one container"),
        pytest.param({"initContainers": [INIT]}, 5000, GIB, 3, id="a larger init container"),
        pytest.param({"initContainers": [SIDECAR]}, 3000, 3 * GIB, 1, id="a sidecar adds"),
        pytest.param({"initContainers": [SIDECAR, INIT]}, 6000, 3 * GIB, 3, id="an init container beside a sidecar"),
        pytest.param({"initContainers": [INIT, SIDECAR]}, 5000, 3 * GIB, 3, id="an init container before the sidecar"),
        pytest.param({"overhead": {"cpu": "250m", "memory": "120Mi"}}, 2250, GIB + 120 * 1024**2, 1, id="overhead"),
        pytest.param(
            {"resources": {"requests": {"cpu": "7", "memory": "9Gi"}}},
            7000,
            9 * GIB,
            1,
            id="asked for the pod as a whole",
        ),
        pytest.param(
            {"containers": [{"name": "a", "resources": {"limits": {"cpu": "3", MIG: "2"}}}]},
            3000,
            0,
            2,
            id="only limits",
        ),
        pytest.param({"containers": [{"name": "a"}, {"name": "b", "resources": {}}]}, 0, 0, 0, id="asks for nothing"),
        pytest.param(
            {"containers": [container({"cpu": "100.5m"}), container({"cpu": "0.1005"}, "b")]},
            202,
            0,
            0,
            id="rounded up",
        ),
    ],
)
def test_what_is_set_aside_for_a_pod(spec: dict[str, Any], cpu_m: int, memory: int, cards: int) -> None:
    item = pod(requests={"cpu": "2", "memory": "1Gi", MIG: "1"})
    item["spec"].update(spec)
    wants = slim_pod(item).wants
    assert (wants.cpu_m, wants.memory, wants.pieces.get(MIG, 0)) == (cpu_m, memory, cards)


def test_a_pod_that_is_being_made_smaller_keeps_what_it_has() -> None:
    item = pod(requests={"cpu": "1"})
    item["status"]["containerStatuses"] = [{"name": "notebook", "allocatedResources": {"cpu": "4"}}]
    assert slim_pod(item).wants.cpu_m == 4000


def test_a_node_that_comes_back_has_its_pods_still() -> None:
    state = ClusterState(catalogue(), NAMESPACE)
    state.put_node(slim_node(SEVEN))
    state.put_pod(slim_pod(pod(requests={MIG: "2"})))
    state.forget_node("n1")
    assert state.counts()["slice"].total == 0
    state.put_node(slim_node(SEVEN))
    assert figures(state.counts()["slice"]) == (7, 5, 0, 2, {})


def test_tolerations_of_every_session_count_for_each_accelerator_and_for_none() -> None:
    tolerations = (Toleration(key="hub.jupyter.org/dedicated", operator="Equal", value="user", effect="NoSchedule"),)
    taints = [{"key": "hub.jupyter.org/dedicated", "value": "user", "effect": "NoSchedule"}]
    counts = {}
    for tolerated in ((), tolerations):
        state = ClusterState(catalogue(), NAMESPACE, tolerated)
        state.put_node(slim_node(node("system", {"cpu": "2"})))
        state.put_node(slim_node(node("user", {MIG: "7", "cpu": "64"}, taints=taints)))
        counts[tolerated] = state.counts()
    without, having = counts[()], counts[tolerations]
    assert (without["slice"].free, having["slice"].free) == (0, 7)
    assert max(fit.cpu_m for fit in without["none"].fits_empty) == 2000
    assert max(fit.cpu_m for fit in having["none"].fits_now) == 64_000


def test_sessions_are_seen_once_they_have_a_node_and_over_when_they_have_finished() -> None:
    state = ClusterState(catalogue(), NAMESPACE)
    state.put_node(slim_node(SEVEN))
    state.put_pod(slim_pod(mine("a", None, {MIG: "1"}, "s1", phase="Pending")))
    assert (list(state.seen()), state.ended("s1"), state.ended("s2")) == ([], False, None)
    state.put_pod(slim_pod(mine("a", "n1", {MIG: "1"}, "s1", phase="Pending")))
    assert (list(state.seen()), state.ended("s1")) == (["s1"], False)
    state.put_pod(slim_pod(mine("a", "n1", {MIG: "1"}, "s1", phase="Failed")))
    assert (list(state.seen()), state.ended("s1")) == ([], True)
    state.forget_pod(f"{NAMESPACE}/a")
    assert state.ended("s1") is None


ODD: list[Any] = ["x", "", None, [], {}, "-1", -3, "1e999", "NaN", "9" * 70, True, 1.5]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_a_quantity_that_makes_no_sense_is_never_free(odd: Any) -> None:
    bad_node = node(capacity={MIG: "7"}, allocatable={MIG: odd})
    found = count(bad_node)
    assert found.free <= (1 if odd in (True, 1.5) else 0)
    bad_pod = pod(requests={})
    bad_pod["spec"]["containers"][0]["resources"] = {"requests": {MIG: odd}}
    found = count(SEVEN, bad_pod)
    assert found.total == 7
    assert slim_pod(bad_pod).problem == "" or dict(found.held_because) == {"its use cannot be read": 7}


@pytest.mark.parametrize("part", ["spec", "status"])
@pytest.mark.parametrize(
    "odd", [None, [], "text", 7, {"containers": "x", "conditions": [1], "taints": {}, "capacity": 3}]
)
def test_an_object_of_odd_shape_is_read_as_far_as_it_goes(part: str, odd: Any) -> None:
    broken = node("broken", {MIG: "7"})
    broken[part] = odd
    twisted = pod(requests={MIG: "1"})
    twisted[part] = odd
    state = ClusterState(catalogue(), NAMESPACE)
    state.put_node(slim_node(SEVEN))
    state.put_node(slim_node(broken))
    state.put_pod(slim_pod(twisted))
    found = state.counts()["slice"]
    assert found.total == 7 + (7 if part == "spec" else 0)
    assert counted(found)


@pytest.mark.parametrize("item", [{}, {"metadata": None}, {"metadata": {}}, [], "text", {"metadata": []}], ids=repr)
def test_what_has_no_name_is_refused(item: Any) -> None:
    for read in (slim_node, slim_pod):
        with pytest.raises((KeyError, TypeError, AttributeError)):
            read(item)


@given(st.lists(st.builds(Fit, st.integers(0, 4), st.integers(0, 6), st.integers(0, 6))))
def test_only_the_largest_fits_are_kept(fits: list[Fit]) -> None:
    kept = largest_only(fits)
    points = {(fit.count, fit.cpu_m, fit.memory) for fit in kept}
    assert points == maximal((fit.count, fit.cpu_m, fit.memory) for fit in fits)
    assert len(points) == len(kept)


NAMES = st.sampled_from(["n1", "n2", "n3"])
PIECES = st.sampled_from(["0", "1", "2", "7"])
PRODUCTS = st.sampled_from([None, "Tesla-T4", "NVIDIA-A100-SXM4-40GB"])
TAINTS = st.sampled_from([
    {"key": GPU, "effect": "NoSchedule"},
    {"key": "dedicated", "value": "ai", "effect": "NoSchedule"},
    {"key": "dedicated", "value": "else", "effect": "NoExecute"},
    {"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"},
])  # fmt: skip


class Life(RuleBasedStateMachine):
    """Nodes and pods come, change and go in any order; after each step the counts are those of the full lists."""

    def __init__(self) -> None:
        super().__init__()
        self.state = ClusterState(catalogue(), NAMESPACE)
        self.nodes: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}

    @rule(
        name=NAMES,
        mig=PIECES,
        gpu=PIECES,
        broken=PIECES,
        product=PRODUCTS,
        taints=st.lists(TAINTS, max_size=2),
        cordoned=st.booleans(),
        ready=st.sampled_from(["True", "True", "True", "False", None]),
        mig_state=st.sampled_from([None, None, "success", "pending"]),
        slots=st.sampled_from(["110", "110", "2"]),
        cpu=st.sampled_from(["4", "2500m", "32"]),
    )
    def put_node(self, name: str, mig: str, gpu: str, broken: str, product: str | None, taints: list[dict[str, str]],
                 cordoned: bool, ready: str | None, mig_state: str | None, slots: str, cpu: str) -> None:  # fmt: skip
        labels = {"nvidia.com/gpu.product": product, "nvidia.com/mig.config.state": mig_state}
        item = node(
            name,
            {MIG: mig, GPU: gpu, "cpu": cpu},
            allocatable={MIG: str(max(0, int(mig) - int(broken)))},
            labels={key: value for key, value in labels.items() if value},
            taints=taints,
            cordoned=cordoned,
            ready=ready,
            pods=slots,
        )
        self.nodes[name] = item
        self.state.put_node(slim_node(item))

    @rule(name=NAMES)
    def remove_node(self, name: str) -> None:
        self.nodes.pop(name, None)
        self.state.forget_node(name)

    @rule(
        name=st.sampled_from(["p1", "p2", "p3", "p4"]),
        on=st.one_of(st.none(), NAMES),
        asks=st.fixed_dictionaries({}, optional={MIG: PIECES, GPU: PIECES, "cpu": st.sampled_from(["1", "1500.5m"])}),
        namespace=st.sampled_from([NAMESPACE, "other"]),
        spawn_id=st.sampled_from([None, "s1", "s2"]),
        phase=st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
        deleted=st.booleans(),
    )
    def put_pod(self, name: str, on: str | None, asks: dict[str, str], namespace: str, spawn_id: str | None,
                phase: str, deleted: bool) -> None:  # fmt: skip
        item = pod(name, on, asks, namespace=namespace, spawn_id=spawn_id, phase=phase, deleted=deleted)
        self.pods[f"{namespace}/{name}"] = item
        self.state.put_pod(slim_pod(item))

    @rule(name=st.sampled_from(["p1", "p2", "p3", "p4"]), namespace=st.sampled_from([NAMESPACE, "other"]))
    def remove_pod(self, name: str, namespace: str) -> None:
        self.pods.pop(f"{namespace}/{name}", None)
        self.state.forget_pod(f"{namespace}/{name}")

    @invariant()
    def counts_are_right(self) -> None:
        counts = self.state.counts()
        for key, device in {**DEVICES, "none": None}.items():
            wanted = expected(device, self.nodes.values(), self.pods.values(), NAMESPACE)
            assert counted(counts[key]) == wanted, key

    @invariant()
    def seen_are_those_that_count(self) -> None:
        bound = {
            item["metadata"]["annotations"]["armillary/spawn-id"]
            for item in self.pods.values()
            if item["metadata"]["namespace"] == NAMESPACE
            and item["metadata"].get("annotations")
            and item["spec"].get("nodeName")
            and item["status"]["phase"] not in ("Succeeded", "Failed")
        }
        assert set(self.state.seen()) == bound


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
