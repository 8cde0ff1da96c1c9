"""What the scheduler says about a pod that fits nowhere, and whether waiting can help. Pure.

Messages of real schedulers, with their versions, are in tests/spawner/recorded; a cluster test provokes them anew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["Verdict", "Why", "verdict"]

Why = Literal[
    "claim-not-made",
    "claims",
    "labels",
    "lacking",
    "no-class",
    "nodes-away",
    "other",
    "selector-error",
    "taint",
    "volume",
    "volume-elsewhere",
    "volume-going",
]
"""What decides, of all that is said about the nodes: the reason of those that come nearest to taking the pod."""

_SUMMARY = re.compile(r"(\d+)/(\d+) nodes are available:?\s*")
_COUNTED = re.compile(r"(\d+) (.+)")
_INSUFFICIENT = re.compile(r"Insufficient (\S+?)(?=[.,]?(?:\s|$))")  # since 1.34 more may follow the full stop
_TAINTED = "had untolerated taint"
_TAINT = re.compile(rf"{_TAINTED}\(?s?\)? ?\{{([^:}}]+)")  # Kubernetes 1.34 does not name the taint any more
_OF_KUBERNETES = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
_NO_LABELS = "didn't match Pod's node affinity/selector"
_VOLUME_ELSEWHERE = re.compile(r"volume node affinity conflict|didn't match PersistentVolume's node affinity")
_NO_CLASS = re.compile(r"device class (\S+) does not exist")
_SELECTOR_ERROR = re.compile(r"selector #\d+: (CEL .+)")
_NO_CLAIM = re.compile(r"resourceclaim.* (?:not created yet|not found)|waiting for .*resource ?claim", re.IGNORECASE)
_UNHELPFUL = "Preemption is not helpful"


@dataclass(frozen=True)
class Verdict:
    """Why no node takes the pod, and whether no passing of time can change that.

    `lacking` are the resources of which the nearest nodes have too little. `detail` is a name or the cluster's own
    words, where they say more.
    """

    why: Why
    hopeless: bool = False
    lacking: tuple[str, ...] = ()
    detail: str = ""


def verdict(message: str) -> Verdict:
    """Read a message of the scheduler such as `0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 …`.

    Hopeless is what stays true when every other pod has ended: no node carries the labels, has a tolerated taint,
    or is large enough. The scheduler tells the last by "Preemption is not helpful" for a node that it would
    otherwise empty (kube-scheduler, NodeResourcesFit, since 1.30). It says the same where devices of Dynamic Resource
    Allocation are all in use, so that it means nothing there. A message that is not understood is not hopeless.
    """
    # The scheduler's last words, about preemption, count the nodes again; they start at "preemption:".
    reasons, _, preemption = message.partition("preemption:")
    summary = _SUMMARY.search(reasons)
    about = _about_the_pod(message)
    if about is not None or summary is None:
        return about or Verdict("other")
    nodes = int(summary.group(2))
    counted = [
        (int(found.group(1)), found.group(2).strip(". "))
        for part in re.split(r",\s*(?=\d+ )", reasons[summary.end() :].strip(". "))
        if (found := _COUNTED.match(part.strip()))
    ]
    if not nodes or not counted:
        return Verdict("nodes-away" if not nodes else "other")
    said = [reason for _, reason in counted]
    too_small = _too_small(preemption, nodes)
    return _nearest(said, all(_never_heals(reason, too_small) for reason in said))


def _about_the_pod(message: str) -> Verdict | None:
    """What is wrong with the pod's own volumes and claims, whatever the nodes are like."""
    if found := _NO_CLASS.search(message):
        return Verdict("no-class", True, detail=found.group(1))
    if found := _SELECTOR_ERROR.search(message):
        return Verdict("selector-error", True, detail=found.group(1))
    if _NO_CLAIM.search(message):
        return Verdict("claim-not-made")
    if "persistentvolumeclaim" in message and "being deleted" in message:
        return Verdict("volume-going", True)
    if "unbound immediate PersistentVolumeClaims" in message:
        return Verdict("volume", detail="is not there yet")
    if "persistentvolumeclaim" in message and "not found" in message:
        # Also what a scheduler says that has seen the pod before the claim, made a moment earlier.
        return Verdict("volume", detail="is not known to the scheduler yet")
    return None


def _too_small(preemption: str, nodes: int) -> bool:
    """Return whether emptying nodes would not help on any of them."""
    return sum(int(count) for count in re.findall(rf"(\d+) {_UNHELPFUL}", preemption)) >= nodes


def _never_heals(reason: str, too_small: bool) -> bool:
    if _NO_LABELS in reason or _VOLUME_ELSEWHERE.search(reason):
        return True
    taint = _TAINT.search(reason)
    if taint:  # Kubernetes' own taints come and go with the state of a node
        return not taint.group(1).strip().startswith(_OF_KUBERNETES)
    return too_small and bool(_INSUFFICIENT.search(reason))


def _nearest(said: list[str], hopeless: bool) -> Verdict:
    """Return the reason of the nodes that pass most of the scheduler's filters, which are tried in a fixed order:
    cordoned, taints, labels, resources, volumes, claims.
    """
    if any("cannot allocate all claims" in reason for reason in said):
        return Verdict("claims")
    if any(_VOLUME_ELSEWHERE.search(reason) for reason in said):
        return Verdict("volume-elsewhere", hopeless)
    lacking = {found.group(1) for reason in said if (found := _INSUFFICIENT.search(reason))}
    lacking |= {"pods" for reason in said if "Too many pods" in reason}
    if lacking:
        return Verdict("lacking", hopeless, tuple(sorted(lacking)))
    if all(_NO_LABELS in reason for reason in said):
        return Verdict("labels", True)
    tainted = [reason for reason in said if _TAINTED in reason]
    if any("were unschedulable" in reason or _of_kubernetes(reason) for reason in said):
        return Verdict("nodes-away")
    if tainted:
        return Verdict("taint", hopeless)
    return Verdict("other")


def _of_kubernetes(reason: str) -> bool:
    taint = _TAINT.search(reason)
    return taint is not None and taint.group(1).strip().startswith(_OF_KUBERNETES)
