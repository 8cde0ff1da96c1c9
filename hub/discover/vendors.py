"""What the names and labels of device plugins mean: which card, which part of it, how much memory.

Sources: NVIDIA k8s-device-plugin, docs/gpu-feature-discovery/README.md (labels, MIG strategies) and its README
("Shared access to GPUs": -SHARED, gpu.shared); NVIDIA MIG user guide (slices of a card); ROCm k8s-device-plugin,
node labeller (amd.com/gpu.*); Intel device plugins, cmd/gpu_plugin/labels.md; Xilinx FPGA device plugin (resource
names after the shell); Google Kubernetes Engine, "TPUs in GKE" (cloud.google.com/gke-tpu-*).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from profiles.quantities import QuantityError, parse_quantity

__all__ = ["Product", "family_of", "is_no_accelerator", "model_of", "product", "slice_share"]

MIB, GIB = 2**20, 2**30

_PRODUCT = "nvidia.com/gpu.product"
_MIG_RESOURCE = re.compile(
    r"mig-(?P<profile>[1-9][0-9]*g\.[1-9][0-9]*gb)(?P<more>[.+][a-z0-9.+]+?)??(?P<shared>\.shared)?"
)
_SINGLE = re.compile(r"(?P<card>.+?)-MIG-(?P<profile>.+?)")
_PROFILE = re.compile(r"([1-9][0-9]*)g\.[1-9][0-9]*gb.*")
# Cards with fewer than seven slices (MIG user guide, "Supported MIG Profiles").
_FOUR_SLICES = ("A30", "RTX-PRO-6000")
_BRANDS = re.compile(
    r"^(?:NVIDIA|AMD|INTEL|INTEL\(R\)|TESLA|QUADRO|GEFORCE|INSTINCT|RADEON|DATA|CENTER|GPU)$", re.IGNORECASE
)
_FORM = re.compile(r"^(?:SXM\d?|PCIE|NVL\d*|OAM|HBM\d?E?|\d+GB|MIG)$", re.IGNORECASE)
_ALVEO = re.compile(r"(?:xilinx[_-]|fpga[_-])(u\d{2,3}[a-z]?)(?![a-z0-9])", re.IGNORECASE)

# Devices that people do not pick: network, virtualisation, parts of what another resource hands out.
_NO_ACCELERATORS = (
    re.compile(r"rdma/.*|devices\.kubevirt\.io/.*|vpc\.amazonaws\.com/.*|smarter-devices/.*|github\.com/fuse"),
    re.compile(r"(?:openshift\.io|intel\.com|mellanox\.com|k8s\.cni\.cncf\.io|networking\.gke\.io(?:\.networks)?)/.*"),
    re.compile(r"gpu\.intel\.com/(?:.*_monitoring|millicores|tiles|memory\.max)"),
    re.compile(r"nvidia\.com/(?:hostdev|rdma.*|sriov.*)|ceph\.rook\.io/.*|squat\.ai/.*"),
)


@dataclass(frozen=True)
class Product:
    """What one node offers under one resource name.

    `labels` are those that tell it from other products under the same name. `slice` is the MIG profile. `shared_by`
    is how many sessions share one device. `memory_label` says where `memory` (bytes) comes from.
    """

    vendor: str
    model: str
    family: str
    labels: tuple[tuple[str, str], ...] = ()
    slice: str = ""
    share: Fraction = Fraction(1)
    shared_by: int = 1
    sharing: str = ""
    memory: int | None = None
    memory_label: str = ""
    known: bool = True
    problem: str = ""


def is_no_accelerator(resource: str) -> bool:
    """Whether the resource is something that is not picked by a person."""
    return any(pattern.fullmatch(resource) for pattern in _NO_ACCELERATORS)


def product(resource: str, labels: Mapping[str, str]) -> Product:
    """Return what a node with these labels offers under this resource name."""
    domain, _, name = resource.partition("/")
    if domain == "nvidia.com":
        return _nvidia(name, labels)
    if resource == "amd.com/gpu":
        return _labelled("AMD", "GPU", labels, "amd.com/gpu.product-name", ("amd.com/gpu.vram", "G"))
    if domain == "gpu.intel.com":
        return _labelled("Intel", "GPU", labels, "gpu.intel.com/product", ("gpu.intel.com/memory.max", ""))
    if resource == "google.com/tpu":
        return _tpu(labels)
    alveo = _ALVEO.search(resource)
    if alveo is not None:
        family = alveo[1][0].upper() + alveo[1][1:].lower()
        return Product("AMD", f"Alveo {family}", family)
    words = " ".join(re.split(r"[_.-]+", name)) or name
    return Product(domain, words, words, known=False)


def _nvidia(name: str, labels: Mapping[str, str]) -> Product:
    label = labels.get(_PRODUCT, "")
    card, shared_card = _without_suffix(label, "-SHARED")
    selecting = ((_PRODUCT, label),) if label else ()
    mixed = _MIG_RESOURCE.fullmatch(name)
    if mixed is not None:
        profile = mixed["profile"] + (mixed["more"] or "")
        prefix = f"nvidia.com/mig-{profile}"
        card = _single(card)[0]
    elif name in ("gpu", "gpu.shared"):
        card, profile = _single(card)
        prefix = "nvidia.com/gpu"
    else:
        return Product("NVIDIA", " ".join(name.split("_")), name, selecting, known=False)
    replicas = _number(labels.get(f"{prefix}.replicas", "")) or 1
    shared_by = replicas if shared_card or name.endswith(".shared") or replicas > 1 else 1
    whole = slice_share(card, profile)
    sharing = labels.get(f"{prefix}.sharing-strategy", "")
    megabytes = _number(labels.get(f"{prefix}.memory", ""))
    if megabytes and sharing == "mps":
        megabytes //= shared_by  # MPS gives each an equal part; time-slicing gives all of it to all
    return Product(
        vendor="NVIDIA",
        model=model_of(card) or "GPU",
        family=family_of(card) or "GPU",
        labels=selecting,
        slice=profile,
        share=(whole or Fraction(1)) / shared_by,
        shared_by=shared_by,
        sharing=sharing,
        memory=megabytes * MIB if megabytes else None,
        memory_label=f"{prefix}.memory",
        known=bool(label),
        problem=f"the node's MIG layout is not usable ({label})" if profile and whole is None else "",
    )


def _without_suffix(text: str, suffix: str) -> tuple[str, bool]:
    return text.removesuffix(suffix), text.endswith(suffix)


def _single(card: str) -> tuple[str, str]:
    """Card and MIG profile of a product label under the "single" strategy."""
    found = _SINGLE.fullmatch(card)
    return (found["card"], found["profile"]) if found else (card, "")


def slice_share(card: str, profile: str) -> Fraction | None:
    """Return the part of the card that a MIG profile is (compute slices of all slices), None where it is no profile."""
    if not profile:
        return Fraction(1)
    found = _PROFILE.fullmatch(profile)
    slices = 4 if any(word in card for word in _FOUR_SLICES) else 7
    return Fraction(int(found[1]), slices) if found and int(found[1]) <= slices else None


def _labelled(
    vendor: str, what: str, labels: Mapping[str, str], product_label: str, memory: tuple[str, str]
) -> Product:
    value = labels.get(product_label, "")
    memory_label, unit = memory
    return Product(
        vendor=vendor,
        model=model_of(value) or f"{vendor} {what}",
        family=family_of(value) or f"{vendor} {what}",
        labels=((product_label, value),) if value else (),
        memory=_memory(labels.get(memory_label, ""), unit),
        memory_label=memory_label,
        known=bool(value),
    )


def _tpu(labels: Mapping[str, str]) -> Product:
    wanted = ("cloud.google.com/gke-tpu-accelerator", "cloud.google.com/gke-tpu-topology")
    found = tuple((label, labels[label]) for label in wanted if labels.get(label))
    model = model_of(" ".join(value for _, value in found)) or "TPU"
    return Product("Google", model, "TPU", found, known=bool(found))


def _memory(text: str, unit: str) -> int | None:
    """Bytes; AMD's labeller writes GiB as `191G`, Intel's plain bytes."""
    if unit == "G":
        gibibytes = _number(text.removesuffix("G"))
        return gibibytes * GIB if gibibytes else None
    try:
        size = int(parse_quantity(text))
    except QuantityError:
        return None
    return size if size >= MIB else None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 12 else None


def _words(label: str) -> list[str]:
    return [word for word in re.split(r"[\s_-]+", label) if word]


def model_of(label: str) -> str:
    """Return `A100 SXM4 40GB` of `NVIDIA-A100-SXM4-40GB`."""
    words = _words(label)
    while len(words) > 1 and _BRANDS.match(words[0]):
        words = words[1:]
    return " ".join(words)


def family_of(label: str) -> str:
    """Return `A100` of `NVIDIA-A100-SXM4-40GB`, `RTX 5000` of `Quadro-RTX-5000`: up to what says how it is built."""
    words = model_of(label).split()
    end = next((at for at, word in enumerate(words) if at and _FORM.match(word)), len(words))
    return " ".join(words[:end])
