"""Whether these credentials may do all that a change needs, asked before anything is changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hub.cluster_api import ClusterApi

__all__ = ["Right", "missing", "to_change", "to_drain"]

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, order=True)
class Right:
    """One right. `resource` may have a subresource after a slash; no `namespace`: the whole cluster."""

    verb: str
    resource: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"`{self.verb}` on `{self.resource}` in {self.namespace or 'the whole cluster'}"


def to_change() -> list[Right]:
    """Return what changing a node takes."""
    return [Right("get", "nodes"), Right("patch", "nodes"), Right("list", "pods")]


def to_drain(sessions: Iterable[str], others: Iterable[str]) -> list[Right]:
    """Return what warning and stopping takes, in the namespaces of sessions and of other pods."""
    found = {Right("create", "events", namespace) for namespace in (*sessions, *others)}
    found |= {Right("delete", "pods", namespace) for namespace in sessions}
    found |= {Right("create", "pods/eviction", namespace) for namespace in others}
    return sorted(found)


def missing(api: ClusterApi, rights: Iterable[Right]) -> list[Right]:
    """Return those that these credentials do not have."""
    return [right for right in rights if not _allowed(api, right)]


def _allowed(api: ClusterApi, right: Right) -> bool:
    resource, _, part = right.resource.partition("/")
    attributes = {"verb": right.verb, "resource": resource, "subresource": part, "namespace": right.namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {name: value for name, value in attributes.items() if value}},
    }
    return bool((api.create(_REVIEWS, review).get("status") or {}).get("allowed"))
