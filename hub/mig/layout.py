"""Layouts of mig-parted's configuration, and whether a node shows one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from hub.discover.vendors import product
from hub.mig.names import STRATEGY
from profiles.quantities import QuantityError, parse_quantity

__all__ = ["Layout", "layouts_of", "offered", "offers", "unread"]

_DISABLED, _EACH = "all-disabled", "all-"
_LONGEST = 10**6


@dataclass(frozen=True)
class Layout:
    """One layout.

    Parameters
    ----------
    profiles
        How many MIG devices of which profile a card is cut into; of the parts of a layout that treats cards
        differently, each profile with its largest number.
    whole
        Whether some cards stay whole.
    certain
        Whether every node has all of it; not where it depends on the kind of card (`device-filter`).
    """

    name: str
    profiles: Mapping[str, int]
    whole: bool = False
    certain: bool = True

    def __str__(self) -> str:
        parts = [f"{count} × {profile}" for profile, count in self.profiles.items()]
        parts += ["whole cards"] if self.whole else []
        return " and ".join(parts) or "cards without partitions"

    def shown_by(self, node: Mapping[str, Any]) -> bool:
        """Return whether a node offers what this layout makes, and nothing else of NVIDIA's."""
        wanted = {_as_label(profile) for profile in self.profiles} | ({""} if self.whole else set())
        there = set(offered(node))
        if self.certain:
            return there == wanted
        return bool(there) and there <= wanted


def _as_label(profile: str) -> str:
    return profile.replace("+", ".")  # names of Kubernetes hold no `+`


def layouts_of(config: str) -> dict[str, Layout] | None:
    """Return the layouts of a mig-parted configuration; None: this is none.

    Notes
    -----
    The format is that of mig-parted's README and api/spec/v1: `mig-configs` by name, each a list of parts with
    `devices`, `device-filter`, `mig-enabled` and `mig-devices`.
    """
    if len(config) > _LONGEST:
        return None
    try:
        read = yaml.safe_load(config)
    except (yaml.YAMLError, RecursionError):
        return None
    found = read.get("mig-configs") if isinstance(read, Mapping) else None
    if not isinstance(found, Mapping):
        return None
    return {str(name): _layout(str(name), parts) for name, parts in found.items() if isinstance(parts, list)}


def _layout(name: str, parts: list[Any]) -> Layout:
    profiles: dict[str, int] = {}
    whole, certain = False, True
    for part in parts:
        if not isinstance(part, Mapping):
            continue
        certain = certain and not part.get("device-filter")
        if not part.get("mig-enabled"):
            whole = True
            continue
        devices = part.get("mig-devices")
        for profile, count in devices.items() if isinstance(devices, Mapping) else ():
            number = count if isinstance(count, int) and not isinstance(count, bool) else 0
            profiles[str(profile)] = max(number, profiles.get(str(profile), 0))
    return Layout(name, profiles, whole, certain)


def unread(name: str) -> Layout | None:
    """Return what a layout's name says where the configuration cannot be read; None: nothing."""
    if name == _DISABLED:
        return Layout(name, {}, whole=True)
    profile = name.removeprefix(_EACH)
    if name.startswith(_EACH) and profile[:1].isdigit():
        return Layout(name, {profile: 0}, certain=False)
    return None


def offers(node: Mapping[str, Any]) -> dict[str, int]:
    """Return what a node offers of NVIDIA's, by resource."""
    found = {}
    for resource, amount in ((node.get("status") or {}).get("allocatable") or {}).items():
        if str(resource).startswith("nvidia.com/"):
            try:
                count = int(parse_quantity(str(amount)))
            except QuantityError:
                continue
            if count > 0:
                found[str(resource)] = count
    return found


def offered(node: Mapping[str, Any]) -> dict[str, int]:
    """Return what a node offers by MIG profile, "" for whole cards; whichever way the device plugin names it."""
    labels = (node.get("metadata") or {}).get("labels") or {}
    found: dict[str, int] = {}
    for resource, count in offers(node).items():
        here = product(resource, labels if labels.get(STRATEGY) == "single" else {})
        if resource.startswith(("nvidia.com/mig-", "nvidia.com/gpu")):
            found[here.slice] = found.get(here.slice, 0) + count
    return found
