"""Devices of Dynamic Resource Allocation: which are counted, whose they are, and when nobody can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spawner.capacity.cluster import ClusterState
from spawner.capacity.dra import NOT_SERVED
from spawner.capacity.model import Count, Fit
from spawner.capacity.selectors import Selectors, Unevaluable
from spawner.capacity.slim import slim_node, slim_pod
from spawner.capacity.slim_dra import slim_claim, slim_class, slim_slice
from tests.spawner.brute_force import counted, expected
from tests.spawner.capacity_objects import (
    DRA,
    DRIVER,
    NAMESPACE,
    catalogue,
    claim,
    device,
    device_class,
    mine,
    node,
    pod,
    resource_slice,
)

GIB = 1024**3
Json = dict[str, Any]


class Cluster:
    """A state that is fed objects of any kind."""

    def __init__(self, kind: Json = DRA) -> None:
        self.state = ClusterState(catalogue({"l40s": kind}), NAMESPACE)

    def put(self, *items: Json) -> Cluster:
        for item in items:
            spec = item["spec"]
            if "selectors" in spec:
                self.state.dra.put_class(slim_class(item))
            elif "pool" in spec:
                self.state.dra.put_slice(slim_slice(item))
            elif "containers" in spec:
                self.state.put_pod(slim_pod(item))
            elif "taints" in spec:
                self.state.put_node(slim_node(item))
            else:
                self.state.dra.put_claim(slim_claim(item))
        return self

    @property
    def count(self) -> Count:
        return self.state.counts()["l40s"]

    @property
    def figures(self) -> tuple[int, int, int, int, dict[str, int]]:
        found = self.count
        assert found.unknown == ""
        assert found.total == found.free + found.used_by_us + found.used_by_others + found.held_back
        return found.total, found.free, found.used_by_us, found.used_by_others, dict(found.held_because)


TWO = resource_slice(devices=[device("d0"), device("d1"), device("other", "T4")])


def world(*items: Json) -> Cluster:
    return Cluster().put(node(), device_class(), TWO, *items)


@pytest.mark.parametrize(
    ("items", "wanted"),
    [
        pytest.param([], (2, 2, 0, 0, {}), id="free, and of the right model"),
        pytest.param([claim(devices=[("n1", "d0")], pods=["x"])], (2, 1, 0, 1, {}), id="somebody's"),
        pytest.param(
            [mine("a", "n1", {}, "s1", uid="u1"), claim(devices=[("n1", "d0")], pods=["u1"])],
            (2, 1, 1, 0, {}),
            id="ours",
        ),
        pytest.param(
            [mine("a", "n1", {}, "s1", uid="u1"), claim(devices=[("n1", "d0")], pods=["u1"], namespace="other")],
            (2, 1, 0, 1, {}),
            id="a claim of another namespace is not ours",
        ),
        pytest.param([claim(pods=["x"])], (2, 2, 0, 0, {}), id="a claim that has nothing yet"),
        pytest.param([claim(devices=[("n1", "other")])], (2, 2, 0, 0, {}), id="another model's claim"),
        pytest.param([claim(devices=[("n2", "d0")])], (2, 2, 0, 0, {}), id="the same name in another pool"),
        pytest.param([claim(devices=[("n1", "d0")], driver="else")], (2, 2, 0, 0, {}), id="of another driver"),
        pytest.param([claim(devices=[("n1", "d0")], adminAccess=True)], (2, 2, 0, 0, {}), id="who only looks at it"),
        pytest.param([node(cordoned=True)], (2, 0, 0, 0, {"cordoned": 2}), id="the node is cordoned"),
        pytest.param(
            [node(ready="False"), claim(devices=[("n1", "d0")])], (2, 0, 0, 1, {"not ready": 1}), id="the node is lost"
        ),
        pytest.param(
            [resource_slice(devices=[device("d0", taints=[{"key": "xid", "effect": "NoSchedule"}]), device("d1")])],
            (2, 1, 0, 0, {"tainted (xid)": 1}),
            id="a tainted device",
        ),
        pytest.param(
            [
                resource_slice(devices=[device("d0", taints=[{"key": "xid", "effect": "NoExecute"}]), device("d1")]),
                claim(devices=[("n1", "d0")]),
            ],
            (2, 1, 0, 1, {}),
            id="tainted under its user",
        ),
        pytest.param(
            [resource_slice(devices=[device("d0", taints=[{"key": "hot", "effect": "None"}])])],
            (1, 1, 0, 0, {}),
            id="a taint without effect",
        ),
        pytest.param([resource_slice("s2", on="n2")], (2, 2, 0, 0, {}), id="a node that is not there"),
        pytest.param([resource_slice("new", [device("d7")], generation=2)], (1, 1, 0, 0, {}), id="a newer generation"),
        pytest.param([resource_slice("old", [device("d7")], generation=0)], (2, 2, 0, 0, {}), id="an older generation"),
    ],
)
def test_each_rule(items: list[Json], wanted: tuple[Any, ...]) -> None:
    assert world(*items).figures == wanted


@pytest.mark.parametrize(
    ("items", "why"),
    [
        pytest.param(
            [resource_slice(slices=2)],
            "the driver gpu.example.com has not told all devices of the pool n1",
            id="half a pool",
        ),
        pytest.param(
            [resource_slice(devices=[device(consumesCounters=[{}])])],
            "its devices are cut out of larger ones, which cannot be counted",
            id="partitions",
        ),
        pytest.param(
            [resource_slice(sharedCounters=[{"name": "c"}])],
            "its devices are cut out of larger ones, which cannot be counted",
            id="shared counters",
        ),
        pytest.param(
            [resource_slice(devices=[device(allowMultipleAllocations=True)])],
            "its devices are shared by capacity, which cannot be counted",
            id="consumable capacity",
        ),
        pytest.param(
            [resource_slice(devices=[{"name": "d0"}])],
            "a selector cannot be evaluated: no 'model'",
            id="an attribute that is not there",
        ),
        pytest.param(
            [device_class("gpu.example.com", 'device.nonsense("x")')],
            "a selector cannot be evaluated: ",
            id="a function that nobody knows",
        ),
        pytest.param(
            [device_class("gpu.example.com", '"x" in device.attributes')],
            "a selector asks which domains a device has",
            id="a question about domains",
        ),
        pytest.param(
            [device_class("gpu.example.com", "device.driver")], "a selector is neither true nor false", id="no truth"
        ),
        pytest.param([device_class("gpu.example.com", "((")], "a selector cannot be read: ", id="no CEL"),
        pytest.param(
            [{"metadata": {"name": "gpu.example.com"}, "spec": {"selectors": [{"new": {}}]}}],
            "its device class selects in a way that is not known here",
            id="another kind of selector",
        ),
    ],
)
def test_what_cannot_be_counted_is_unknown_in_words_and_never_free(items: list[Json], why: str) -> None:
    found = world(*items).count
    assert found.unknown.startswith(why)
    assert (found.total, found.free, found.fits_now) == (0, 0, ())


def test_half_a_pool_of_another_driver_is_no_matter() -> None:
    strange = resource_slice("odd", [device("q", "?")], driver="nic.example.com", slices=3, on="n1", pool="nics")
    assert world(strange).figures == (2, 2, 0, 0, {})


def test_partitions_of_another_model_are_no_matter() -> None:
    parted = resource_slice("odd", [device("q", "A100", consumesCounters=[{}])], on="n1", pool="else")
    assert world(parted).figures == (2, 2, 0, 0, {})


def test_without_its_class_nothing_can_be_had() -> None:
    cluster = world()
    cluster.state.dra.forget_class("gpu.example.com")
    assert cluster.figures == (0, 0, 0, 0, {})
    cluster.put(device_class())
    assert cluster.figures == (2, 2, 0, 0, {})


@pytest.mark.parametrize("apart", [False, True])
def test_a_device_that_is_of_two_kinds_makes_both_unknown_unless_their_nodes_differ(apart: bool) -> None:
    """The catalogue refuses what it can see; what two selectors have in common, only devices show."""
    other: Json = {
        "dra": {"device_class": DRIVER, "selectors": [f'device.attributes["{DRIVER}"].model.endsWith("0S")']}
    }
    labels = [{"node_labels": {"rack": rack}} if apart else {} for rack in ("r1", "r2")]
    kinds = {"l40s": {**DRA, **labels[0]}, "any": {**other, **labels[1]}}
    state = ClusterState(catalogue(kinds), NAMESPACE)
    state.dra.put_class(slim_class(device_class()))
    state.put_node(slim_node(node(labels={"rack": "r1"})))
    state.dra.put_slice(slim_slice(resource_slice(devices=[device("d0", "T4")])))
    assert not state.counts()["l40s"].unknown
    state.dra.put_slice(slim_slice(resource_slice(devices=[device("d0"), device("d1", "T4")])))
    found = state.counts()
    if apart:
        assert (found["l40s"].free, found["any"].total, found["any"].unknown) == (1, 0, "")
    else:
        assert found["l40s"].unknown.startswith("its devices are also any,")
        assert found["any"].unknown.startswith("its devices are also l40s,")


def test_what_is_not_seen_is_unknown() -> None:
    cluster = world()
    cluster.state.dra.unseen = "resource claims: no connection"
    assert cluster.count == Count(unknown="the cluster's devices cannot be seen at the moment")
    cluster.state.dra.unseen = NOT_SERVED
    assert cluster.count == Count(unknown=NOT_SERVED)
    cluster.state.dra.unseen = ""
    assert cluster.figures == (2, 2, 0, 0, {})


def test_a_claim_that_goes_leaves_its_devices_free() -> None:
    cluster = world(claim(devices=[("n1", "d0"), ("n1", "d1")]))
    assert cluster.figures == (2, 0, 0, 2, {})
    cluster.state.dra.forget_claim(f"{NAMESPACE}/c1")
    assert cluster.figures == (2, 2, 0, 0, {})
    cluster.state.dra.forget_slice("s1")
    assert cluster.figures == (0, 0, 0, 0, {})


def test_a_device_on_another_node_changes_hands_with_the_pod_of_its_claim() -> None:
    cluster = world(claim(devices=[("n1", "d0")], pods=["u1"]))
    assert cluster.figures == (2, 1, 0, 1, {})
    cluster.put(mine("a", None, {}, "s1", uid="u1"))
    assert cluster.figures == (2, 1, 1, 0, {})
    cluster.state.forget_pod(f"{NAMESPACE}/a")
    assert cluster.figures == (2, 1, 0, 1, {})


def test_a_session_is_seen_when_its_pod_and_its_claim_are() -> None:
    owner = mine("a", "n1", {}, "s1", uid="u1", resourceClaims=[{"name": "devices"}])
    cluster = world(owner)
    assert list(cluster.state.seen()) == [], "the claim is told by another watch, and counts"
    cluster.put(claim(devices=[("n1", "d0")], pods=["u1"]))
    assert list(cluster.state.seen()) == ["s1"]
    assert cluster.figures == (2, 1, 1, 0, {})


def test_devices_that_several_nodes_reach_count_once_and_fit_on_each() -> None:
    reach = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "rack", "operator": "In", "values": ["r1"]}]}]}
    cluster = Cluster().put(
        node("n1", {"cpu": "8"}, labels={"rack": "r1"}),
        node("n2", {"cpu": "16"}, labels={"rack": "r1"}, cordoned=True),
        node("n3", {"cpu": "64"}, labels={"rack": "r2"}),
        device_class(),
        resource_slice("own", [device("d0")], on="n1"),
        resource_slice("rack", [device("a"), device("b")], on=None, pool="rack", nodeSelector=reach),
        claim(devices=[("rack", "a")]),
    )
    assert cluster.figures == (3, 2, 0, 1, {})
    assert cluster.count.fits_now == (Fit(2, 8000, 256 * GIB),)
    cluster.put(node("n1", labels={"rack": "r1"}, cordoned=True))
    assert cluster.figures == (3, 0, 0, 1, {"cordoned": 2})
    cluster.put(node("n3", labels={"rack": "r1"}))
    assert cluster.figures == (3, 1, 0, 1, {"cordoned": 1})


def test_devices_of_all_nodes() -> None:
    cluster = Cluster().put(
        node(), node("n2"), device_class(), resource_slice("net", on=None, pool="net", allNodes=True)
    )
    assert cluster.figures == (1, 1, 0, 0, {})


def test_a_request_takes_the_devices_of_several_shared_slices_together() -> None:
    def part(name: str, *devices: str) -> Json:
        return resource_slice(name, [device(one) for one in devices], on=None, pool="net", slices=2, allNodes=True)

    cluster = Cluster().put(
        device_class(), node("n1"), node("n2"), part("s1", "d0", "d1"), part("s2", "d2", "d3"),
        resource_slice("own", [device("d0")], on="n2"),
    )  # fmt: skip
    assert cluster.figures == (5, 5, 0, 0, {})
    assert {fit.count for fit in cluster.count.fits_now} == {5}
    assert {fit.count for fit in cluster.count.fits_empty} == {5}
    cluster.put(claim(devices=[("net", "d0"), ("net", "d1"), ("net", "d2"), ("net", "d3")]))
    assert cluster.figures == (5, 1, 0, 4, {})
    assert {fit.count for fit in cluster.count.fits_now} == {1}
    assert {fit.count for fit in cluster.count.fits_empty} == {5}, "larger requests fit once they are given back"


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_order_of_changes_ends_in_the_count_of_what_is_there(data: st.DataObject) -> None:
    names = st.sampled_from(["d0", "d1", "d2"])
    nodes = st.sampled_from(["n1", "n2"])
    cluster = Cluster().put(device_class())
    slices: dict[str, Json] = {}
    claims: dict[str, Json] = {}
    pods: dict[str, Json] = {}
    there: dict[str, Json] = {}
    for _ in range(data.draw(st.integers(5, 25))):
        match data.draw(st.integers(0, 6)):
            case 0:
                name = data.draw(nodes)
                there[name] = node(name, cordoned=data.draw(st.booleans()))
                cluster.put(there[name])
            case 1:
                on, model = data.draw(nodes), data.draw(st.sampled_from(["L40S", "T4"]))
                taints = data.draw(st.sampled_from([[], [{"key": "xid", "effect": "NoSchedule"}]]))
                devices = [device(one, model, taints=taints) for one in data.draw(st.lists(names, unique=True))]
                name = f"slice-{on}"
                where: Json = {"on": on}
                if data.draw(st.booleans()):
                    name, where = f"net-{on}", {"on": None, "allNodes": True}
                slices[name] = resource_slice(name, devices, generation=data.draw(st.integers(1, 2)), **where)
                cluster.put(slices[name])
            case 2 if slices:
                name = data.draw(st.sampled_from(sorted(slices)))
                del slices[name]
                cluster.state.dra.forget_slice(name)
            case 3:
                free = [
                    (on, one)
                    for on in ("n1", "n2", "net-n1", "net-n2")
                    for one in ("d0", "d1", "d2")
                    if not any((on, one) in taken(other) for key, other in claims.items() if key != "c1")
                ]
                namespace = data.draw(st.sampled_from([NAMESPACE, "other"]))
                if namespace != NAMESPACE or "other/c1" in claims:
                    continue
                wanted = data.draw(st.lists(st.sampled_from(free), unique=True, max_size=2))
                item = claim(devices=wanted, pods=[data.draw(st.sampled_from(["u1", "x"]))])
                claims["c1"] = item
                cluster.put(item)
            case 4:
                pods["a"] = mine("a", data.draw(st.one_of(st.none(), nodes)), {}, "s1", uid="u1")
                cluster.put(pods["a"])
            case 5 if pods:
                pods.clear()
                cluster.state.forget_pod(f"{NAMESPACE}/a")
            case 6 if claims:
                name = data.draw(st.sampled_from(sorted(claims)))
                del claims[name]
                cluster.state.dra.forget_claim(f"{NAMESPACE}/{name}")
        wanted_count = expected(
            DRA,
            there.values(),
            pods.values(),
            NAMESPACE,
            slices=slices.values(),
            claims=claims.values(),
            matches=lambda one, driver: one["attributes"]["model"]["string"] == "L40S",
        )
        assert counted(cluster.count) == wanted_count


def taken(item: Json) -> set[tuple[str, str]]:
    allocation = item["status"].get("allocation", {"devices": {"results": []}})
    return {(result["pool"], result["device"]) for result in allocation["devices"]["results"]}


# --- selectors -----------------------------------------------------------------------------------------------------

ATTRIBUTES: Mapping[str, Any] = {
    "model": {"string": "L40S"},
    "index": {"int": 3},
    "healthy": {"bool": True},
    "driverVersion": {"version": "580.65.6"},
    "pci.example.org/root": {"string": "0000:00"},
}
CAPACITY = {"memory": {"value": "48Gi"}, "pci.example.org/lanes": {"value": "16"}}
A, C = 'device.attributes["gpu.example.com"]', 'device.capacity["gpu.example.com"]'


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ('device.driver == "gpu.example.com"', True),
        ('device.driver == "else"', False),
        (f'{A}.model == "L40S"', True),
        (f'{A}["model"] == "L40S"', True),
        (f"{A}.model in ['T4', 'L40S']", True),
        (f'{A}.model.startsWith("L4")', True),
        (f'{A}.model.lowerAscii() == "l40s"', True),
        (f'{A}.model.matches("^L[0-9]+S$")', True),
        (f"{A}.index > 2", True),
        (f"{A}.healthy", True),
        (f'"model" in {A}', True),
        (f'"nope" in {A}', False),
        (f"has({A}.nope)", False),
        ('device.attributes["pci.example.org"].root == "0000:00"', True),
        ('"x" in device.attributes["unheard.example.org"]', False),
        ('device.driver == "else" && device.attributes["else"].model == "x"', False),
        (f'{C}.memory.compareTo(quantity("40Gi")) >= 0', True),
        (f'{C}.memory.isLessThan(quantity("40Gi"))', False),
        (f'{C}.memory.isGreaterThan(quantity("40Gi"))', True),
        (f'{C}.memory == quantity("49152Mi")', True),
        (f'{C}.memory.sub(quantity("8Gi")) == quantity("40Gi")', True),
        (f'quantity("50k").add(20) == quantity("50020") && {C}.memory.sign() == 1', True),
        ('device.capacity["pci.example.org"].lanes.asInteger() == 16', True),
        ('isQuantity("40Gi") && !isQuantity("40 GB")', True),
        (f'{A}.driverVersion == semver("580.65.6")', True),
        (f'{A}.driverVersion.compareTo(semver("570.0.0")) > 0', True),
        (f'{A}.driverVersion.isLessThan(semver("580.65.10"))', True),
        (f'{A}.driverVersion.isGreaterThan(semver("580.65.6-rc.1"))', True),
        ('semver("1.0.0-alpha.2").isLessThan(semver("1.0.0-alpha.10"))', True),
        ('semver("1.0.0-alpha").isLessThan(semver("1.0.0-alpha.1"))', True),
        (f"{A}.driverVersion.major() == 580", True),
        ("device.allowMultipleAllocations == false", True),
        (f"size({A}) == 4", True),
        (f'{A}.exists(name, name == "healthy")', True),
    ],
)
def test_selectors_mean_what_kubernetes_means(expression: str, wanted: bool) -> None:
    assert Selectors([expression]).match("gpu.example.com", ATTRIBUTES, CAPACITY) is wanted


@pytest.mark.parametrize(
    "expression",
    [
        f'{A}.nope == "x"',
        'device.attributes["unheard.example.org"].nope == "x"',
        f'{A}.driverVersion == semver("1.2")',
        f'{A}.driverVersion.isLessThan(quantity("1"))',
        'quantity("many").asInteger() == 3',
        f'{A}.?nope.orValue("x") == "x"',
        "1 / 0 == 1",
        "cel.bind(x, device.driver, x == 'y')",
        "",
    ],
)
def test_what_is_an_error_in_kubernetes_or_beyond_us_is_no_answer(expression: str) -> None:
    with pytest.raises(Unevaluable):
        Selectors([expression]).match("gpu.example.com", ATTRIBUTES, CAPACITY)


def test_all_expressions_must_be_met_and_the_first_that_is_not_decides() -> None:
    both = Selectors(['device.driver == "else"', 'device.attributes["else"].model == "x"'])
    assert both.match("gpu.example.com", ATTRIBUTES, CAPACITY) is False
    assert Selectors([]).match("gpu.example.com", ATTRIBUTES, CAPACITY) is True


def test_devices_that_differ_only_in_what_nobody_asks_for_are_evaluated_once() -> None:
    selectors = Selectors([f'{A}.model == "L40S"'])
    for number in range(100):
        assert selectors.match("gpu.example.com", {**ATTRIBUTES, "uuid": {"string": f"GPU-{number}"}}, {})
    assert len(selectors._known) == 1
    assert not selectors.match("gpu.example.com", {"model": {"string": "T4"}}, {})


@pytest.mark.parametrize("read", [slim_class, slim_slice, slim_claim])
@pytest.mark.parametrize("item", [{}, {"metadata": {}}, {"metadata": {"name": "x"}, "spec": {"pool": 3}}, []], ids=repr)
def test_what_is_no_such_object_is_refused_or_empty(read: Any, item: Any) -> None:
    try:
        slim = read(item)
    except (KeyError, TypeError, AttributeError, ValueError):
        return
    assert not getattr(slim, "devices", ())


def test_pods_with_claims_are_known_as_such() -> None:
    assert slim_pod(pod(resourceClaims=[{"name": "x"}])).claims
    assert not slim_pod(pod()).claims
