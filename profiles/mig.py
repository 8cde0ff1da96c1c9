"""Names of MIG profiles (NVIDIA's Multi-Instance GPU): as NVML writes them, and where they stand in names of
Kubernetes."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from profiles.syntax import SyntaxProblem, shown

__all__ = ["PROFILE", "Named", "check_profile", "profiles_of"]

PROFILE = r"[1-9]g\.[1-9][0-9]*gb([+-][a-z0-9.]+)?"
"""Compute slices, memory, and what is special about it: `1g.5gb`, `1g.10gb+me`."""

_PROFILE = re.compile(PROFILE)
_WRITTEN = r"([1-9]g\.[1-9][0-9]*gb(?:[.-][a-z0-9.]+?)??)"  # names of Kubernetes hold no `+`: a `.` stands for it
_RESOURCE = re.compile(rf"nvidia\.com/mig-{_WRITTEN}(?:\.shared)?")
_PRODUCT = re.compile(rf".+-MIG-{_WRITTEN}(?:-SHARED)?")


@dataclass(frozen=True)
class Named:
    """A profile, and the name that it stands in."""

    profile: str
    written: str


def check_profile(profile: str) -> str:
    if not _PROFILE.fullmatch(profile):
        raise SyntaxProblem(f"{shown(profile)} is no MIG profile: write one such as 1g.5gb, 3g.40gb or 1g.10gb+me")
    return profile


def profiles_of(resource: str | None, node_labels: Mapping[str, Iterable[str]]) -> Iterator[Named]:
    """The profiles that a resource of the device plugin (strategy "mixed": `nvidia.com/mig-1g.5gb`) or a product label
    (strategy "single": `NVIDIA-A100-SXM4-40GB-MIG-1g.5gb`) name."""
    if resource and (match := _RESOURCE.fullmatch(resource)):
        yield Named(_as_nvml(match[1]), resource)
    for value in node_labels.get("nvidia.com/gpu.product", ()):
        if match := _PRODUCT.fullmatch(value):
            yield Named(_as_nvml(match[1]), value)


def _as_nvml(name: str) -> str:
    slices, memory, *special = name.split(".", 2)
    return ".".join([slices, memory]) + "".join(f"+{part}" for part in special)
