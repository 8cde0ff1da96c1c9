"""From nodes to findings: every extended resource that nodes offer, told apart by their labels. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from typing import Any

from hub.discover.finding import Finding, named, plain
from hub.discover.naming import key_of
from hub.discover.nodes import HOSTNAME, Node, Taint
from hub.discover.vendors import Product, is_no_accelerator, product
from profiles.quantities import format_memory, say_memory

__all__ = ["findings_of_nodes", "runtime_class_of"]

_REPLICAS = "nvidia.com/gpu.replicas"
# Set by Kubernetes while a node has a condition; and what nodes are kept for, which is not for sessions.
_PASSING = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/", "node-role.kubernetes.io/")


@dataclass(frozen=True)
class _Group:
    """Nodes that offer the same thing under the same resource name."""

    resource: str
    product: Product
    nodes: tuple[Node, ...]
    labels: Mapping[str, tuple[str, ...]]


def findings_of_nodes(
    nodes: Sequence[Node], runtime_class: str | None = None
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Return what device plugins offer, and remarks about what was left out.

    Parameters
    ----------
    runtime_class
        RuntimeClass that NVIDIA's cards need here, if there is one.
    """
    remarks: list[str] = []
    groups: list[_Group] = []
    for resource, having in sorted(_by_resource(nodes).items()):
        offering = [node for node in having if node.allocatable.get(resource, 0) > 0]
        if is_no_accelerator(resource):
            remarks.append(f"{plain(resource)}: no accelerator that people pick ({named(_names(having))})")
        elif not offering:
            remarks.append(f"{plain(resource)}: none can be had now on {named(_names(having))}")
        else:
            groups += _exclusive(_labelled(_grouped(resource, having, remarks), remarks))
    groups.sort(key=_order)
    return tuple(_finding(group, runtime_class) for group in groups), tuple(remarks)


