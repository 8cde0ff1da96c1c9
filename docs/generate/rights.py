"""The page of what hub and controller may do in the cluster, from `hub.cluster_rights`."""

from __future__ import annotations

from docs.generate.markdown import code, table
from hub.cluster_rights import RIGHTS, Right

__all__ = ["page"]

_INTRODUCTION = """\
# Rights in the cluster

What the chart's roles give, with what each right is for. Without any one of them something breaks, and a log says which
is missing; `armillary doctor` asks for them one by one. Nobody else has a token of the cluster's API: not the proxy,
the service, the database, jobs, nor any session. Settings that need more are named in
[Run on Kubernetes](../../how-to/kubernetes.md#what-the-hub-may-do-there).
"""

_PARTS = {
    "hub": (
        "The hub",
        "Its Role holds in the sessions' namespace. It cannot read Secrets, not even those that it makes.",
    ),
    "controller": (
        "The controller",
        "Its ClusterRole holds in all namespaces, because cards are shared with others. "
        "Its Role holds in the sessions' namespace.",
    ),
}

_CLAIMS = "Only where accelerators are devices of Dynamic Resource Allocation (`rbac.dynamicResourceAllocation`):\n"


def page() -> str:
    """The page: two tables for each part."""
    parts = [_INTRODUCTION]
    for name, (title, said) in _PARTS.items():
        always, claimed = ([one for one in RIGHTS[name] if one.claims is claims] for claims in (False, True))
        parts += [f"## {title}\n", f"{said}\n", _table(always), _CLAIMS, _table(claimed)]
    return "\n".join(parts)


def _table(rights: list[Right]) -> str:
    return table(("Resource", "Verb", "Where", "What for"), map(_row, rights))


def _row(right: Right) -> tuple[str, str, str, str]:
    resource = f"{right.resource}.{right.group}" if right.group else right.resource
    where = "the sessions' namespace" if right.users else "all namespaces"
    return code(resource), code(right.verb), where, right.reason
