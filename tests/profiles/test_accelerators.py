"""What makes no sense in or between accelerators is refused at load, with its place."""

from decimal import Decimal

import pytest

from profiles.accelerators import Accelerator
from profiles.loader import CatalogueError, loads
from profiles.model import Catalogue

A100 = "{nvidia.com/gpu.product: A100}"
T4 = "{nvidia.com/gpu.product: T4}"


def catalogue(*accelerators: str, options: str = "accelerator: none") -> str:
    """One accelerator a line, from line 2 on, so that the line says which one is meant."""
    lines = "".join(f"  {entry}\n" for entry in accelerators)
    return f"accelerators:\n{lines}profiles: {{p: {{title: P, options: {{{options}}}}}}}\n"


def read(*accelerators: str, options: str = "accelerator: none") -> Catalogue:
    return loads(catalogue(*accelerators, options=options))


def problems(*accelerators: str, options: str = "accelerator: none") -> list[str]:
    with pytest.raises(CatalogueError) as refused:
        loads(catalogue(*accelerators, options=options), name="c.yaml")
    return [str(problem) for problem in refused.value.problems]


def plugin(key: str, resource: str, labels: str = "{}") -> str:
    return f"{key}: {{title: {key}, kubernetes: {{resource: {resource}, node_labels: {labels}}}}}"


def dra(key: str, device_class: str, *selectors: str, labels: str = "{}") -> str:
    written = ", ".join(f'"{selector}"' for selector in selectors)
    inner = f"dra: {{device_class: {device_class}, selectors: [{written}]}}, node_labels: {labels}"
    return f"{key}: {{title: {key}, kubernetes: {{{inner}}}}}"


def local(key: str, product: str, more: str = "") -> str:
    return f"{key}: {{title: {key}, local: {{product: {product}{more}}}}}"


OLD = "device.attributes['x'].generation == 1"
NEW = "device.attributes['x'].generation == 2"
BIG = "device.capacity['x'].memory.compareTo(quantity('40Gi')) >= 0"


@pytest.mark.parametrize(
    ("one", "other", "place", "said"),
    [
        pytest.param(
            plugin("a", "nvidia.com/gpu"),
            plugin("b", "nvidia.com/gpu"),
            "3:30 accelerators.b.kubernetes.resource",
            "both are nvidia.com/gpu on nodes that can be the same",
            id="one resource",
        ),
        pytest.param(
            plugin("a", "nvidia.com/gpu", A100),
            plugin("b", "nvidia.com/gpu"),
            "3:30 accelerators.b.kubernetes.resource",
            "'a'",
            id="one of them on any node",
        ),
        pytest.param(
            plugin("a", "nvidia.com/gpu", A100),
            plugin("b", "nvidia.com/gpu", "{zone: east}"),
            "3:30 accelerators.b.kubernetes.resource",
            "'a'",
            id="labels of different keys",
        ),
        pytest.param(
            plugin("a", "nvidia.com/gpu", "{p: [x, y], zone: east}"),
            plugin("b", "nvidia.com/gpu", "{p: [y, z], zone: [east, west]}"),
            "3:30 accelerators.b.kubernetes.resource",
            "give each a node label of which the other has no value",
            id="values in common",
        ),
        pytest.param(
            dra("a", "gpu.nvidia.com"),
            dra("b", "gpu.nvidia.com", OLD),
            "3:36 accelerators.b.kubernetes.dra.device_class",
            "class gpu.nvidia.com",
            id="one takes all of the class",
        ),
        pytest.param(
            dra("a", "gpu.nvidia.com", OLD, BIG),
            dra("b", "gpu.nvidia.com", "  " + OLD.replace(" ", "  ")),
            "3:36 accelerators.b.kubernetes.dra.device_class",
            "give each a selector that tells them apart",
            id="one's selectors are among the other's",
        ),
        pytest.param(
            local("a", "NVIDIA L4"),
            local("b", "[NVIDIA L40, NVIDIA L4]", ", replicas: 2"),
            "3:25 accelerators.b.local.product",
            "whole cards NVIDIA L4; keep one",
            id="one product",
        ),
        pytest.param(
            local("a", "NVIDIA A100", ", mig: 1g.5gb"),
            local("b", "NVIDIA A100", ", mig: 1g.5gb"),
            "3:25 accelerators.b.local.product",
            "slices 1g.5gb of NVIDIA A100",
            id="one size of slice",
        ),
    ],
)
def test_two_that_claim_the_same_devices(one: str, other: str, place: str, said: str) -> None:
    (problem,) = problems(one, other)
    assert problem.startswith(f"c.yaml:{place}: claims the same devices as 'a': ")
    assert said in problem


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(plugin("a", "nvidia.com/gpu", A100), plugin("b", "nvidia.com/gpu", T4), id="other nodes"),
        pytest.param(
            plugin("a", "nvidia.com/gpu", "{p: A100, zone: east}"),
            plugin("b", "nvidia.com/gpu", "{p: A100, zone: west}"),
            id="other nodes by one label of two",
        ),
        pytest.param(plugin("a", "nvidia.com/gpu"), plugin("b", "nvidia.com/gpu.shared"), id="another resource"),
        pytest.param(dra("a", "gpu.nvidia.com", OLD), dra("b", "gpu.nvidia.com", NEW), id="another selector"),
        pytest.param(dra("a", "gpu.nvidia.com"), dra("b", "mig.nvidia.com"), id="another class"),
        pytest.param(
            dra("a", "gpu.nvidia.com", labels=A100), dra("b", "gpu.nvidia.com", labels=T4), id="a class on other nodes"
        ),
        pytest.param(local("a", "NVIDIA A100"), local("b", "NVIDIA A100", ", mig: 1g.5gb"), id="card and slice"),
        pytest.param(local("a", "NVIDIA A100"), local("b", "NVIDIA L4"), id="another product"),
        pytest.param(local("a", "[NVIDIA A100, NVIDIA A100]"), local("b", "NVIDIA L4"), id="a product given twice"),
        pytest.param(
            "a: {title: A, simulated: {count: 1}}", "b: {title: B, simulated: {count: 1}}", id="imagined ones"
        ),
    ],
)
def test_two_that_claim_different_devices(one: str, other: str) -> None:
    assert list(read(one, other).accelerators) == ["a", "b"]


