"""Nodes as discovery sees them: labels, taints, extended resources; read from the API's JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from profiles.quantities import QuantityError, parse_quantity
from profiles.syntax import SyntaxProblem, check_extended_resource

__all__ = ["HOSTNAME", "Node", "Taint", "read_node"]

HOSTNAME = "kubernetes.io/hostname"


@dataclass(frozen=True)
class Taint:
    """A mark that keeps pods away which do not tolerate it."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True)
class Node:
    """One node. `allocatable` and `capacity` hold extended resources only, in pieces."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    allocatable: Mapping[str, int]
    capacity: Mapping[str, int]
    ready: bool = True
    cordoned: bool = False


def read_node(node: Mapping[str, Any]) -> Node:
    """Return what matters of a Node object."""
    meta, spec, status = (node.get(part) or {} for part in ("metadata", "spec", "status"))
    conditions = {str(one.get("type")): one.get("status") for one in status.get("conditions") or ()}
    return Node(
        name=str(meta.get("name", "")),
        labels={str(key): str(value) for key, value in (meta.get("labels") or {}).items()},
        taints=tuple(
            Taint(str(one.get("key", "")), str(one.get("value") or ""), str(one.get("effect", "")))
            for one in spec.get("taints") or ()
        ),
        allocatable=dict(_extended(status.get("allocatable") or {})),
        capacity=dict(_extended(status.get("capacity") or {})),
        ready=conditions.get("Ready") == "True",
        cordoned=bool(spec.get("unschedulable")),
    )


def _extended(resources: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name, amount in resources.items():
        try:
            yield (
                check_extended_resource(str(name)),
                int(parse_quantity(Decimal(amount) if isinstance(amount, int) else str(amount))),
            )
        except (SyntaxProblem, QuantityError):
            continue  # cpu, memory, hugepages-*, attachable volumes: not what a device plugin offers
