"""What the scheduler says about a pod that fits nowhere, and whether waiting can help. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Verdict", "verdict"]

_SUMMARY = re.compile(r"(\d+)/(\d+) nodes are available:?\s*")
_COUNTED = re.compile(r"(\d+) (.+)")
_INSUFFICIENT = re.compile(r"Insufficient (\S+)")
_TAINT = re.compile(r"had untolerated taint\(?s?\)? ?\{([^:}]+)")
_UNHELPFUL = "Preemption is not helpful"

_NAMES = {"cpu": "cpu cores", "memory": "memory", "ephemeral-storage": "disk space", "pods": "room for pods"}


@dataclass(frozen=True)
class Verdict:
    """Why no node takes the pod, for people, and whether no passing of time can change that."""

    text: str
    hopeless: bool


def verdict(message: str) -> Verdict:
    """Read a message of the scheduler such as `0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 …`.

    Hopeless is what stays true when every other pod has ended: no node carries the labels, has a tolerated taint,
    or is large enough. The scheduler tells the last by "Preemption is not helpful" for a node that it would
    otherwise empty (kube-scheduler, NodeResourcesFit, since 1.30). A message that is not understood is not hopeless.
    """
    # The scheduler's last words, about preemption, count the nodes again; they start at "preemption:".
    reasons, _, preemption = message.partition("preemption:")
    summary = _SUMMARY.search(reasons)
    if summary is None:
        return _about_volumes(message)
    nodes = int(summary.group(2))
    if nodes == 0:
        return Verdict("The cluster has no nodes at the moment.", False)
    counted = [
        (int(found.group(1)), found.group(2).strip(". "))
        for part in re.split(r",\s*(?=\d+ )", reasons[summary.end() :].strip(". "))
        if (found := _COUNTED.match(part.strip()))
    ]
    if not counted:
        return _about_volumes(message)
    too_small = _too_small(preemption, nodes)
    hopeless = all(_never_heals(reason, too_small) for _, reason in counted)
    return Verdict(_say(counted, hopeless), hopeless)


def _too_small(preemption: str, nodes: int) -> bool:
    """Return whether emptying nodes would not help on any of them."""
    return sum(int(count) for count in re.findall(rf"(\d+) {_UNHELPFUL}", preemption)) >= nodes


def _never_heals(reason: str, too_small: bool) -> bool:
    if "didn't match Pod's node affinity/selector" in reason or "volume node affinity conflict" in reason:
        return True
    taint = _TAINT.search(reason)
    if taint:  # Kubernetes' own taints come and go with the state of a node
        return not taint.group(1).strip().startswith(("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/"))
    return too_small and bool(_INSUFFICIENT.search(reason))


def _say(counted: list[tuple[int, str]], hopeless: bool) -> str:
    short = sorted({found.group(1) for _, reason in counted if (found := _INSUFFICIENT.search(reason))})
    if short:
        what = " and ".join(_NAMES.get(resource, resource) for resource in short)
        if hopeless:
            return f"No node of the cluster is large enough: not enough {what}, even if it were empty."
        return f"No node has enough free {what} at the moment; it is free again when somebody else stops."
    if any("volume node affinity conflict" in reason for _, reason in counted):
        return "Your home lies on a node or in a zone where this session cannot run."
    if any("didn't match Pod's node affinity/selector" in reason for _, reason in counted):
        if hopeless:
            return "No node of the cluster has the hardware that this profile asks for."
        return "The nodes that have the hardware for this profile cannot be used at the moment."
    if hopeless:
        return "All nodes of the cluster are reserved for something else."
    return "No node of the cluster can take the session at the moment."


def _about_volumes(message: str) -> Verdict:
    if "unbound immediate PersistentVolumeClaims" in message:
        return Verdict("The volume of your home is not there yet.", False)
    if "persistentvolumeclaim" in message and "not found" in message:
        # Also what a scheduler says that has seen the pod before the claim, made a moment earlier.
        return Verdict("The volume of your home is not known to the scheduler yet.", False)
    if "persistentvolumeclaim" in message and "being deleted" in message:
        return Verdict("The volume of your home is being deleted.", True)
    return Verdict("No node of the cluster can take the session at the moment.", False)
