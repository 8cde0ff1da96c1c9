"""What was picked is what is got, or nothing: every entry of the catalogue on a cluster of many kinds of nodes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_asyncio
import pytest
import yaml

from profiles.loader import load
from profiles.model import Catalogue
from spawner.claims import claim_template, ensure_template
from spawner.diagnosis import diagnose
from spawner.kube_api import KubeApi
from spawner.no_node import Known
from spawner.refusal import Refusal
from spawner.request import Request
from spawner.reservation import Reservation
from tests.cluster.sessions import WORLD, Object, World, node, refusal, running
from tests.docs.blocks import blocks
from tests.lab.cluster import Cluster

_SHIPPED = Path(__file__).parents[2] / "profiles" / "catalogue.yaml"
_DRIVER = "placement.lab.test"
_TAINT = {"key": "dedicated", "value": "exam", "effect": "NoSchedule"}
_REAL = "u55c"  # the accelerator that the real node has
_DRA = {"dra-large": "large", "dra-small": "small"}


def shipped() -> Catalogue:
    """The shipped catalogue, and two models of a card that are devices of Dynamic Resource Allocation."""
    contents = load(_SHIPPED).model_dump(mode="json", exclude_none=True)
    for key, model in _DRA.items():
        selector = f"device.attributes['{_DRIVER}'].model == '{model}'"
        device = {"device_class": _DRIVER, "selectors": [selector]}
        contents["accelerators"][key] = {"title": f"Lab card {model}", "kubernetes": {"dra": device}}
    return Catalogue.model_validate(contents)


def wanted(key: str | None, count: int = 1) -> Request:
    return Request("jupyterlab", accelerator=key, count=count if key else 0)


def by_plugin(contents: Catalogue) -> dict[str, tuple[str, dict[str, str]]]:
    """Resource and labels of each accelerator that a device plugin hands out."""
    return {
        key: (kind.kubernetes.resource, {label: values[0] for label, values in kind.kubernetes.node_labels.items()})
        for key, kind in contents.accelerators.items()
        if kind.kubernetes is not None and kind.kubernetes.resource is not None
    }


def slices(node_name: str) -> list[Object]:
    """One large and two small cards on a node."""
    selector = {"cel": {"expression": f"device.driver == '{_DRIVER}'"}}
    pool = {"name": node_name, "generation": 1, "resourceSliceCount": 1}
    cards = {"card-0": "small", "card-1": "large", "card-2": "small"}
    devices = [{"name": name, "attributes": {"model": {"string": model}}} for name, model in cards.items()]
    spec = {"driver": _DRIVER, "nodeName": node_name, "pool": pool, "devices": devices}
    kind = "resource.k8s.io/v1"
    return [
        {"apiVersion": kind, "kind": "DeviceClass", "metadata": {"name": _DRIVER}, "spec": {"selectors": [selector]}},
        {"apiVersion": kind, "kind": "ResourceSlice", "metadata": {"name": node_name}, "spec": spec},
    ]


@pytest.fixture
def mixed(nodes_of_all_kinds: World) -> Iterator[World]:
    """Nodes of all kinds without sessions."""
    yield nodes_of_all_kinds
    nodes_of_all_kinds.clear()


@pytest.fixture(scope="module")
def nodes_of_all_kinds(cluster: Cluster) -> Iterator[World]:
    """Nodes of every kind with one card each, but two T4; cordoned and tainted ones that look better; a plain one.

    The real node has one U55c, and the class of DRA devices has three on a simulated node.
    """
    contents = shipped()
    kinds = by_plugin(contents)
    resource = kinds[_REAL][0]
    with running(cluster, "placement", contents) as world:
        nodes = []
        for key, (name, labels) in kinds.items():
            number = {"t4": "2"}.get(key, "1")
            if key != _REAL:
                nodes.append(world.node(key, {name: number}, labels))
            nodes.append(world.node(f"{key}-cordoned", {name: "8"}, labels, cordoned=True))
            nodes.append(world.node(f"{key}-tainted", {name: "8"}, labels, taints=(_TAINT,)))
        nodes.append(world.node("dra", {}))
        nodes.append(world.node("plain", {"cpu": "8"}))
        world.add(*nodes, *slices(f"{world.namespace}-dra"))
        try:
            _patch(cluster, {resource: "1"}, world.namespace)
            yield world
        finally:
            _patch(cluster, {resource: None}, None)


def _patch(cluster: Cluster, capacity: dict[str, str | None], label: str | None) -> None:
    """Give the real node a resource and a label, or take them away."""
    status = json.dumps({"status": {"capacity": capacity, "allocatable": capacity}})
    cluster.kubectl("patch", "node", cluster.node, "--subresource=status", "--type=merge", "-p", status)
    labels = json.dumps({"metadata": {"labels": {WORLD: label}}})
    cluster.kubectl("patch", "node", cluster.node, "--type=merge", "-p", labels)


def asked(pod: Object) -> dict[str, str]:
    """The extended resources that a session's pod asks for."""
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    return {name: number for name, number in limits.items() if "/" in name}