def test_each_is_compared_with_all_before_it_and_told_once() -> None:
    found = problems(*(plugin(key, "nvidia.com/gpu") for key in "abc"))
    assert [problem.split(":")[1] for problem in found] == ["3", "4"]
    assert all("as 'a'" in problem for problem in found)


def test_what_is_left_of_a_broken_one_is_compared_with_nothing() -> None:
    (problem,) = problems(
        "a: {title: A, kubernetes: {resource: nvidia.com/gpu, node_labels: {p: 'x y'}}}",
        plugin("b", "nvidia.com/gpu", T4),
    )
    assert "is no label value" in problem


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("device.driver ==", "is no CEL expression"),
        ("device.driver = 'x'", "is no CEL expression"),
        ("device.attributes[", "at line 1, column "),
        ("(" * 5000 + "device", "is no CEL expression"),
        ("true", "says nothing about the device"),
        ("'device' == 'device'", "says nothing about the device"),
        ("devices.driver == 'x'", "says nothing about the device"),
        ("device.driver == '" + "x" * 10_240 + "'", "has more than 10240 bytes"),
    ],
)
def test_selectors_that_select_nothing(selector: str, said: str) -> None:
    text = f'a: {{title: A, kubernetes: {{dra: {{device_class: gpu.nvidia.com, selectors: ["{selector}"]}}}}}}'
    (problem,) = problems(text)
    assert problem.startswith("c.yaml:2:")
    assert " accelerators.a.kubernetes.dra.selectors[0]: " in problem
    assert said in problem
    assert len(problem) < 600


def test_no_more_selectors_than_kubernetes_takes() -> None:
    many = [f"device.attributes['x'].n != {n}" for n in range(33)]
    assert read(dra("a", "x.example.com", *many[:32]))
    (problem,) = problems(dra("a", "x.example.com", *many))
    assert "accelerators.a.kubernetes.dra.selectors: tuple should have at most 32 items" in problem


def test_optional_fields_which_kubernetes_knows_are_left_to_it() -> None:
    assert read(dra("a", "x.example.com", "device.attributes['x'].?y.orValue('') == 'z'"))


@pytest.mark.parametrize("name", ["NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"])
def test_variables_that_choose_devices_are_ours(name: str) -> None:
    (problem,) = problems(f"a: {{title: A, environment: {{{name}: all}}}}")
    assert problem.startswith(f"c.yaml:2:31 accelerators.a.environment.{name}: ")
    assert "set it from the accelerator that was picked; take it out" in problem


