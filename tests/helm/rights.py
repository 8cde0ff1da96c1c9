"""What the chart's roles give to whom, one right at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Grant", "account_objects", "bound_accounts", "granted"]

_API = "rbac.authorization.k8s.io"

Json = dict[str, Any]


@dataclass(frozen=True, order=True)
class Grant:
    """A verb on a resource; `namespace` is empty where it holds in all of them."""

    group: str
    resource: str
    verb: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} in {self.namespace or 'all namespaces'}"

    def rule(self) -> Json:
        """Return the rule of a role that gives this and nothing else."""
        return {"apiGroups": [self.group], "resources": [self.resource], "verbs": [self.verb]}


def bound_accounts(objects: Iterable[Json]) -> set[str]:
    """Return the names of all service accounts that bindings give something to."""
    return {subject["name"] for one in objects if one["kind"].endswith("Binding") for subject in one["subjects"]}


def granted(objects: Iterable[Json], account: str) -> list[Grant]:
    """Return all that the objects give to a service account, sorted.

    Raises
    ------
    ValueError
        A rule is of a kind that cannot be taken apart: all verbs, all resources, single names, addresses.
    """
    found = list(objects)
    roles = {(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]): one for one in found}
    grants: set[Grant] = set()
    for one in found:
        if not one["kind"].endswith("Binding") or account not in [subject["name"] for subject in one["subjects"]]:
            continue
        namespace = one["metadata"].get("namespace", "")
        kind = one["roleRef"]["kind"]
        role = roles[kind, "" if kind == "ClusterRole" else namespace, one["roleRef"]["name"]]
        for rule in role["rules"]:
            grants.update(_taken_apart(rule, namespace))
    return sorted(grants)


def _taken_apart(rule: Json, namespace: str) -> Iterator[Grant]:
    if set(rule) != {"apiGroups", "resources", "verbs"} or any("*" in words for words in rule.values()):
        raise ValueError(f"a rule that is not of groups, resources and verbs by their names: {rule}")
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                yield Grant(group, resource, verb, namespace)


def account_objects(name: str, core: str, grants: Iterable[Grant]) -> list[Json]:
    """Return a service account in the namespace `core`, and the roles and bindings that give it just these."""
    by_place: dict[str, list[Json]] = {}
    for one in grants:
        by_place.setdefault(one.namespace, []).append(one.rule())
    subject = {"kind": "ServiceAccount", "name": name, "namespace": core}
    objects: list[Json] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": core}}
    ]
    for namespace, rules in by_place.items():
        kind = "Role" if namespace else "ClusterRole"
        metadata = {"name": name, "namespace": namespace} if namespace else {"name": f"{core}-{name}"}
        reference = {"apiGroup": _API, "kind": kind, "name": metadata["name"]}
        head = {"apiVersion": f"{_API}/v1", "metadata": metadata}
        objects += [
            {**head, "kind": kind, "rules": rules},
            {**head, "kind": f"{kind}Binding", "roleRef": reference, "subjects": [subject]},
        ]
    return objects
