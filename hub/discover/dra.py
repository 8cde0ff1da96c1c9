"""From DRA's ResourceSlices and DeviceClasses (resource.k8s.io/v1) to findings. Pure.

Devices are grouped by what a driver says about them (product, MIG profile, kind), and each group is asked for by the
narrowest DeviceClass that has all of it, with a CEL selector for what the class leaves open.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.discover.finding import Finding, named, plain
from hub.discover.naming import key_of
from hub.discover.vendors import family_of, model_of, slice_share
from profiles.quantities import QuantityError, format_memory, parse_quantity, say_memory

__all__ = ["Device", "devices_of", "findings_of_devices"]

# What drivers call these things: gpu.nvidia.com (productName, profile, type), gpu.intel.com (model, family),
# gpu.amd.com (productName, type), the example driver of Kubernetes (model).
_PRODUCTS = ("productName", "model", "product", "deviceName")
_PROFILES = ("profile", "partitionProfile")
_KINDS = ("type",)


@dataclass(frozen=True)
class Device:
    """One device of a slice; `attributes` and `capacity` by qualified name (`domain/name`)."""

    driver: str
    node: str
    name: str
    attributes: Mapping[str, Any]
    capacity: Mapping[str, int]
    shares_counters: bool = False

    def text(self, names: Iterable[str]) -> tuple[str, str]:
        """Return the first of these attributes of the driver that is a text: its name and value, empty if none is."""
        for name in names:
            value = self.attributes.get(f"{self.driver}/{name}")
            if isinstance(value, str) and value:
                return name, value
        return "", ""


def devices_of(slices: Iterable[Mapping[str, Any]]) -> tuple[Device, ...]:
    """Return the devices of the newest generation of each pool."""
    specs = [one.get("spec") or {} for one in slices]
    newest: dict[tuple[str, str], int] = defaultdict(int)
    for spec in specs:
        pool = spec.get("pool") or {}
        which = str(spec.get("driver")), str(pool.get("name"))
        newest[which] = max(newest[which], int(pool.get("generation") or 0))
    found = []
    for spec in specs:
        pool, driver = spec.get("pool") or {}, str(spec.get("driver"))
        if int(pool.get("generation") or 0) == newest[driver, str(pool.get("name"))]:
            found += [_device(driver, spec, device) for device in spec.get("devices") or ()]
    return tuple(found)


def _device(driver: str, spec: Mapping[str, Any], device: Mapping[str, Any]) -> Device:
    values = {_qualified(driver, name): _value(value) for name, value in (device.get("attributes") or {}).items()}
    sizes = {}
    for name, value in (device.get("capacity") or {}).items():
        try:
            sizes[_qualified(driver, name)] = int(parse_quantity(str(value.get("value"))))
        except QuantityError:
            continue
    node = str(device.get("nodeName") or spec.get("nodeName") or "")
    return Device(driver, node, str(device.get("name", "")), values, sizes, bool(device.get("consumesCounters")))


def _qualified(driver: str, name: str) -> str:
    return name if "/" in name else f"{driver}/{name}"


def _value(value: Mapping[str, Any]) -> Any:
    return next(iter(value.values()), None)


@dataclass(frozen=True)
class _Kind:
    """What tells a group of devices from others: (attribute, value) pairs, empty where the driver says nothing."""

    driver: str
    kind: tuple[str, str]
    product: tuple[str, str]
    profile: tuple[str, str]


def findings_of_devices(
    devices: Sequence[Device],
    classes: Iterable[Mapping[str, Any]],
    matches: Callable[[str, Device], bool],
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Return what DRA drivers offer, and remarks about what was left out.

    Parameters
    ----------
    classes
        DeviceClass objects.
    matches
        Whether a device meets a CEL expression.
    """
    having = {
        str((one.get("metadata") or {}).get("name", "")): {
            device.name + "\0" + device.node + "\0" + device.driver
            for device in devices
            if _in_class(one, device, matches)
        }
        for one in classes
    }
    groups: dict[_Kind, list[Device]] = defaultdict(list)
    for device in devices:
        groups[_Kind(device.driver, *map(device.text, (_KINDS, _PRODUCTS, _PROFILES)))].append(device)
    findings, remarks = [], []
    for kind, members in sorted(groups.items(), key=lambda item: _order(item[0])):
        own = {device.name + "\0" + device.node + "\0" + device.driver for device in members}
        fitting = [name for name, inside in having.items() if own <= inside]
        if fitting:
            best = min(fitting, key=lambda name: (len(having[name]), name))
            inside = [d for d in devices if d.name + "\0" + d.node + "\0" + d.driver in having[best]]
            findings.append(_finding(kind, members, best, inside))
        else:
            remarks.append(f"{_said(kind)}: no DeviceClass has them ({named(_nodes(members))})")
    return tuple(findings), tuple(remarks)