def runtime_class_of(runtime_classes: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the RuntimeClass whose handler is NVIDIA's; the one of that name where there are several."""
    found = sorted(
        str((one.get("metadata") or {}).get("name", "")) for one in runtime_classes if one.get("handler") == "nvidia"
    )
    return "nvidia" if "nvidia" in found else next(iter(found), None)


def _by_resource(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        for resource in {**node.capacity, **node.allocatable}:
            found[resource].append(node)
    return found


def _names(nodes: Iterable[Node]) -> list[str]:
    return [node.name for node in nodes]


def _grouped(resource: str, nodes: Iterable[Node], remarks: list[str]) -> list[_Group]:
    """Nodes by what they offer. Memory may differ a little between like cards: the least counts."""
    found: dict[Product, list[tuple[Node, int | None]]] = defaultdict(list)
    for node in nodes:
        here = product(resource, node.labels)
        if here.problem:
            remarks.append(f"{plain(resource)} on {plain(node.name)}: {plain(here.problem)}")
        elif node.allocatable.get(resource, 0) > 0 or node.capacity.get(resource, 0) > 0:
            found[replace(here, memory=None)].append((node, here.memory))
    groups = []
    for what, members in found.items():
        if not any(node.allocatable.get(resource, 0) for node, _ in members):
            remarks.append(f"{plain(resource)}: none can be had now on {named(_names(node for node, _ in members))}")
            continue
        sizes = [memory for _, memory in members if memory]
        least = replace(what, memory=min(sizes) if sizes else None)
        labels = {label: (value,) for label, value in what.labels}
        groups.append(_Group(resource, least, tuple(node for node, _ in members), labels))
    return groups


def _labelled(groups: list[_Group], remarks: list[str]) -> list[_Group]:
    """Without the groups that no label tells from others of the same resource, where others have such labels."""
    if not any(group.labels for group in groups):
        return groups
    for group in groups:
        if not group.labels:
            text = "no label says which card it is, as those of others do; label the node (GPU feature discovery)"
            remarks.append(f"{plain(group.resource)} on {named(_names(group.nodes))}: {text}")
    return [group for group in groups if group.labels]


def _exclusive(groups: list[_Group]) -> list[_Group]:
    """The same groups, with more labels where two of one resource could be meant by the same labels."""
    for one, other in combinations(range(len(groups)), 2):
        if _told_apart(groups[one], groups[other]):
            continue
        label = _REPLICAS if _differ(groups[one], groups[other], _REPLICAS) else HOSTNAME
        for at in (one, other):
            values = tuple(sorted({node.labels.get(label, node.name) for node in groups[at].nodes}))
            groups[at] = replace(groups[at], labels={**groups[at].labels, label: values})
    return groups


def _told_apart(one: _Group, other: _Group) -> bool:
    return any(not set(values) & set(other.labels.get(label, values)) for label, values in one.labels.items())


def _differ(one: _Group, other: _Group, label: str) -> bool:
    first, second = ({node.labels.get(label) for node in group.nodes} for group in (one, other))
    return None not in first | second and not first & second


def _order(group: _Group) -> tuple[object, ...]:
    """Families together, the largest share first; what is not known last."""
    what = group.product
    return (not what.known, what.vendor != "NVIDIA", what.vendor, what.family, -what.share, what.model, group.resource)


def _finding(group: _Group, runtime_class: str | None) -> Finding:
    what, resource = group.product, plain(group.resource)
    count = max(node.allocatable.get(group.resource, 0) for node in group.nodes)
    total = sum(node.allocatable.get(group.resource, 0) for node in group.nodes)
    where = named(_names(group.nodes))
    entry: dict[str, Any] = {"description": _description(what), "family": what.family}
    evidence: dict[tuple[str, ...], str] = {}
    if what.memory:
        entry["memory"] = format_memory(what.memory)
        evidence["memory",] = f"label {what.memory_label}"
    entry["share"] = _share(what.share)
    evidence["share",] = _why_share(what)
    entry["per_node"] = min(count, 1024)
    evidence["per_node",] = f"the most that one node can give; {total} in all"
    kubernetes: dict[str, Any] = {"resource": group.resource}
    evidence["kubernetes", "resource"] = f"allocatable on {where}"
    if group.labels:
        kubernetes["node_labels"] = {
            label: values[0] if len(values) == 1 else list(values) for label, values in group.labels.items()
        }
        for label in group.labels:
            evidence["kubernetes", "node_labels", label] = f"label of {where}"
    taints = _tolerated(group.nodes)
    if taints:
        kubernetes["tolerations"] = [_toleration(taint) for taint in taints]
        tainted = [node.name for node in group.nodes if set(node.taints) & set(taints)]
        evidence["kubernetes", "tolerations"] = f"taints of {named(tainted)}"
    if what.vendor == "NVIDIA" and runtime_class:
        kubernetes["runtime_class"] = runtime_class
        evidence["kubernetes", "runtime_class"] = "RuntimeClass with the handler nvidia"
    entry["kubernetes"] = kubernetes
    return Finding(_candidates(what, resource), entry, evidence, tuple(_notes(group)))


def _description(what: Product) -> str:
    card = what.model if what.model.startswith(what.vendor) or not what.known else f"{what.vendor} {what.model}"
    part = f", MIG {what.slice}" if what.slice else ""
    shared = f", each shared by {what.shared_by} sessions" if what.shared_by > 1 else ""
    memory = f", {say_memory(what.memory)}" if what.memory else ""
    return plain(f"{card}{part}{shared}{memory}")


def _share(share: Fraction) -> int | str:
    return 1 if share == 1 else f"{share.numerator}/{share.denominator}"


def _why_share(what: Product) -> str:
    if what.slice:
        part = f"MIG {plain(what.slice)}, compute slices of the card's"
        return part + (f", shared by {what.shared_by}" if what.shared_by > 1 else "")
    if what.shared_by > 1:
        how = plain(what.sharing) if what.sharing not in ("", "none") else "shared"
        return f"{how}: {what.shared_by} replicas of a card"
    return "a whole card" if what.known else "not known: a whole device is assumed"


def _tolerated(nodes: Iterable[Node]) -> list[Taint]:
    found = {
        taint
        for node in nodes
        for taint in node.taints
        if taint.effect in ("NoSchedule", "NoExecute") and not taint.key.startswith(_PASSING)
    }
    return sorted(found, key=lambda taint: (taint.key, taint.value, taint.effect))


def _toleration(taint: Taint) -> dict[str, str]:
    value = {"operator": "Equal", "value": taint.value} if taint.value else {"operator": "Exists"}
    return {"key": taint.key, **value, "effect": taint.effect}


def _candidates(what: Product, resource: str) -> tuple[tuple[str, str], ...]:
    part = f" {what.slice}" if what.slice else ""
    shared = f" shared by {what.shared_by}" if what.shared_by > 1 else ""
    short_shared = f" 1 of {what.shared_by}" if what.shared_by > 1 else ""
    names = []
    strategy = "mixed" if resource.startswith("nvidia.com/mig-") else "single"
    for card in dict.fromkeys((what.family, what.model, f"{what.model} {strategy if part else resource}")):
        title = plain(f"{card}{' slice' if part else ''}{part}{shared}")
        names.append((key_of(f"{card}{part}{short_shared}"), title))
    return tuple(names)


def _notes(group: _Group) -> Iterable[str]:
    if not group.product.known:
        yield "Not known to Armillary: look at the title, the share, and who may pick it."
    for what, nodes in (
        ("cordoned", [node.name for node in group.nodes if node.cordoned]),
        ("not ready", [node.name for node in group.nodes if not node.ready]),
        ("without one that can be had now", [n.name for n in group.nodes if not n.allocatable.get(group.resource, 0)]),
    ):
        if nodes:
            yield f"{what}: {named(nodes)}"
    kept = {t.key for node in group.nodes for t in node.taints if t.key.startswith("node-role.kubernetes.io/")}
    if kept:
        yield f"no toleration written for {', '.join(plain(key) for key in sorted(kept))}"
