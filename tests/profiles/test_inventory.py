"""The nodes of the predecessor's inventory hold exactly what the shipped catalogue says of them."""

from typing import Any

from profiles.model import Accelerator, KubernetesDevice
from tests.profiles.inventory import TOTALS, nodes
from tests.profiles.test_catalogue import CATALOGUE


def has(node: dict[str, Any], device: KubernetesDevice) -> int:
    labels = node["metadata"]["labels"]
    if any(labels.get(key) not in values for key, values in device.node_labels.items()):
        return 0
    return int(node["status"]["allocatable"].get(device.resource, 0))


def total(card: Accelerator) -> int:
    return sum(has(node, card.kubernetes) for node in nodes()) if card.kubernetes else 0


def test_the_nodes_have_what_the_catalogue_describes() -> None:
    assert {key: total(card) for key, card in CATALOGUE.accelerators.items()} == TOTALS


def test_one_machine_simulates_the_same_inventory() -> None:
    simulated = {key: card.simulated.count if card.simulated else 0 for key, card in CATALOGUE.accelerators.items()}
    assert simulated == TOTALS


def test_the_whole_is_as_large_as_the_platform() -> None:
    capacity = [node["status"]["capacity"] for node in nodes()]
    assert sum(int(one["cpu"]) for one in capacity) == 180
    assert sum(int(one["memory"].removesuffix("Gi")) for one in capacity) == 1200


def test_every_taint_is_tolerated_by_the_accelerators_of_the_node() -> None:
    for node in nodes("x-"):
        assert node["metadata"]["name"].startswith("x-")
        taints = {taint["key"] for taint in node["spec"].get("taints", ())}
        for card in CATALOGUE.accelerators.values():
            if card.kubernetes and has(node, card.kubernetes):
                assert taints <= {toleration.key for toleration in card.kubernetes.tolerations}


def test_each_call_makes_new_nodes() -> None:
    nodes()[0]["metadata"]["labels"].clear()
    assert nodes()[0]["metadata"]["labels"]
