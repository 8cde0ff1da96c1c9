"""Discovery of a cluster's accelerators: what nodes and DRA say becomes a catalogue that is accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hub import cli
from hub.discover.cluster import findings_of_nodes, runtime_class_of
from hub.discover.dra import devices_of, findings_of_devices
from hub.discover.finding import Finding, Inventory, plain
from hub.discover.naming import key_of, with_names
from hub.discover.nodes import read_node
from hub.discover.render import catalogue, section
from profiles.loader import loads
from profiles.model import Accelerator
from profiles.syntax import check_key
from spawner.capacity.selectors import Selectors
from tests.hub.discover_world import (
    CLUSTER,
    DEVICE_CLASSES,
    NVIDIA_TAINT,
    RUNTIME_CLASSES,
    SLICES,
    dra_slice,
    node,
)
from tests.profiles import inventory

GOLDEN = Path(__file__).parent / "golden"
MINIMAL = """
images:
  lab: {title: Lab, reference: example.org/lab:1}
profiles:
  one: {title: One, options: {image: [lab], cpu: 1}}
"""

Node = Mapping[str, Any]


def look(
    nodes: Sequence[Node] = (), slices: Sequence[Node] = (), classes: Sequence[Node] = DEVICE_CLASSES
) -> Inventory:
    findings, remarks = findings_of_nodes([read_node(one) for one in nodes], runtime_class_of(RUNTIME_CLASSES))
    devices, more = findings_of_devices(devices_of(slices), classes)
    return Inventory("a test", findings + devices, remarks + more)


def found(*nodes: Node, **dra: Any) -> dict[str, Accelerator]:
    return dict(loads(section(look(nodes, **dra)) + MINIMAL).accelerators)


def kubernetes(card: Accelerator) -> dict[str, Any]:
    assert card.kubernetes is not None
    return card.kubernetes.model_dump(exclude_defaults=True)


@pytest.mark.parametrize(
    ("name", "seen"),
    [("discover-nodes", look(CLUSTER)), ("discover-dra", look((), SLICES)), ("discover-nothing", look())],
)
def test_golden(name: str, seen: Inventory, request: pytest.FixtureRequest) -> None:
    path = GOLDEN / f"{name}.yaml"
    if request.config.getoption("--update-golden", default=False):
        path.parent.mkdir(exist_ok=True)
        path.write_text(section(seen), encoding="utf-8")
    assert section(seen) == path.read_text(encoding="utf-8"), f"{path.name}: see --update-golden"


@pytest.mark.parametrize("seen", [look(CLUSTER, SLICES), look()], ids=["all", "nothing"])
def test_what_is_printed_passes_the_check(seen: Inventory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "section.yaml").write_text(section(seen) + MINIMAL)
    (tmp_path / "whole.yaml").write_text(catalogue(seen, "localhost/armillary/base:0.2.0"))
    status = cli.main(["check", str(tmp_path / "section.yaml"), str(tmp_path / "whole.yaml")])
    assert (capsys.readouterr().out, status) == ("no problems\n", 0)


def test_the_whole_catalogue_offers_everything() -> None:
    read = loads(catalogue(look(CLUSTER), "example.org/lab:1"))
    (profile,) = read.profiles.values()
    assert profile.options.accelerator is not None
    assert tuple(profile.options.accelerator.choices) == ("none", *read.accelerators)
    assert len(read.accelerators) == 14


@pytest.mark.parametrize("product", ["Quadro-4000", "on", "null", "No", "1e3", "0x10"])
def test_names_that_yaml_would_read_as_something_else_stay_names(product: str) -> None:
    card = node("odd", {"nvidia.com/gpu.product": product, "nvidia.com/gpu.count": "1"}, {"nvidia.com/gpu": "1"})
    read = loads(catalogue(look([card]), "example.org/lab:1"))
    (profile,) = read.profiles.values()
    assert profile.options.accelerator is not None
    assert tuple(profile.options.accelerator.choices) == ("none", *read.accelerators)
    assert len(read.accelerators) == 1


def test_the_inventory_of_the_predecessor_is_found_as_the_shipped_catalogue_describes_it() -> None:
    shipped = loads((Path(cli.__file__).parents[1] / "profiles" / "catalogue.yaml").read_text()).accelerators
    here = found(*inventory.nodes())
    assert list(here) == ["a100-1g.5gb", "rtx-5000", "t4", "u55c"]
    for key, same in (("a100-1g.5gb", "a100-1g.5gb"), ("rtx-5000", "rtx5000"), ("t4", "t4"), ("u55c", "u55c")):
        mine, theirs = here[key], shipped[same]
        assert mine.kubernetes is not None
        assert theirs.kubernetes is not None
        assert mine.kubernetes.resource == theirs.kubernetes.resource
        assert mine.share == theirs.share
        for label, values in mine.kubernetes.node_labels.items():
            assert set(values) <= set(theirs.kubernetes.node_labels[label])
        assert {taint.key for taint in mine.kubernetes.tolerations} == {t.key for t in theirs.kubernetes.tolerations}
    assert {key: card.per_node for key, card in here.items()} == {"a100-1g.5gb": 21, "rtx-5000": 5, "t4": 2, "u55c": 2}


def a100(product: str, **labels: str) -> dict[str, str]:
    return {"nvidia.com/gpu.product": product, **{f"nvidia.com/{key}": value for key, value in labels.items()}}


@pytest.mark.parametrize(
    ("labels", "offered", "key", "share"),
    [
        (a100("A100-SXM4-40GB"), "nvidia.com/gpu", "a100", "1"),
        (a100("A100-SXM4-40GB"), "nvidia.com/mig-1g.5gb", "a100-1g.5gb", "1/7"),
        (a100("A100-SXM4-40GB"), "nvidia.com/mig-3g.20gb", "a100-3g.20gb", "3/7"),
        (a100("A100-SXM4-40GB"), "nvidia.com/mig-7g.40gb", "a100-7g.40gb", "1"),
        (a100("A100-SXM4-40GB"), "nvidia.com/mig-1g.10gb.me", "a100-1g.10gb.me", "1/7"),
        (a100("A100-SXM4-40GB-MIG-3g.20gb"), "nvidia.com/gpu", "a100-3g.20gb", "3/7"),
        (a100("NVIDIA-A30"), "nvidia.com/mig-1g.6gb", "a30-1g.6gb", "1/4"),
        (a100("NVIDIA-A30-MIG-2g.12gb"), "nvidia.com/gpu", "a30-2g.12gb", "1/2"),
        (a100("Tesla-T4-SHARED", **{"gpu.replicas": "4"}), "nvidia.com/gpu", "t4-1-of-4", "1/4"),
        (a100("Tesla-T4", **{"gpu.replicas": "3"}), "nvidia.com/gpu.shared", "t4-1-of-3", "1/3"),
        (
            a100("NVIDIA-A100-SXM4-40GB", **{"mig-1g.5gb.replicas": "2"}),
            "nvidia.com/mig-1g.5gb.shared",
            "a100-1g.5gb-1-of-2",
            "1/14",
        ),
        (a100("NVIDIA-H100-80GB-HBM3"), "nvidia.com/gpu", "h100", "1"),
        (a100("NVIDIA-RTX-6000-Ada-Generation"), "nvidia.com/gpu", "rtx-6000-ada-generation", "1"),
    ],
)
def test_both_namings_of_slices_and_sharing_give_their_share(
    labels: dict[str, str], offered: str, key: str, share: str
) -> None:
    text = section(look([node("n", labels, {offered: "7"})]))
    entry = yaml.safe_load(text)["accelerators"][key]
    assert str(entry["share"]) == share
    assert entry["kubernetes"]["resource"] == offered
    assert entry["kubernetes"]["node_labels"] == {"nvidia.com/gpu.product": labels["nvidia.com/gpu.product"]}
    assert found(node("n", labels, {offered: "7"}))[key].per_node == 7


def test_taints_of_the_nodes_become_tolerations_but_passing_ones_do_not() -> None:
    taints = [
        NVIDIA_TAINT,
        {"key": "kept-for", "effect": "NoExecute"},
        {"key": "rather-not", "effect": "PreferNoSchedule"},
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
        {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
    ]
    card = found(node("n", a100("NVIDIA-T4"), {"nvidia.com/gpu": "1"}, taints))["t4"]
    assert kubernetes(card)["tolerations"] == (
        {"key": "kept-for", "effect": "NoExecute"},
        {"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"},
    )


def test_two_products_of_one_family_are_two_accelerators_with_keys_of_their_own() -> None:
    cards = found(
        node("one", a100("NVIDIA-A100-SXM4-40GB"), {"nvidia.com/gpu": "4"}),
        node("two", a100("NVIDIA-A100-PCIE-40GB"), {"nvidia.com/gpu": "2"}),
    )
    assert {key: card.per_node for key, card in cards.items()} == {"a100-sxm4-40gb": 4, "a100-pcie-40gb": 2}


def test_cards_that_no_label_names_are_left_out_where_others_have_one() -> None:
    named_one, bare = node("one", a100("NVIDIA-T4"), {"nvidia.com/gpu": "4"}), node("two", {}, {"nvidia.com/gpu": "2"})
    seen = look([named_one, bare])
    assert "# Left out: nvidia.com/gpu on 1 node: two: no label says which card it is" in section(seen)
    assert list(found(named_one, bare)) == ["t4"]
    assert list(found(bare)) == ["gpu"]


def test_equal_labels_with_another_sharing_are_told_apart() -> None:
    shared = a100("Tesla-T4-SHARED", **{"gpu.replicas": "4"})
    cards = found(
        node("one", {**shared, "nvidia.com/gpu.sharing-strategy": "mps"}, {"nvidia.com/gpu": "4"}),
        node("two", {**shared, "nvidia.com/gpu.sharing-strategy": "time-slicing"}, {"nvidia.com/gpu": "4"}),
    )
    hosts = [kubernetes(card)["node_labels"]["kubernetes.io/hostname"] for card in cards.values()]
    assert hosts == [("one",), ("two",)]


def test_dra_devices_are_asked_for_by_class_and_selector() -> None:
    cards = found(slices=SLICES)
    assert {key: card.per_node for key, card in cards.items()} == {"a100": 2, "a100-1g.5gb": 7, "h200": 1}
    assert kubernetes(cards["a100-1g.5gb"])["dra"] == {
        "device_class": "mig.nvidia.com",
        "selectors": (
            'device.attributes["gpu.nvidia.com"].productName == "NVIDIA A100-SXM4-40GB" && '
            'device.attributes["gpu.nvidia.com"].profile == "1g.5gb"',
        ),
    }


@pytest.mark.parametrize("expression", ["true", "device.driver == 'gpu.nvidia.com'"])
def test_every_selector_has_the_devices_of_its_accelerator_and_no_other(expression: str) -> None:
    """A class that is wide leaves all of the telling apart to the selectors."""
    devices = [
        {"name": "whole", "attributes": {"productName": {"string": 'A "quoted" \\ one'}}},
        {
            "name": "part",
            "attributes": {"productName": {"string": 'A "quoted" \\ one'}, "profile": {"string": "1g.5gb"}},
        },
        {"name": "other", "attributes": {"productName": {"string": "B"}, "type": {"string": "gpu"}}},
        {"name": "silent", "attributes": {"serial": {"int": 3}}},
    ]
    slices = [dra_slice("n", "gpu.nvidia.com", devices)]
    if expression == "true":
        slices.append(dra_slice("m", "gpu.example.org", devices[:1]))
    wide = {"metadata": {"name": "wide"}, "spec": {"selectors": [{"cel": {"expression": expression}}]}}
    cards = found(slices=slices, classes=[wide])
    all_devices = devices_of(slices)
    assert len(cards) == len(all_devices)
    for card in cards.values():
        selectors = Selectors(kubernetes(card)["dra"]["selectors"])
        matching = [one for one in all_devices if selectors.match(one.driver, one.attributes, one.capacity)]
        assert len(matching) == 1


def test_devices_without_a_class_are_named_in_a_comment() -> None:
    assert "# Left out: nic.example.org: no DeviceClass has them (1 node: dra-3)" in section(look((), SLICES))


def test_a_class_that_cannot_be_evaluated_is_named_in_a_comment() -> None:
    broken = {"metadata": {"name": "broken"}, "spec": {"selectors": [{"cel": {"expression": "device.driver =="}}]}}
    assert "# Left out: DeviceClass broken: " in section(look((), SLICES, [broken]))


hostile = st.text(max_size=40) | st.sampled_from(
    [
        "a\nb: c",
        "x # y",
        "# x",
        "{",
        "- a",
        "\u2028b: c",
        "\x85b: 1",
        "'",
        '"',
        "\\",
        "!!python/object:x",
        "*a",
        "&a",
        "?",
    ]
)


@given(model=hostile, profile=hostile, name=hostile, label=hostile, taint=hostile)
def test_nothing_from_a_cluster_breaks_out_of_a_value_or_a_comment(
    model: str, profile: str, name: str, label: str, taint: str
) -> None:
    attributes = {"productName": {"string": model}, "profile": {"string": profile}}
    slices = [dra_slice(name or "n", "gpu.nvidia.com", [{"name": "one", "attributes": attributes}])]
    wide = {"metadata": {"name": "wide"}, "spec": {}}
    labels = {"nvidia.com/gpu.product": label, "kubernetes.io/hostname": name}
    nodes = [
        node(
            name,
            labels,
            {"nvidia.com/gpu": "1", "nvidia.com/mig-1g.5gb": "2"},
            [{"key": taint, "effect": "NoSchedule"}],
        )
    ]
    text = section(look(nodes, slices, [wide]))
    read = yaml.safe_load(text)
    assert set(read) == {"accelerators"}
    entries = loads(text + MINIMAL).accelerators
    assert set(entries) == set(read["accelerators"])
    for line in text.splitlines():
        assert line.isprintable()
    for card in entries.values():
        if card.kubernetes and card.kubernetes.resource:
            assert card.kubernetes.node_labels.get("nvidia.com/gpu.product", (label,)) == (label,)


@given(st.text())
def test_keys_are_legal(text: str) -> None:
    assert check_key(key_of(text)) != "none"


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3), max_size=6))
def test_names_are_given_once(wanted: list[list[str]]) -> None:
    findings = [Finding(tuple((name, name.upper()) for name in names), {}) for names in wanted]
    named = list(with_names(findings))
    assert [finding for _, _, finding in named] == findings
    assert len({key for key, _, _ in named}) == len(findings)
    assert len({title for _, title, _ in named}) == len(findings)


def test_text_from_a_cluster_is_one_short_line() -> None:
    assert plain("a\n\tb\u2028c\x00d") == "a b c d"
    assert plain("x" * 500) == "x" * 119 + "…"