def test_variables_that_tell_sessions_what_they_got_are_ours() -> None:
    (problem,) = problems("a: {title: A, environment: {ARMILLARY_ACCELERATOR: b}}")
    assert problem.endswith("ARMILLARY_ACCELERATOR: ARMILLARY_ACCELERATOR is set by Armillary and must not be replaced")


def test_other_variables_of_the_libraries_may_be_set() -> None:
    made = read("a: {title: A, environment: {NVIDIA_DRIVER_CAPABILITIES: all, OMP_NUM_THREADS: '4'}}")
    assert made.accelerators["a"].environment["NVIDIA_DRIVER_CAPABILITIES"] == "all"


@pytest.mark.parametrize(
    ("cards", "option", "place", "said"),
    [
        pytest.param(
            ["a: {title: A, per_node: 2}"], "accelerator: a, count: [1, 2, 3]", "count[2]", "3 is more", id="choices"
        ),
        pytest.param(
            ["a: {title: A, per_node: 2}"],
            "accelerator: a, count: {choices: [1, 3]}",
            "count.choices[1]",
            "3 is more",
            id="choices at length",
        ),
        pytest.param(
            ["a: {title: A, per_node: 2}"],
            "accelerator: a, count: {min: 1, max: 8}",
            "count.max",
            "8 is more than any accelerator of this profile has: a at most 2",
            id="range",
        ),
        pytest.param(
            ["a: {title: A, simulated: {count: 4}}"],
            "accelerator: [none, a], count: 5",
            "count",
            "a at most 4",
            id="simulated",
        ),
        pytest.param(
            ["a: {title: A, per_node: 3, local: {product: NVIDIA L4}}", "b: {title: B, per_node: 2}"],
            "accelerator: [a, b], count: [1, 4]",
            "count[1]",
            "4 is more than any accelerator of this profile has: a at most 3, b at most 2",
            id="several",
        ),
        pytest.param(
            ["a: {title: A, per_node: 4}", "b: {title: B, per_node: 1}"],
            "accelerator: [a, b], count: [2, 4]",
            "accelerator[1]",
            "a session has at most 1 b, and this profile lets nobody ask for fewer than 2",
            id="too few of one",
        ),
        pytest.param(
            ["a: {title: A, per_node: 1}", "b: {title: B, per_node: 4}"],
            "accelerator: [a, b], count: {choices: [1, 2, 4], default: 2}",
            "count.default",
            "the default of 2 is refused with a, the default accelerator: at most 1",
            id="default",
        ),
    ],
)
def test_a_count_that_nobody_can_have(cards: list[str], option: str, place: str, said: str) -> None:
    (problem,) = problems(*cards, options=option)
    assert problem.startswith(f"c.yaml:{len(cards) + 2}:")
    assert f" profiles.p.options.{place}: " in problem
    assert said in problem


@pytest.mark.parametrize(
    ("cards", "option"),
    [
        (["a: {title: A, per_node: 2}"], "accelerator: a, count: [1, 2]"),
        (["a: {title: A, per_node: 2}"], "accelerator: a, count: {min: 1, max: 2}"),
        (["a: {title: A, per_node: 1}", "b: {title: B, per_node: 8}"], "accelerator: [a, b], count: [1, 8]"),
        (["a: {title: A, per_node: 1}", "b: {title: B}"], "accelerator: [a, b], count: [1, 1000]"),
        (
            ["a: {title: A, simulated: {count: 1}, kubernetes: {resource: nvidia.com/gpu}}"],
            "accelerator: a, count: [1, 8]",
        ),
    ],
)
def test_a_count_that_somebody_can_have(cards: list[str], option: str) -> None:
    assert read(*cards, options=option)


@pytest.mark.parametrize(
    ("resource", "labels", "mig", "named"),
    [
        ("nvidia.com/mig-1g.5gb", "{}", "2g.10gb", "'nvidia.com/mig-1g.5gb' on Kubernetes means slices 1g.5gb"),
        ("nvidia.com/mig-1g.5gb", "{}", None, "but whole cards here"),
        ("nvidia.com/mig-1g.5gb.me", "{}", "1g.5gb", "means slices 1g.5gb+me, but slices 1g.5gb here"),
        (
            "nvidia.com/gpu",
            "{nvidia.com/gpu.product: NVIDIA-A100-SXM4-40GB-MIG-3g.20gb}",
            "1g.5gb",
            "means slices 3g.20gb",
        ),
    ],
)
def test_another_slice_on_kubernetes_than_on_one_machine(
    resource: str, labels: str, mig: str | None, named: str
) -> None:
    here = f"{{product: NVIDIA A100{f', mig: {mig}' if mig else ''}}}"
    text = f"a: {{title: A, kubernetes: {{resource: {resource}, node_labels: {labels}}}, local: {here}}}"
    (problem,) = problems(text)
    assert f" accelerators.a.local{'.mig' if mig else ''}: " in problem
    assert named in problem


