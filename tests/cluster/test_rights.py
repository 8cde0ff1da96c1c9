"""Hub and controller may in the cluster what they need and nothing else: without any one right something breaks.

What they do there is done by their own code, with tokens of service accounts: of the chart's, and of one for each right
that lacks just this. What is tried without is read from the rendered roles, so that no right is there untried.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from copy import deepcopy

import pytest

from tests.cluster import rights_controller, rights_hub
from tests.cluster.scene import CLAIMED_CARDS, PLAIN, PLAIN_CARDS, Site, tried
from tests.cluster.sessions import WORLD, Object
from tests.helm.chart import render
from tests.helm.rights import Grant, account_objects, bound_accounts, granted
from tests.helm.test_chart import FULL
from tests.lab import kwok
from tests.lab.cluster import Cluster

PIECES = {"a-hub": rights_hub.PIECES, "a-controller": rights_controller.PIECES}
"""The work of each service account that has rights."""

Rights = dict[str, list[Grant]]


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Iterator[Site]:
    suffix = secrets.token_hex(3)
    with cluster.namespace("rights") as core, cluster.namespace("rights-users") as users:
        found = Site(cluster, core, users, f"rights-{suffix}", f"{suffix}.rights.lab.test")
        objects = list(_cards(found))
        cluster.apply(*objects)
        try:
            cluster.kubectl("wait", "--for=condition=Ready", f"node/{found.node}", "--timeout=60s")
            yield found
        finally:
            # The node's player has to live until its pods are gone.
            cluster.kubectl("delete", "pods", "--all", "-n", users, "--grace-period=0", "--force")
            for one in objects:
                cluster.kubectl("delete", one["kind"], one["metadata"]["name"], "--wait=false")


def _cards(site: Site) -> Iterator[Object]:
    """A simulated node with cards of a plugin and of a driver, and the driver's class."""
    capacity = {PLAIN: str(PLAIN_CARDS), "cpu": "64", "pods": "200"}
    yield dict(kwok.node(site.node, capacity, {WORLD: site.users}, tainted=True))
    kind = "resource.k8s.io/v1"
    selectors = [{"cel": {"expression": f"device.driver == '{site.driver}'"}}]
    named = {"metadata": {"name": site.driver}}
    yield {"apiVersion": kind, "kind": "DeviceClass", **named, "spec": {"selectors": selectors}}
    pool = {"name": site.node, "generation": 1, "resourceSliceCount": 1}
    cards = [{"name": f"card-{number}"} for number in range(CLAIMED_CARDS)]
    spec = {"driver": site.driver, "nodeName": site.node, "pool": pool, "devices": cards}
    yield {"apiVersion": kind, "kind": "ResourceSlice", "metadata": {"name": site.node}, "spec": spec}


@pytest.fixture(scope="module")
def rights(site: Site) -> Iterator[Rights]:
    """What each account has by the chart; the accounts are there, and those that lack one right each."""
    values = deepcopy(FULL)
    values["users"]["namespace"]["name"] = site.users
    values["users"]["prePuller"]["hook"] = False  # its one right is for a moment, and for one object
    rendered = render(values, namespace=site.core)
    objects = [one for one in rendered if one["kind"] == "ServiceAccount" or one["apiVersion"].startswith("rbac.")]
    for one in objects:
        if one["kind"] == "ServiceAccount":
            one["metadata"]["namespace"] = site.core
    found = {account: granted(rendered, account) for account in bound_accounts(rendered)}
    for account, all_of_it in found.items():
        for number, missing in enumerate(all_of_it):
            rest = [one for one in all_of_it if one != missing]
            objects += account_objects(without(account, number), site.core, rest)
    try:
        site.cluster.apply(*objects)
        yield found
    finally:
        for kind in ("ClusterRole", "ClusterRoleBinding"):
            names = [one["metadata"]["name"] for one in objects if one["kind"] == kind]
            site.cluster.kubectl("delete", kind, *names, "--wait=false", "--ignore-not-found")


def without(account: str, number: int) -> str:
    """Name of the account that lacks one right of another account."""
    return f"{account}-{number}"


def test_the_work_of_every_account_with_rights_is_tried(rights: Rights) -> None:
    assert rights.keys() == PIECES.keys()


@pytest.mark.parametrize("account", PIECES)
def test_the_rights_of_the_chart_are_enough(
    site: Site, rights: Rights, account: str, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = tried(site, PIECES[account], account, rights[account], None, caplog)
    assert outcome.broke == "", outcome.said
    assert "forbidden" not in outcome.said


@pytest.mark.timeout(400)
@pytest.mark.parametrize("account", PIECES)
def test_without_any_one_right_something_breaks_and_is_named(
    site: Site, rights: Rights, account: str, caplog: pytest.LogCaptureFixture
) -> None:
    idle, unnamed = [], []
    for number, missing in enumerate(rights[account]):
        began = time.monotonic()
        outcome = tried(site, PIECES[account], without(account, number), rights[account], missing, caplog)
        print(f"\n{account} without {missing}: {time.monotonic() - began:.1f} s: {outcome.broke}", end="")
        if not outcome.broke:
            idle.append(str(missing))
        elif not outcome.names(missing):
            unnamed.append(f"{missing}: {outcome.broke}\n{outcome.said}")
    assert idle == [], "rights that nothing needs: take them out of the chart"
    assert unnamed == [], "an operator cannot read what is missing"
