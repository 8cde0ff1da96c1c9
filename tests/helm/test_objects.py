"""Each object that the chart makes, as a real API server takes it: strictly, with nothing that it does not know.

Its fields are those of Kubernetes' own OpenAPI, and those of the definitions that other projects publish for theirs.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from typing import Any

import pytest

from tests.helm.chart import render
from tests.helm.test_chart import SORTS
from tests.lab import crds, kubernetes
from tests.lab.cluster import Cluster
from tests.lab.errors import LabError

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The lab's cluster, which knows the other projects' objects meanwhile."""
    with kubernetes.in_use() as found, crds.known(found):
        yield found


def check(cluster: Cluster, *objects: dict[str, Any]) -> None:
    """Have the API server look at objects as if they were applied; LabError has what it refuses."""
    given = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=given)


@pytest.mark.parametrize("upgrade", [False, True], ids=["install", "upgrade"])
@pytest.mark.parametrize("sort", SORTS)
def test_the_api_server_takes_every_object(cluster: Cluster, sort: str, upgrade: bool) -> None:
    values, users = deepcopy(SORTS[sort]), f"users-{secrets.token_hex(3)}"
    values.setdefault("users", {}).setdefault("namespace", {})["name"] = users
    with ExitStack() as stack:
        core = stack.enter_context(cluster.namespace("chart"))
        named = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": users}}
        cluster.apply(named)
        stack.callback(cluster.kubectl, "delete", "namespace", users, "--wait=false")
        objects = render(values, release=f"r{secrets.token_hex(3)}", namespace=core, upgrade=upgrade)
        for one in objects:
            if one["kind"] not in ("Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding"):
                one["metadata"].setdefault("namespace", core)
        assert len(objects) > 20
        check(cluster, *objects)


def test_what_is_not_known_would_be_found(cluster: Cluster) -> None:
    known = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}}
    check(cluster, known)
    with pytest.raises(LabError, match="dta"):
        check(cluster, {**known, "dta": {}})
    route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": known["metadata"]}
    check(cluster, {**route, "spec": {"hostnames": ["a.example.org"]}})
    with pytest.raises(LabError, match="hostname"):
        check(cluster, {**route, "spec": {"hostname": ["a.example.org"]}})
