"""From DRA's ResourceSlices and DeviceClasses (resource.k8s.io/v1) to findings. Pure.

Devices are grouped by what a driver says about them (product, MIG profile, kind), and each group is asked for by the
narrowest DeviceClass that has all of it, with a CEL selector for what the class leaves open.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hub.discover.finding import Finding, named, plain
from hub.discover.naming import key_of
from hub.discover.vendors import family_of, model_of, slice_share
from profiles.quantities import QuantityError, format_memory, parse_quantity, say_memory
from spawner.capacity.selectors import Selectors, Unevaluable

__all__ = ["Device", "devices_of", "findings_of_devices"]

# What drivers call these things: gpu.nvidia.com (productName, profile, type), gpu.intel.com (model, family),
# gpu.amd.com (productName, type), the example driver of Kubernetes (model).
_PRODUCTS = ("productName", "model", "product", "deviceName")
_PROFILES = ("profile", "partitionProfile")
_KINDS = ("type",)


@dataclass(frozen=True, eq=False)
class Device:
    """One device of a slice; `attributes` and `capacity` as the slice has them."""

    driver: str
    node: str
    attributes: Mapping[str, Mapping[str, Any]]
    capacity: Mapping[str, Mapping[str, Any]]
    shares_counters: bool = False
    many: bool = False

    def text(self, name: str) -> str:
        """Return an attribute of the driver's that is a text; empty where there is none."""
        value = self.attributes.get(name) or self.attributes.get(f"{self.driver}/{name}") or {}
        return str(value.get("string") or "")

    def first(self, names: Iterable[str]) -> tuple[str, str]:
        """Return the first of these attributes that is a text: its name and value, empty if none is."""
        return next(((name, text) for name in names if (text := self.text(name))), ("", ""))

    @property
    def memory(self) -> int:
        """Its memory in bytes; 0: the driver does not say."""
        value = self.capacity.get("memory") or self.capacity.get(f"{self.driver}/memory") or {}
        try:
            return int(parse_quantity(str(value.get("value"))))
        except QuantityError:
            return 0


def devices_of(slices: Iterable[Mapping[str, Any]]) -> tuple[Device, ...]:
    """Return the devices of the newest generation of each pool."""
    specs = [one.get("spec") or {} for one in slices]
    newest: dict[tuple[str, str], int] = defaultdict(int)
    for spec in specs:
        newest[_pool(spec)] = max(newest[_pool(spec)], _generation(spec))
    found = []
    for spec in specs:
        if _generation(spec) == newest[_pool(spec)]:
            found += [_device(spec, device) for device in spec.get("devices") or ()]
    return tuple(found)


def _pool(spec: Mapping[str, Any]) -> tuple[str, str]:
    return str(spec.get("driver")), str((spec.get("pool") or {}).get("name"))


def _generation(spec: Mapping[str, Any]) -> int:
    return int((spec.get("pool") or {}).get("generation") or 0)


def _device(spec: Mapping[str, Any], device: Mapping[str, Any]) -> Device:
    return Device(
        driver=str(spec.get("driver")),
        node=str(device.get("nodeName") or spec.get("nodeName") or ""),
        attributes=device.get("attributes") or {},
        capacity=device.get("capacity") or {},
        shares_counters=bool(device.get("consumesCounters")),
        many=bool(device.get("allowMultipleAllocations")),
    )


@dataclass(frozen=True)
class _Kind:
    """What tells a group of devices from others: (attribute, value) pairs, empty where the driver says nothing."""

    driver: str
    kind: tuple[str, str]
    product: tuple[str, str]
    profile: tuple[str, str]


def findings_of_devices(
    devices: Sequence[Device], classes: Iterable[Mapping[str, Any]]
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Return what DRA drivers offer, and remarks about what was left out.

    Parameters
    ----------
    classes
        DeviceClass objects.
    """
    remarks: list[str] = []
    having = {str(one["metadata"]["name"]): _members(one, devices, remarks) for one in classes}
    groups: dict[_Kind, list[Device]] = defaultdict(list)
    for device in devices:
        groups[_Kind(device.driver, *map(device.first, (_KINDS, _PRODUCTS, _PROFILES)))].append(device)
    findings = []
    for kind, members in sorted(groups.items(), key=lambda item: _order(item[0])):
        fitting = [name for name, inside in having.items() if set(members) <= set(inside)]
        if fitting:
            best = min(fitting, key=lambda name: (len(having[name]), name))
            findings.append(_finding(kind, members, best, having[best]))
        else:
            remarks.append(f"{_said(kind)}: no DeviceClass has them ({named(_nodes(members))})")
    return tuple(findings), tuple(remarks)


def _members(device_class: Mapping[str, Any], devices: Iterable[Device], remarks: list[str]) -> list[Device]:
    """Devices of a class; those for which its selectors cannot be evaluated are none of it, as for the scheduler."""
    expressions = [
        str((one.get("cel") or {}).get("expression", ""))
        for one in (device_class.get("spec") or {}).get("selectors") or ()
    ]
    found = []
    try:
        selectors = Selectors(expressions)
    except Unevaluable as problem:
        remarks.append(f"DeviceClass {plain(device_class['metadata']['name'])}: {plain(problem, 200)}")
        return []
    for device in devices:
        try:
            if selectors.match(device.driver, device.attributes, device.capacity, many=device.many):
                found.append(device)
        except Unevaluable:
            continue
    return found


def _order(kind: _Kind) -> tuple[str, ...]:
    return (kind.driver, kind.product[1], kind.profile[1], kind.kind[1])


def _nodes(devices: Iterable[Device]) -> set[str]:
    return {device.node or "(not bound to a node)" for device in devices}


def _said(kind: _Kind) -> str:
    return plain(" ".join(filter(None, (kind.driver, kind.kind[1], kind.product[1], kind.profile[1]))))


def _selector(kind: _Kind, inside: Sequence[Device]) -> str:
    """CEL for what the class leaves open.

    A device without an attribute that is asked for would make the whole claim fail, so its presence is asked for
    first where the class has such devices. And where others of the class say more than these do, these are the ones
    that do not.
    """
    parts = []
    if {device.driver for device in inside} != {kind.driver}:
        parts.append(f"device.driver == {_quoted(kind.driver)}")
    domain = f"device.attributes[{_quoted(kind.driver)}]"
    own = [device for device in inside if device.driver == kind.driver]
    for (name, value), names in ((kind.kind, _KINDS), (kind.product, _PRODUCTS), (kind.profile, _PROFILES)):
        texts = {device.text(name) for device in own} if name else set()
        if name and (names is not _KINDS or texts != {value}):
            parts += [f"{_quoted(name)} in {domain}"] if "" in texts else []
            parts.append(f"{domain}.{name} == {_quoted(value)}")
        elif not name:
            more = sorted({device.first(names)[0] for device in own} - {""})
            parts += [f"!({_quoted(other)} in {domain})" for other in more]
    return " && ".join(parts)


def _quoted(text: str) -> str:
    """A CEL text; JSON's escapes are legal in CEL as long as no surrogate pairs are made."""
    return json.dumps(text, ensure_ascii=False)


def _finding(kind: _Kind, members: Sequence[Device], device_class: str, inside: Sequence[Device]) -> Finding:
    model = model_of(kind.product[1]) or model_of(kind.kind[1]) or kind.driver
    family = family_of(kind.product[1]) or model
    profile = plain(kind.profile[1], 40)
    sizes = [device.memory for device in members if device.memory >= 2**20]
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
