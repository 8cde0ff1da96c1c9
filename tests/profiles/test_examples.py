"""The examples that are shipped: each is a catalogue that passes the check, and says what its hardware really is."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

import profiles
from hub.cli import main
from profiles.access import Person
from profiles.loader import load
from profiles.mig import profiles_of
from profiles.model import NO_ACCELERATOR, Accelerator, Catalogue
from profiles.offers import offers

FOLDER = Path(profiles.__file__).with_name("examples")
SHIPPED = Path(profiles.__file__).with_name("catalogue.yaml")
EXAMPLES = {path.stem: load(path) for path in sorted(FOLDER.glob("*.yaml"))}
SOMEBODY = Person("ann")

GPU = "nvidia.com/gpu"
PRODUCT = "nvidia.com/gpu.product"
STRATEGY = "nvidia.com/gpu.sharing-strategy"
SXM = "device.attributes['gpu.nvidia.com'].productName == 'NVIDIA A100-SXM4-40GB'"

FACTS = [
    ("a100-mig-single", "a100", "nvidia.com/gpu", {PRODUCT: "NVIDIA-A100-SXM4-40GB"}, "40Gi", "1"),
    ("a100-mig-single", "a100-7g.40gb", GPU, {PRODUCT: "NVIDIA-A100-SXM4-40GB-MIG-7g.40gb"}, "40Gi", "1"),
    ("a100-mig-single", "a100-3g.20gb", GPU, {PRODUCT: "NVIDIA-A100-SXM4-40GB-MIG-3g.20gb"}, "20Gi", "3/7"),
    ("a100-mig-single", "a100-2g.10gb", GPU, {PRODUCT: "NVIDIA-A100-SXM4-40GB-MIG-2g.10gb"}, "10Gi", "2/7"),
    ("a100-mig-single", "a100-1g.5gb", GPU, {PRODUCT: "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"}, "5Gi", "1/7"),
    ("h100-h200", "h100", GPU, {PRODUCT: "NVIDIA-H100-80GB-HBM3"}, "80Gi", "1"),
    ("h100-h200", "h100-7g.80gb", "nvidia.com/mig-7g.80gb", {PRODUCT: "NVIDIA-H100-80GB-HBM3"}, "80Gi", "1"),
    ("h100-h200", "h100-4g.40gb", "nvidia.com/mig-4g.40gb", {PRODUCT: "NVIDIA-H100-80GB-HBM3"}, "40Gi", "4/7"),
    ("h100-h200", "h100-3g.40gb", "nvidia.com/mig-3g.40gb", {PRODUCT: "NVIDIA-H100-80GB-HBM3"}, "40Gi", "3/7"),
    ("h100-h200", "h100-2g.20gb", "nvidia.com/mig-2g.20gb", {PRODUCT: "NVIDIA-H100-80GB-HBM3"}, "20Gi", "2/7"),
    ("h100-h200", "h100-1g.20gb", "nvidia.com/mig-1g.20gb", {PRODUCT: "NVIDIA-H100-80GB-HBM3"}, "20Gi", "1/4"),
    ("h100-h200", "h100-1g.10gb", "nvidia.com/mig-1g.10gb", {PRODUCT: "NVIDIA-H100-80GB-HBM3"}, "10Gi", "1/7"),
    ("h100-h200", "h200", GPU, {PRODUCT: "NVIDIA-H200"}, "141Gi", "1"),
    ("h100-h200", "h200-7g.141gb", "nvidia.com/mig-7g.141gb", {PRODUCT: "NVIDIA-H200"}, "141Gi", "1"),
    ("h100-h200", "h200-4g.71gb", "nvidia.com/mig-4g.71gb", {PRODUCT: "NVIDIA-H200"}, "71Gi", "4/7"),
    ("h100-h200", "h200-3g.71gb", "nvidia.com/mig-3g.71gb", {PRODUCT: "NVIDIA-H200"}, "71Gi", "3/7"),
    ("h100-h200", "h200-2g.35gb", "nvidia.com/mig-2g.35gb", {PRODUCT: "NVIDIA-H200"}, "35Gi", "2/7"),
    ("h100-h200", "h200-1g.35gb", "nvidia.com/mig-1g.35gb", {PRODUCT: "NVIDIA-H200"}, "35Gi", "1/4"),
    ("h100-h200", "h200-1g.18gb", "nvidia.com/mig-1g.18gb", {PRODUCT: "NVIDIA-H200"}, "18Gi", "1/7"),
    ("l40s", "l40s", GPU, {PRODUCT: "NVIDIA-L40S"}, "48Gi", "1"),
    ("mi300x", "mi300x", "amd.com/gpu", {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}, "192Gi", "1"),
    ("mi300x", "mi300x-cpx", "amd.com/cpx_nps4", {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}, "24Gi", "1/8"),
    ("intel-max", "max-1550", "gpu.intel.com/i915", {"gpu.intel.com/product": "Max_1550"}, "128Gi", "1"),
    ("intel-max", "max-1100", "gpu.intel.com/i915", {"gpu.intel.com/product": "Max_1100"}, "48Gi", "1"),
    ("shared", "l4", GPU, {PRODUCT: "NVIDIA-L4", STRATEGY: "none"}, "24Gi", "1"),
    ("shared", "l4-shared", "nvidia.com/gpu.shared", {PRODUCT: "NVIDIA-L4", STRATEGY: "time-slicing"}, "24Gi", "1/4"),
    ("shared", "t4-shared", GPU, {PRODUCT: "Tesla-T4-SHARED", STRATEGY: "time-slicing"}, "16Gi", "1/4"),
    ("shared", "a10-mps", GPU, {PRODUCT: "NVIDIA-A10-SHARED", STRATEGY: "mps"}, "12Gi", "1/2"),
    (
        "tpu",
        "tpu-v5e-2x2",
        "google.com/tpu",
        {"cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice", "cloud.google.com/gke-tpu-topology": "2x2"},
        "16Gi",
        "1",
    ),
]  # fmt: skip

DRA_FACTS = [
    ("l40s", "gpu.nvidia.com", ("device.attributes['gpu.nvidia.com'].productName == 'NVIDIA L40S'",), "1"),
    (
        "a100",
        "gpu.nvidia.com",
        (
            "device.attributes['gpu.nvidia.com'].productName.startsWith('NVIDIA A100')",
            "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('39Gi')) >= 0",
        ),
        "1",
    ),
    ("a100-3g.20gb", "mig.nvidia.com", (SXM, "device.attributes['gpu.nvidia.com'].profile == '3g.20gb'"), "3/7"),
    ("a100-1g.5gb", "mig.nvidia.com", (SXM, "device.attributes['gpu.nvidia.com'].profile == '1g.5gb'"), "1/7"),
]

LOCAL_FACTS = [
    ("a100", ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB"), None, 1),
    ("a100-3g.20gb", ("NVIDIA A100-SXM4-40GB",), "3g.20gb", 1),
    ("a100-1g.5gb", ("NVIDIA A100-SXM4-40GB",), "1g.5gb", 1),
    ("t4", ("Tesla T4",), None, 2),
]

COMPUTE_SLICES = 7


def accelerator(example: str, key: str) -> Accelerator:
    return EXAMPLES[example].accelerators[key]


def share(text: str) -> Decimal:
    part = Fraction(text)
    return Decimal(part.numerator) / Decimal(part.denominator)


def test_every_promised_example_is_there() -> None:
    assert set(EXAMPLES) == {
        "a100-mig-single", "dra", "h100-h200", "intel-max", "l40s", "local-gpu", "mi300x", "quantum", "shared",
        "tpu",
    }  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES)
def test_armillary_check_passes(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(FOLDER / f"{example}.yaml")]) == 0
    assert "no problems" in capsys.readouterr().out


@pytest.mark.parametrize("example", EXAMPLES)
def test_everything_in_it_can_be_picked(example: str) -> None:
    catalogue = EXAMPLES[example]
    engine = "local" if example == "local-gpu" else "kubernetes"
    made = offers(catalogue, SOMEBODY, engine)  # type: ignore[arg-type]
    picked = {
        offer.key
        for profile in made
        for option in profile.options
        if option.key == "accelerator"
        for offer in option.offers
        if offer.reason is None and profile.reason is None
    }
    assert picked - {NO_ACCELERATOR} == set(catalogue.accelerators)


@pytest.mark.parametrize("example", EXAMPLES)
def test_it_names_its_sources(example: str) -> None:
    text = (FOLDER / f"{example}.yaml").read_text()
    assert "# Sources: " in text
    assert "http" not in text


@pytest.mark.parametrize(("example", "key", "resource", "labels", "memory", "part"), FACTS)
def test_facts(example: str, key: str, resource: str, labels: dict[str, str], memory: str, part: str) -> None:
    card = accelerator(example, key)
    assert card.kubernetes is not None
    assert card.kubernetes.resource == resource
    assert set(card.kubernetes.node_labels) == set(labels)
    for name, value in labels.items():
        assert value in card.kubernetes.node_labels[name]
    assert card.memory == int(memory.removesuffix("Gi")) * 2**30
    assert card.share == share(part)


@pytest.mark.parametrize(("key", "device_class", "selectors", "part"), DRA_FACTS)
def test_facts_of_dra(key: str, device_class: str, selectors: tuple[str, ...], part: str) -> None:
    card = accelerator("dra", key)
    assert card.kubernetes is not None
    assert card.kubernetes.dra is not None
    assert (card.kubernetes.dra.device_class, card.kubernetes.dra.selectors) == (device_class, selectors)
    assert card.share == share(part)


@pytest.mark.parametrize(("key", "products", "mig", "replicas"), LOCAL_FACTS)
def test_facts_of_one_machine(key: str, products: tuple[str, ...], mig: str | None, replicas: int) -> None:
    device = accelerator("local-gpu", key).local
    assert device is not None
    assert (device.product, device.mig, device.replicas) == (products, mig, replicas)


def test_every_accelerator_is_in_a_table_above() -> None:
    pinned = {(example, key) for example, key, *_ in FACTS}
    pinned |= {("dra", key) for key, *_ in DRA_FACTS} | {("local-gpu", key) for key, *_ in LOCAL_FACTS}
    there = {(name, key) for name, catalogue in EXAMPLES.items() for key in catalogue.accelerators}
    # The smaller TPU differs in its shape only; the imagined card has no facts.
    assert there - pinned == {("tpu", "tpu-v5e-1x1"), ("local-gpu", "h200")}


@pytest.mark.parametrize("catalogue", [load(SHIPPED), *EXAMPLES.values()], ids=["catalogue", *EXAMPLES])
def test_a_slice_has_the_memory_of_its_name_and_no_less_than_its_part_of_the_card(catalogue: Catalogue) -> None:
    for card in catalogue.accelerators.values():
        device = card.kubernetes
        for named in profiles_of(device.resource, device.node_labels) if device else ():
            slices, memory = named.profile.split("g.")
            assert card.memory == int(memory.removesuffix("gb")) * 2**30
            assert card.share >= Decimal(slices) / COMPUTE_SLICES


def test_gpus_of_nvidia_tolerate_their_taint() -> None:
    for catalogue in (load(SHIPPED), *EXAMPLES.values()):
        for card in catalogue.accelerators.values():
            if card.kubernetes and (card.kubernetes.resource or "").startswith("nvidia.com/"):
                assert [(one.key, one.effect) for one in card.kubernetes.tolerations] == [(GPU, "NoSchedule")]
                assert card.kubernetes.runtime_class == "nvidia"
