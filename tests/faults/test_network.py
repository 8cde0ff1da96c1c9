"""A Service in front of the pod, certificates, and a namespace for each user: what KubeSpawner offers works here too."""

from __future__ import annotations

import asyncio
from typing import Any

from kmock._internal import parsing
from kubernetes_asyncio.client import models

from tests.faults.conftest import World
from tests.faults.kube_api import ScriptedCluster, problem


async def test_a_service_is_made_for_the_pod_and_replaces_an_older_one(world: World, cluster: ScriptedCluster) -> None:
    old = cluster.put("services", {"metadata": {"name": "jupyter-ann"}, "spec": {"ports": [{"port": 1}]}})
    world.config.ArmillarySpawner.services_enabled = True
    world.config.ArmillarySpawner.dns_name_template = "localhost"
    await world.started()
    service, pod = cluster.objects["services", "default", "jupyter-ann"], cluster.pod()
    assert pod is not None
    assert service["metadata"]["uid"] != old["metadata"]["uid"]
    assert service["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
    assert service["spec"]["selector"]["hub.jupyter.org/username"] == "ann"
    assert world.spawner.server.ip == "localhost"


async def test_after_a_restart_a_running_server_keeps_its_profiles_way_of_being_reached(
    world: World, cluster: ScriptedCluster
) -> None:
    world.config.ArmillarySpawner.services_enabled = True
    world.config.ArmillarySpawner.dns_name_template = "localhost"
    await world.started()
    world.config.ArmillarySpawner.services_enabled = False
    spawner = world.restarted().spawners[""]
    assert await spawner.poll() is None
    assert spawner.server.ip == "localhost"


async def test_a_service_that_may_not_be_made_ends_the_start_and_the_pod(
    world: World, cluster: ScriptedCluster
) -> None:
    message = 'services is forbidden: User "hub" cannot create resource "services"'
    cluster.server["post", "/api/v1/namespaces/default/services"] << problem(403, "Forbidden", message)
    world.config.ArmillarySpawner.services_enabled = True
    assert await world.refused(world.start()) == (
        "The hub may not make the network name of your server in the cluster. This is a mistake in its installation, "
        "not yours: tell your administrators; the hub's log names the missing right."
    )
    assert (cluster.names("pods"), cluster.names("secrets")) == ([], [])


async def test_certificates_lie_in_a_secret_of_the_pod(
    world: World, cluster: ScriptedCluster, monkeypatch: Any
) -> None:
    await world.started()
    spawner, pod = world.spawner, cluster.pod()
    assert pod is not None

    def manifest(owner: models.V1OwnerReference) -> models.V1Secret:
        return models.V1Secret(metadata=models.V1ObjectMeta(name=spawner.secret_name, owner_references=[owner]))

    monkeypatch.setattr(spawner, "internal_ssl", True)
    monkeypatch.setattr(spawner, "get_secret_manifest", manifest)
    await spawner.surround(pod)
    secret = cluster.objects["secrets", "default", "jupyter-ann"]
    assert secret["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
    assert cluster.names("services") == ["jupyter-ann"]


async def test_each_user_may_have_a_namespace_that_is_made_at_the_first_start(
    world: World, cluster: ScriptedCluster, monkeypatch: Any
) -> None:
    # kmock 0.8 cannot read the path of the collection of namespaces; so it is told what it is.
    parse = parsing.parse_path
    collection = parsing.ParsedPath("", "v1", "namespaces", "", None, None)
    monkeypatch.setattr(parsing, "parse_path", lambda path: collection if path.endswith("/namespaces") else parse(path))
    world.config.ArmillarySpawner.enable_user_namespaces = True
    world.config.ArmillarySpawner.user_namespace_template = "users-{username}"
    start = asyncio.ensure_future(world.user.spawn("", options={"profile": "cpu"}))
    await world.until(lambda: ("pods", "users-ann", "jupyter-ann") in cluster.objects)
    assert cluster.names("namespaces") == ["users-ann"]
    pod = dict(cluster.objects["pods", "users-ann", "jupyter-ann"])
    pod["spec"] = {**pod["spec"], "nodeName": "node-1"}
    running = [{"name": "notebook", "ready": True, "state": {"running": {}}}]
    cluster.put("pods", {**pod, "status": {"phase": "Running", "podIP": "127.0.0.1", "containerStatuses": running}})
    await asyncio.wait_for(start, 20)
    assert await world.spawner.poll() is None
    assert world.spawner.live_pods().omit_namespace
