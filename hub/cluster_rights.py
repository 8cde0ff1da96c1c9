"""Every right that a part of ours has in the cluster, each with what it is for.

The chart's roles are these and no others, `armillary doctor` asks for them one by one, and the reference lists them.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RIGHTS", "Right", "needed"]


class Right(NamedTuple):
    """A verb on a resource.

    `group` is the API group, empty for the core. `users`: in the sessions' namespace only, else in all. `claims`:
    needed only where accelerators are devices of Dynamic Resource Allocation.
    """

    group: str
    resource: str
    verb: str
    reason: str = ""
    users: bool = True
    claims: bool = False


_DRA = "resource.k8s.io"

RIGHTS: dict[str, tuple[Right, ...]] = {
    "hub": (
        Right("", "pods", "create", "A session is a pod."),
        Right("", "pods", "get", "A session that is not heard of any more is looked at before it counts as ended."),
        Right("", "pods", "list", "A hub that starts finds the sessions that run."),
        Right("", "pods", "watch", "A session that runs, fails or ends is noticed at once."),
        Right("", "pods", "delete", "A session is stopped, and what a failed start has left is removed."),
        Right("", "events", "list", "The progress page says what the cluster has said about a session so far."),
        Right("", "events", "watch", "The progress page says what the cluster does for a session."),
        Right("", "secrets", "create", "A session's token lies in a Secret of its own."),
        Right("", "secrets", "patch", "The Secret is made to go with its pod, also while the hub is away."),
        Right("", "secrets", "delete", "The Secret goes when the session is stopped."),
        Right("", "persistentvolumeclaims", "get", "A home is found again."),
        Right("", "persistentvolumeclaims", "create", "A person who is new gets a home."),
        Right(_DRA, "resourceclaimtemplates", "get", "What an accelerator is claimed by is found again.", claims=True),
        Right(_DRA, "resourceclaimtemplates", "create", "An accelerator is claimed for the first time.", claims=True),
    ),
    "controller": (
        Right("", "nodes", "list", "What there is, is counted.", users=False),
        Right("", "nodes", "watch", "The counts follow nodes that come, go or change.", users=False),
        Right("", "pods", "list", "What is in use, by sessions and by others, is counted.", users=False),
        Right("", "pods", "watch", "The counts follow pods that come, go or end.", users=False),
        Right("", "pods", "get", "Whose a pod is that no server of the hub knows is looked up before it is ended."),
        Right("", "pods", "delete", "A pod that runs for no server of the hub is ended."),
        *(
            Right(_DRA, resource, verb, reason, users=False, claims=True)
            for resource, verb, reason in (
                ("deviceclasses", "list", "Devices are told apart by their classes."),
                ("deviceclasses", "watch", "The counts follow classes that change."),
                ("resourceslices", "list", "The devices that there are, are counted."),
                ("resourceslices", "watch", "The counts follow devices that come and go."),
                ("resourceclaims", "list", "The devices that are in use are counted."),
                ("resourceclaims", "watch", "The counts follow devices that are taken and given back."),
            )
        ),
        Right(_DRA, "resourceclaims", "get", "A claim is looked at once more before it is removed.", claims=True),
        Right(_DRA, "resourceclaims", "delete", "A claim whose pods are gone gives its devices back.", claims=True),
    ),
}
"""By part."""


def needed(part: str, *, claims: bool) -> tuple[Right, ...]:
    """Return what a part, `hub` or `controller`, needs; `claims`: the catalogue has devices that are claimed."""
    return tuple(one for one in RIGHTS[part] if claims or not one.claims)