def claims(world: World) -> dict[str, Object]:
    """Claims by the name of the pod that owns them."""
    found = json.loads(world.cluster.kubectl("get", "resourceclaims", "-n", world.namespace, "-o", "json"))["items"]
    return {item["metadata"]["ownerReferences"][0]["name"]: item for item in found}


def test_every_entry_lands_where_it_is_and_nowhere_else(mixed: World) -> None:
    kinds = by_plugin(mixed.catalogue)
    keys = [*kinds, *_DRA]
    first = {f"{key.replace('.', '-')}-first": key for key in keys}
    second = {f"{key.replace('.', '-')}-second": key for key in keys if key not in ("t4", "dra-small")}
    # The one that really runs tells what a session sees.
    look = {"cmd": ["sh", "-c", "env | grep VISIBLE_DEVICES | sort; df -k --output=size /dev/shm | tail -1; sleep 600"]}
    for name, key in first.items():
        how: dict[str, Any] = {**look, "image": mixed.cluster.image("base")} if key == _REAL else {}
        mixed.start(name, wanted(key), memory=256 * 1024**2, cpu=0.1, **how)
    mixed.until(lambda pods: all(node(pods[name]) for name in first), "every entry has its node")
    mixed.cluster.apply(
        *(item for name, key in second.items() for item in mixed.session(name, wanted(key), user="ben"))
    )
    pods = mixed.until(lambda pods: pods if all(refusal(pods[name]) for name in second) else None, "all others wait")

    for name, key in first.items():
        place = mixed.cluster.node if key == _REAL else f"{mixed.namespace}-{'dra' if key in _DRA else key}"
        assert node(pods[name]) == place, name
        assert asked(pods[name]) == ({kinds[key][0]: "1"} if key in kinds else {}), name
    for name, key in second.items():
        assert not node(pods[name]), f"{name} must wait, though others are free: a lesser card, a tainted node"
        spawn = Reservation(name, "ben", "", "jupyterlab", key, 1)
        resource = kinds[key][0] if key in kinds else None
        reason = diagnose(pods[name], (), Known(spawn, mixed.catalogue.accelerators[key].title, resource))
        assert reason is not None
        assert (reason.code, reason.final) == ("no-room", False), (name, reason, refusal(pods[name]))
        assert mixed.catalogue.accelerators[key].title in reason.text

    given = {name: claim["status"]["allocation"]["devices"]["results"] for name, claim in claims(mixed).items()
             if claim.get("status")}  # fmt: skip
    assert given["dra-large-first"][0]["device"] == "card-1"
    assert given["dra-small-first"][0]["device"] in ("card-0", "card-2")
    assert "dra-large-second" not in given

    real = f"{_REAL}-first"
    mixed.cluster.kubectl("wait", "--for=condition=Ready", f"pod/{real}", "-n", mixed.namespace, "--timeout=60s")
    said = mixed.until(lambda _: _log(mixed, real, 3), "the session looks around")
    assert said[:2] == ["AMD_VISIBLE_DEVICES=void", "NVIDIA_VISIBLE_DEVICES=void"]
    assert int(said[2]) == 128 * 1024, "half of its memory"


def _log(world: World, name: str, lines: int) -> list[str]:
    said = world.cluster.kubectl("logs", name, "-n", world.namespace).split("\n")
    return [line.strip() for line in said] if len(said) > lines else []


def test_claims_go_with_their_pods_and_are_free_for_the_next(mixed: World) -> None:
    for name in ("one", "two"):
        mixed.start(name, wanted("dra-large"))
    pods = mixed.until(
        lambda pods: pods if sorted(map(bool, map(node, pods.values()))) == [False, True] else None, "one has it"
    )
    winner, loser = sorted(pods, key=lambda name: not node(pods[name]))
    assert set(claims(mixed)) == {"one", "two"}
    mixed.cluster.kubectl("delete", "pod", winner, "-n", mixed.namespace, "--wait=false")
    mixed.until(lambda pods: node(pods[loser]), "the other one has it")
    mixed.until(lambda _: set(claims(mixed)) == {loser}, "the first one's claim is gone")
    mixed.cluster.kubectl("delete", "pod", loser, "-n", mixed.namespace, "--wait=false")
    mixed.until(lambda _: not claims(mixed), "no claim is left")


