"""The catalogue that is shipped."""

from decimal import Decimal
from pathlib import Path

import pytest

import profiles
from profiles.access import Person
from profiles.loader import load
from profiles.offers import offers

CATALOGUE = load(Path(profiles.__file__).with_name("catalogue.yaml"))
RESEARCHER = Person("ann", frozenset({"researchers"}))


@pytest.mark.parametrize(
    ("key", "resource", "product", "share"),
    [
        ("a100", "nvidia.com/gpu", {"NVIDIA-A100-PCIE-40GB", "NVIDIA-A100-SXM4-40GB"}, 1),
        ("a100-1g.5gb", "nvidia.com/mig-1g.5gb", {"NVIDIA-A100-PCIE-40GB", "NVIDIA-A100-SXM4-40GB"}, Decimal(1) / 7),
        ("a100-2g.10gb", "nvidia.com/mig-2g.10gb", {"NVIDIA-A100-PCIE-40GB", "NVIDIA-A100-SXM4-40GB"}, Decimal(2) / 7),
        ("a100-3g.20gb", "nvidia.com/mig-3g.20gb", {"NVIDIA-A100-PCIE-40GB", "NVIDIA-A100-SXM4-40GB"}, Decimal(3) / 7),
        ("a100-7g.40gb", "nvidia.com/mig-7g.40gb", {"NVIDIA-A100-PCIE-40GB", "NVIDIA-A100-SXM4-40GB"}, 1),
        ("t4", "nvidia.com/gpu", {"Tesla-T4"}, 1),
        ("rtx5000", "nvidia.com/gpu", {"Quadro-RTX-5000"}, 1),
    ],
)
def test_nvidia_cards(key: str, resource: str, product: set[str], share: Decimal) -> None:
    card = CATALOGUE.accelerators[key]
    assert card.kubernetes is not None
    assert card.kubernetes.resource == resource
    assert set(card.kubernetes.node_labels["nvidia.com/gpu.product"]) == product
    assert card.kubernetes.runtime_class == "nvidia"
    assert [(one.key, one.operator, one.effect) for one in card.kubernetes.tolerations] == [
        ("nvidia.com/gpu", "Exists", "NoSchedule")
    ]
    assert card.share == share


def test_the_fpga_is_for_its_group() -> None:
    card = CATALOGUE.accelerators["u55c"]
    assert card.kubernetes is not None
    assert card.kubernetes.resource == "amd.com/xilinx_u55c_gen3x16_xdma_base_3-0"
    assert card.access.groups == ("fpga-users",)


def test_a_researcher_starts_jupyterlab_on_either_engine() -> None:
    for engine in ("kubernetes", "local"):
        first, teaching = offers(CATALOGUE, RESEARCHER, engine)  # type: ignore[arg-type]
        assert (first.key, first.reason, first.default) == ("jupyterlab", None, True)
        assert teaching.reason == "needs group instructors"
        assert {option.key: option.default for option in first.options} == {
            "image": "jupyterlab",
            "app": "none",
            "accelerator": "none",
            "cpu": "1",
            "memory": "2Gi",
        }


def test_on_one_machine_the_inventory_is_simulated_and_says_so() -> None:
    first, _ = offers(CATALOGUE, RESEARCHER, "local")
    cards = {offer.key: offer for option in first.options if option.key == "accelerator" for offer in option.offers}
    assert set(cards) == {"none", *CATALOGUE.accelerators}
    open_ones = {key: offer.at_most for key, offer in cards.items() if offer.reason is None}
    assert open_ones == {"none": None, "a100-1g.5gb": 21, "t4": 2, "rtx5000": 5}
    assert cards["u55c"].reason == "needs group fpga-users"
    assert cards["a100"].reason == "this machine hands out no A100"
    assert {key for key, offer in cards.items() if offer.simulated} == {"a100-1g.5gb", "t4", "rtx5000", "u55c"}
    assert all(offer.simulated == offer.title.endswith(" (simulated)") for offer in cards.values())


def test_on_kubernetes_every_accelerator_is_real() -> None:
    first, _ = offers(CATALOGUE, RESEARCHER, "kubernetes")
    cards = {offer.key: offer for option in first.options if option.key == "accelerator" for offer in option.offers}
    assert {key for key, offer in cards.items() if offer.reason} == {"u55c"}
    assert not any(offer.simulated or "simulated" in offer.title for offer in cards.values())