def _in_class(device_class: Mapping[str, Any], device: Device, matches: Callable[[str, Device], bool]) -> bool:
    selectors = (device_class.get("spec") or {}).get("selectors") or ()
    return all(matches(str((one.get("cel") or {}).get("expression", "")), device) for one in selectors)


def _order(kind: _Kind) -> tuple[str, ...]:
    return (kind.driver, kind.product[1], kind.profile[1], kind.kind[1])


def _nodes(devices: Iterable[Device]) -> set[str]:
    return {device.node or "(not bound to a node)" for device in devices}


def _said(kind: _Kind) -> str:
    return plain(" ".join(filter(None, (kind.driver, kind.kind[1], kind.product[1], kind.profile[1]))))


def _selector(kind: _Kind, inside: Sequence[Device]) -> str:
    """CEL for what the class leaves open. A device without the attribute would make the whole claim fail, so its
    presence is asked for where the class has such devices.
    """
    parts = []
    if {device.driver for device in inside} != {kind.driver}:
        parts.append(f"device.driver == {_quoted(kind.driver)}")
    domain = f"device.attributes[{_quoted(kind.driver)}]"
    for name, value in (kind.kind, kind.product, kind.profile):
        values = [device.attributes.get(f"{kind.driver}/{name}") for device in inside]
        if not name or (name in _KINDS and set(values) == {value}):
            continue
        if None in values:
            parts.append(f"{_quoted(name)} in {domain}")
        parts.append(f"{domain}.{name} == {_quoted(value)}")
    return " && ".join(parts)


def _quoted(text: str) -> str:
    """A CEL text; JSON's escapes are legal in CEL as long as no surrogate pairs are made."""
    return json.dumps(text, ensure_ascii=False)


def _finding(kind: _Kind, members: Sequence[Device], device_class: str, inside: Sequence[Device]) -> Finding:
    model = model_of(kind.product[1]) or model_of(kind.kind[1]) or kind.driver
    family = family_of(kind.product[1]) or model
    profile = plain(kind.profile[1], 40)
    sizes = [size for device in members if (size := device.capacity.get(f"{kind.driver}/memory", 0)) >= 2**20]
    share = slice_share(kind.product[1], profile)
    per_node = max(sum(device.node == node for device in members) for node in {d.node for d in members})
    where = named(_nodes(members))
    entry: dict[str, Any] = {
        "description": plain(f"{model}{f', {profile}' if profile else ''}"),
        "family": plain(family),
    }
    evidence: dict[tuple[str, ...], str] = {}
    if sizes:
        entry["description"] += f", {say_memory(min(sizes))}"
        entry["memory"] = format_memory(min(sizes))
        evidence["memory",] = "capacity memory of the devices"
    entry["share"] = 1 if share is None or share == 1 else f"{share.numerator}/{share.denominator}"
    evidence["share",] = _why_share(profile, known=share is not None)
    if all(device.node for device in members):
        entry["per_node"] = min(per_node, 1024)
        evidence["per_node",] = f"the most devices of one node; {len(members)} in all"
    dra: dict[str, Any] = {"device_class": device_class}
    evidence["kubernetes", "dra", "device_class"] = f"DeviceClass that has them; ResourceSlices of {where}"
    selector = _selector(kind, inside)
    if selector:
        dra["selectors"] = [selector]
        evidence["kubernetes", "dra", "selectors"] = f"attributes that driver {kind.driver} publishes"
    entry["kubernetes"] = {"dra": dra}
    return Finding(_candidates(family, model, profile, kind), entry, evidence, tuple(_notes(kind, members)))


def _why_share(profile: str, *, known: bool) -> str:
    if not profile:
        return "a whole device"
    return f"MIG {profile}, compute slices of the card's" if known else f"not known for {profile}: put the right one"


def _candidates(family: str, model: str, profile: str, kind: _Kind) -> tuple[tuple[str, str], ...]:
    part = f" {profile}" if profile else ""
    names = []
    for card in dict.fromkeys((family, model, f"{model} {kind.driver}", f"{model} {kind.driver} {kind.kind[1]}")):
        names.append((key_of(f"{card}{part}"), plain(f"{card}{' slice' if part else ''}{part}")))
    return tuple(names)


def _notes(kind: _Kind, members: Sequence[Device]) -> Iterable[str]:
    if not kind.product[0]:
        yield f"Driver {plain(kind.driver)} names no product: look at the title, and who may pick it."
    if any(device.shares_counters for device in members):
        yield "Partitions that share counters of a card: not all of them can be had at once."