def test_sessions_without_accelerator_leave_cards_alone_as_long_as_they_can(mixed: World) -> None:
    others = [{"key": _TAINT["key"], "operator": "Exists"}]
    for number in range(4):
        mixed.start(f"cpu-{number}", wanted(None), cpu=2, tolerations=others)
    places = mixed.until(lambda pods: all(map(node, pods.values())) and set(map(node, pods.values())), "all are placed")
    free_of_cards = {f"{mixed.namespace}-{name}" for name in ("plain", "dra")} | {mixed.cluster.node}
    u55c = {f"{mixed.namespace}-u55c-tainted"}  # no label of the catalogue tells that it has cards
    assert places <= free_of_cards | u55c
    mixed.start("large", wanted(None), cpu=31, memory=200 * 1024**3, tolerations=others)
    mixed.start("larger", wanted(None), cpu=31, memory=200 * 1024**3, tolerations=others)
    mixed.start("largest", wanted(None), cpu=31, memory=200 * 1024**3, tolerations=others)
    mixed.until(lambda pods: all(map(node, pods.values())), "a preference never keeps a session from starting")


# --- the hub's own request about claims ---------------------------------------------------------------------------


async def _as_hub(kubeconfig: Path, namespace: str, work: Any) -> Any:
    """Run work with the requests of somebody who has the rights of the documentation and no others."""
    configuration = kubernetes_asyncio.client.Configuration()
    await kubernetes_asyncio.config.load_kube_config(str(kubeconfig), client_configuration=configuration)
    async with kubernetes_asyncio.client.ApiClient(configuration) as client:
        api = KubeApi(
            kubernetes_asyncio.client.CoreV1Api(client),
            devices=lambda: kubernetes_asyncio.client.ResourceV1Api(client),
            request_timeout_s=15,
            retry_timeout_s=30,
            log=logging.getLogger("placement"),
        )
        return await work(api, namespace)


def test_templates_are_made_once_by_whom_the_documented_role_allows(cluster: Cluster) -> None:
    device = shipped().accelerators["dra-small"].kubernetes
    assert device is not None
    assert device.dra is not None
    template, other = (claim_template("dra-small", device.dra, count) for count in (1, 2))

    async def twice_at_once(api: KubeApi, namespace: str) -> None:
        await asyncio.gather(*(ensure_template(api, namespace, template) for _ in range(8)))
        await ensure_template(api, namespace, other)

    async def once(api: KubeApi, namespace: str) -> Refusal | None:
        try:
            await ensure_template(api, namespace, template)
        except Refusal as refused:
            return refused
        return None

    (role,) = [yaml.safe_load(block.text) for block in blocks("role.yaml")]
    user = f"hub-{os.getpid()}"
    with cluster.namespace("placement") as namespace:
        role["metadata"]["namespace"] = namespace
        subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
        reference = {"kind": "Role", "name": role["metadata"]["name"], "apiGroup": "rbac.authorization.k8s.io"}
        kubeconfig = cluster.kubeconfig_for(user)
        refused = asyncio.run(_as_hub(kubeconfig, namespace, once))
        assert refused is not None
        assert refused.code == "cluster-rights"
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "hub", "namespace": namespace},
            "subjects": [subject],
            "roleRef": reference,
        }
        cluster.apply(role, binding)
        asyncio.run(_as_hub(kubeconfig, namespace, twice_at_once))
        found = json.loads(cluster.kubectl("get", "resourceclaimtemplates", "-n", namespace, "-o", "json"))["items"]
        assert sorted(item["metadata"]["name"] for item in found) == sorted([template.name, other.name])
        assert asyncio.run(_as_hub(kubeconfig, namespace, once)) is None

        foreign = claim_template("dra-small", device.dra, 5).manifest()
        foreign["metadata"] = {"name": template.name, "namespace": namespace}
        cluster.kubectl("delete", "resourceclaimtemplate", template.name, "-n", namespace)
        cluster.apply(foreign)
        replaced = asyncio.run(_as_hub(kubeconfig, namespace, once))
        assert replaced is not None
        assert replaced.code == "claim-template"
