"""The chart's roles give what `hub.cluster_rights` lists with its reasons, and nothing to anybody else.

That each right is needed is shown in `tests/cluster/test_rights.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

from hub.cluster_rights import RIGHTS, needed
from tests.helm.chart import pods, render
from tests.helm.rights import Grant, bound_accounts, granted
from tests.helm.test_chart import FULL, SORTS

# helm is built with the lab's Go.
pytestmark = pytest.mark.cluster

USERS = FULL["users"]["namespace"]["name"]


def listed(part: str, users: str, *, claims: bool) -> list[Grant]:
    """The rights that the table says a part needs."""
    return sorted(
        Grant(one.group, one.resource, one.verb, users if one.users else "") for one in needed(part, claims=claims)
    )


@pytest.mark.parametrize("claims", [True, False], ids=["with claims", "without claims"])
@pytest.mark.parametrize("part", RIGHTS)
def test_the_roles_give_what_is_listed_and_no_more(part: str, claims: bool) -> None:
    objects = render({**FULL, "rbac": {"dynamicResourceAllocation": claims}})
    assert granted(objects, f"a-{part}") == listed(part, USERS, claims=claims)


@pytest.mark.parametrize("sort", SORTS)
def test_nobody_else_has_rights_or_a_token(sort: str) -> None:
    """But for the Job before an upgrade, where one asks for it: it looks at its own DaemonSet, and is gone afterwards."""
    objects = render(SORTS[sort])
    parts = {f"a-{part}" for part in RIGHTS}
    if SORTS[sort].get("users", {}).get("prePuller", {}).get("hook"):
        [role] = [one for one in objects if one["kind"] == "Role" and one["metadata"]["name"] == "a-pull-first"]
        own = {"apiGroups": ["apps"], "resources": ["daemonsets"], "resourceNames": ["a-pull-first"], "verbs": ["get"]}
        assert role["rules"] == [own]
        assert role["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        parts |= {"a-pull-first"}
    assert bound_accounts(objects) == parts
    specs: list[dict[str, Any]] = [pod["spec"] for _, pod in pods(objects)]
    tokens = {
        spec.get("serviceAccountName", "default")
        for spec in specs
        if spec.get("automountServiceAccountToken") is not False
    }
    assert tokens == parts


def test_without_roles_of_the_chart_nobody_has_any() -> None:
    assert bound_accounts(render({**FULL, "rbac": {"create": False}})) == set()


def test_every_right_has_a_reason_and_is_listed_once() -> None:
    for part, rights in RIGHTS.items():
        assert all(one.reason.endswith(".") for one in rights)
        assert len({one[:3] + one[4:5] for one in rights}) == len(rights), part


@pytest.mark.parametrize(
    "rule",
    [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]},
        {"apiGroups": ["*"], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["one"]},
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
    ],
)
def test_a_role_that_cannot_be_taken_apart_is_no_role_of_ours(rule: dict[str, Any]) -> None:
    metadata = {"name": "one", "namespace": "users"}
    objects = [
        {"kind": "Role", "metadata": metadata, "rules": [rule]},
        {
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"kind": "Role", "name": "one"},
            "subjects": [{"kind": "ServiceAccount", "name": "one"}],
        },
    ]
    with pytest.raises(ValueError, match="by their names"):
        granted(objects, "one")