@pytest.mark.parametrize(
    ("resource", "mig"),
    [
        ("nvidia.com/mig-1g.5gb", "1g.5gb"),
        ("nvidia.com/mig-1g.5gb.me", "1g.5gb+me"),
        ("nvidia.com/mig-1g.24gb.me.all", "1g.24gb+me.all"),
        ("nvidia.com/mig-1g.24gb-me", "1g.24gb-me"),
        ("nvidia.com/mig-3g.20gb.shared", "3g.20gb"),
        ("nvidia.com/gpu", "1g.5gb"),
        ("nvidia.com/mig-of-our-own", "1g.5gb"),
    ],
)
def test_the_same_slice_on_both(resource: str, mig: str) -> None:
    read(f"a: {{title: A, kubernetes: {{resource: {resource}}}, local: {{product: NVIDIA A100, mig: {mig}}}}}")


@pytest.mark.parametrize(
    ("entry", "place", "said"),
    [
        ("local: {product: NVIDIA L4, mig: 1g5gb}", "local.mig", "'1g5gb' is no MIG profile: write one such as 1g.5gb"),
        ("local: {product: NVIDIA L4, mig: 0g.5gb}", "local.mig", "is no MIG profile"),
        ("local: {product: []}", "local.product", "at least 1 item"),
        ("local: {product: NVIDIA L4, replicas: 0}", "local.replicas", "greater than or equal to 1"),
        ("local: {product: NVIDIA L4, replicas: 65}", "local.replicas", "less than or equal to 64"),
        ("local: {}", "local", "needs 'product'"),
        ("simulated: {count: 0}", "simulated.count", "greater than or equal to 1"),
        ("simulated: {count: 1.5}", "simulated.count", "got 1.5"),
        ("simulated: {}", "simulated", "needs 'count'"),
        ("simulated: 4", "simulated", "must be a mapping"),
        ("local: {product: NVIDIA L4}, simulated: {count: 1}", "simulated", "is real (`local`) and simulated at once"),
        ("per_node: 0", "per_node", "greater than or equal to 1"),
        ("share: 1.01", "share", "1.01 is no share of a card: it must be above 0 and at most 1"),
        ("share: -1/7", "share", "is no share of a card: write one such as 1, 0.5 or 3/7"),
        ("share: -1/-1", "share", "is no share of a card: write one such as 1, 0.5 or 3/7"),
        ("share: 1e999999999/1e999999999", "share", "is no share of a card: write one such as"),
        ("share: 1e-400", "share", "is no share of a card"),
        ("share: 0.00001", "share", "is no share of a card: the smallest is 0.0001"),
        ("kubernetes: {resource: nvidia.com/gpu, dra: {device_class: x.y}}", "kubernetes", "write one of `resource`"),
        ("kubernetes: {dra: {device_class: 'X Y'}}", "kubernetes.dra.device_class", "is no Kubernetes name"),
        ("kubernetes: {resource: cpu}", "kubernetes.resource", "it has no domain"),
        (
            "kubernetes: {resource: nvidia.com/gpu, tolerations: [{key: a}, {key: b}, {key: a, operator: Exists}]}",
            "kubernetes.tolerations[2]",
            "the same toleration was given before",
        ),
    ],
)
def test_single_values(entry: str, place: str, said: str) -> None:
    (problem,) = problems(f"a: {{title: A, {entry}}}")
    assert f" accelerators.a.{place}: " in problem
    assert said in problem


@pytest.mark.parametrize(("written", "share"), [("1/7", Decimal(1) / 7), ("'0.5'", Decimal("0.5")), ("1", Decimal(1))])
def test_shares(written: str, share: Decimal) -> None:
    card: Accelerator = read(f"a: {{title: A, share: {written}}}").accelerators["a"]
    assert card.share == share
