"""The counts of a real cluster that changes at random: after every step those of complete lists at the same versions."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import kubernetes_asyncio.client
import pytest
import pytest_asyncio
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.config import load_kube_config

from profiles.model import Catalogue
from spawner.capacity.watch import ClusterWatch
from tests.lab import kwok
from tests.lab.cluster import Cluster
from tests.spawner.brute_force import counted, expected
from tests.spawner.capacity_objects import catalogue, device, device_class, resource_slice

Json = dict[str, Any]

STEPS = 1000
BOUND_S = 360
"""After so many seconds no further step is begun, and the test fails; about 55 are usual."""

MERGE = "application/merge-patch+json"
WITHIN_S = 30
MIG, GPU, BOARD = "nvidia.com/mig-1g.5gb", "nvidia.com/gpu", "cap.test/board"


class Lab:
    """A part of the cluster that is ours: nodes, a namespace, a device class; and a watch over the whole of it."""

    def __init__(self, suffix: str, namespace: str) -> None:
        self.suffix, self.namespace = suffix, namespace
        self.driver = f"{suffix}.cap.test"
        # The stubs know models only; here everything is plain JSON.
        self.core: Any = kubernetes_asyncio.client.CoreV1Api()
        self.resources: Any = kubernetes_asyncio.client.ResourceV1Api()
        only_here = {"cap.test/run": suffix}
        self.devices: dict[str, Json] = {
            "slice": {"resource": MIG, "node_labels": only_here, "tolerations": [{"key": "cap.test/ours"}]},
            "t4": {"resource": GPU, "node_labels": {**only_here, "nvidia.com/gpu.product": ["Tesla-T4"]}},
            "any": {"resource": BOARD},
            "l40s": {
                "dra": {
                    "device_class": self.driver,
                    "selectors": [f'device.attributes["{self.driver}"].model == "L40S"'],
                },
                "tolerations": [{"key": "cap.test/ours"}],
            },
        }
        self.catalogue: Catalogue = catalogue(self.devices)
        self.watch = ClusterWatch(self.catalogue, namespace)
        self.nodes = [f"cap-{suffix}-{number}" for number in range(6)]
        self.serial = 0
        self.pods: list[str] = []
        self.claims: list[str] = []

    async def ask(self, call: Coroutine[Any, Any, Any]) -> Json:
        """Return the answer as plain JSON."""
        response = await call
        async with response:
            body: Json = json.loads(await response.read())
        if response.status >= 400:
            raise ApiException(status=response.status, reason=body.get("message"))
        return body

    # --- nodes -----------------------------------------------------------------------------------------------------

    def body(self, name: str, rng: random.Random) -> Json:
        """Return a node that KWOK plays, of a random kind."""
        slots = rng.choice(["110", "110", "3"])
        capacity = {MIG: rng.choice(["0", "4", "7"]), GPU: rng.choice(["0", "2"]), BOARD: "1", "pods": slots}
        labels = {"cap.test/run": self.suffix}
        if rng.random() < 0.7:
            labels["nvidia.com/gpu.product"] = rng.choice(["Tesla-T4", "else"])
        item: Json = dict(kwok.node(name, capacity, labels, tainted=False))
        if rng.random() < 0.3:  # nobody plays it: it is never Ready
            item["metadata"]["annotations"] = {}
        item["spec"]["taints"] = rng.choice([[], [], [{"key": "cap.test/ours", "value": "x", "effect": "NoSchedule"}]])
        return item

    async def make_node(self, rng: random.Random, name: str | None = None) -> Json:
        missing = [one for one in self.nodes if one not in self.watch.state.nodes]
        if name is None and not missing:
            return await self.cordon(rng)
        body = self.body(name or rng.choice(missing), rng)
        try:
            return await self.ask(self.core.create_node(body, _preload_content=False))
        except ApiException as error:
            assert error.status == 409
            return {}

    async def delete_node(self, rng: random.Random) -> Json:
        return await self._ignoring_404(self.core.delete_node(self.some_node(rng), _preload_content=False))

    async def cordon(self, rng: random.Random) -> Json:
        return await self.patch_node(self.some_node(rng), {"spec": {"unschedulable": rng.random() < 0.5}})

    async def taint(self, rng: random.Random) -> Json:
        key = rng.choice(["cap.test/ours", "cap.test/theirs"])
        effect = rng.choice(["NoSchedule", "PreferNoSchedule"])
        taints = rng.choice([[], [{"key": key, "effect": effect}]])
        return await self.patch_node(self.some_node(rng), {"spec": {"taints": taints}})

    async def relabel(self, rng: random.Random) -> Json:
        labels = rng.choice(
            [
                {"nvidia.com/gpu.product": rng.choice(["Tesla-T4", "else", None])},
                {"nvidia.com/mig.config.state": rng.choice(["pending", "success", None])},
                {"cap.test/run": rng.choice([self.suffix, "no"])},
            ]
        )
        return await self.patch_node(self.some_node(rng), {"metadata": {"labels": labels}})

    async def resize(self, rng: random.Random) -> Json:
        number = rng.choice([0, 2, 7])
        healthy = max(0, number - rng.choice([0, 0, 1]))
        status = {
            "capacity": {MIG: str(number)},
            "allocatable": {MIG: str(healthy), "cpu": rng.choice(["32", "7500m"])},
        }
        return await self._ignoring_404(
            self.core.patch_node_status(
                self.some_node(rng), {"status": status}, _content_type=MERGE, _preload_content=False
            )
        )

    async def patch_node(self, name: str, change: Json) -> Json:
        return await self._ignoring_404(self.core.patch_node(name, change, _content_type=MERGE, _preload_content=False))

    def some_node(self, rng: random.Random) -> str:
        return rng.choice(self.nodes)

    # --- pods ------------------------------------------------------------------------------------------------------

    async def make_pod(self, rng: random.Random) -> Json:
        self.serial += 1
        name = f"p{self.serial}"
        asks = rng.choice([{MIG: "1"}, {MIG: "3"}, {GPU: "1"}, {BOARD: "1"}, {}])
        asks = {**asks, **rng.choice([{"cpu": "500m"}, {"cpu": "2", "memory": "1Gi"}, {}])}
        main: Json = {"name": "main", "image": "localhost/none:1", "resources": {"limits": asks, "requests": asks}}
        body: Json = {
            "metadata": {"name": name, "annotations": {"armillary/spawn-id": name} if rng.random() < 0.5 else {}},
            "spec": {"containers": [main], "schedulerName": "nobody", "tolerations": [{"operator": "Exists"}]},
        }
        if rng.random() < 0.3:
            side = {**main, "name": "side", "resources": {"requests": {"cpu": "250m"}}, "restartPolicy": "Always"}
            body["spec"]["initContainers"] = [side, {**main, "name": "init", "resources": {"requests": {"cpu": "3"}}}]
        if rng.random() < 0.7:
            body["spec"]["nodeName"] = self.some_node(rng)
        made = await self.ask(self.core.create_namespaced_pod(self.namespace, body, _preload_content=False))
        self.pods.append(name)
        return made

    async def bind(self, rng: random.Random) -> Json:
        unbound = [
            pod.key.partition("/")[2]
            for pod in self.watch.state.pods.values()
            if pod.key.startswith(f"{self.namespace}/") and not pod.node
        ]
        if not unbound:
            return await self.make_pod(rng)
        name = rng.choice(unbound)
        target = {"target": {"kind": "Node", "name": self.some_node(rng)}, "metadata": {"name": name}}
        await self._ignoring_404(
            self.core.create_namespaced_pod_binding(name, self.namespace, target, _preload_content=False)
        )
        return await self._ignoring_404(self.core.read_namespaced_pod(name, self.namespace, _preload_content=False))

    async def finish(self, rng: random.Random) -> Json:
        if not self.pods:
            return await self.make_pod(rng)
        status = {"status": {"phase": rng.choice(["Succeeded", "Failed", "Running"])}}
        return await self._ignoring_404(
            self.core.patch_namespaced_pod_status(
                rng.choice(self.pods), self.namespace, status, _content_type=MERGE, _preload_content=False
            )
        )

    async def delete_pod(self, rng: random.Random) -> Json:
        if not self.pods:
            return await self.make_pod(rng)
        name = self.pods.pop(rng.randrange(len(self.pods)))
        grace = {"gracePeriodSeconds": rng.choice([0, 0, 30])}
        return await self._ignoring_404(
            self.core.delete_namespaced_pod(name, self.namespace, body=grace, _preload_content=False)
        )

    # --- devices ---------------------------------------------------------------------------------------------------

    async def reslice(self, rng: random.Random) -> Json:
        """Publish the devices of a node anew, some of them with a taint, under a new generation."""
        on = self.some_node(rng)
        self.serial += 1
        taints = [{"key": "xid", "effect": "NoSchedule"}]
        devices = [self.device(f"d{one}", rng.choice(["L40S", "T4"])) for one in range(rng.randrange(1, 4))]
        if rng.random() < 0.3:
            devices[0]["taints"] = taints
        body = resource_slice(on, devices, on=on, generation=self.serial, driver=self.driver)
        await self._ignoring_404(self.resources.delete_resource_slice(on, _preload_content=False))
        return await self._ignoring_409(self.resources.create_resource_slice(body, _preload_content=False))

    def device(self, name: str, model: str) -> Json:
        return device(name, model)

    async def allocate(self, rng: random.Random) -> Json:
        """Give a free device to a new claim, as the scheduler would, for one of the pods or for nobody known."""
        held = self.watch.state.dra._holder
        free = [
            (part.pool, one.name)
            for part in self.watch.state.dra._slices.values()
            if part.driver == self.driver
            for one in part.devices
            if (self.driver, part.pool, one.name) not in held
        ]
        if not free:
            return await self.free_claim(rng)
        self.serial += 1
        name = f"c{self.serial}"
        pool, one = rng.choice(free)
        spec = {"devices": {"requests": [{"name": "devices", "exactly": {"deviceClassName": self.driver}}]}}
        made = await self.ask(
            self.resources.create_namespaced_resource_claim(
                self.namespace, {"metadata": {"name": name}, "spec": spec}, _preload_content=False
            )
        )
        mine = [pod for pod in self.watch.state.pods.values() if pod.key.startswith(f"{self.namespace}/")]
        pod = rng.choice(mine) if mine else None
        users = [{"resource": "pods", "name": pod.key.partition("/")[2], "uid": pod.uid}] if pod else []
        results = [{"request": "devices", "driver": self.driver, "pool": pool, "device": one}]
        made["status"] = {"allocation": {"devices": {"results": results}}, "reservedFor": users}
        self.claims.append(name)
        return await self._ignoring_409(
            self.resources.replace_namespaced_resource_claim_status(name, self.namespace, made, _preload_content=False)
        )

    async def free_claim(self, rng: random.Random) -> Json:
        if not self.claims:
            return await self.reslice(rng)
        name = self.claims.pop(rng.randrange(len(self.claims)))
        return await self._ignoring_404(
            self.resources.delete_namespaced_resource_claim(name, self.namespace, _preload_content=False)
        )

    async def _ignoring_404(self, call: Coroutine[Any, Any, Any]) -> Json:
        return await self._ignoring(404, call)

    async def _ignoring_409(self, call: Coroutine[Any, Any, Any]) -> Json:
        return await self._ignoring(409, call)

    async def _ignoring(self, status: int, call: Coroutine[Any, Any, Any]) -> Json:
        try:
            return await self.ask(call)
        except ApiException as error:
            if error.status not in (status, 404):
                raise
            return {}

    # --- the comparison --------------------------------------------------------------------------------------------

    async def reached(self, change: Json) -> None:
        """Wait until the watch has seen the change."""
        feeds = {"Node": "nodes", "Pod": "pods", "ResourceClaim": "resource claims", "ResourceSlice": "resource slices"}
        kind = feeds.get(str(change.get("kind")))
        if kind is None:
            return  # nothing was changed, or a deletion that says only "Success"
        feed = self.watch._feeds.get(kind) or self.watch._devices[kind]
        version = change["metadata"].get("resourceVersion")
        if version is None:  # it is gone: the answer has no version
            uid, pods = change["metadata"]["uid"], self.watch.state.pods
            await self.until(lambda: all(pod.uid != uid for pod in pods.values()))
        else:
            await self.until(lambda: int(feed.version) >= int(version))

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not true():
                await asyncio.sleep(0.005)

    async def compare(self) -> None:
        """Compare the counts of now with a count of complete lists at exactly the same versions."""
        snapshot = self.watch.snapshot()
        assert snapshot.blind_since is None
        lists: dict[str, Any] = {
            "nodes": self.core.list_node,
            "pods": self.core.list_pod_for_all_namespaces,
            "resource slices": self.resources.list_resource_slice,
            "resource claims": self.resources.list_resource_claim_for_all_namespaces,
        }

        async def complete(kind: str) -> list[Json]:
            page = await self.ask(
                lists[kind](
                    resource_version=snapshot.versions[kind], resource_version_match="Exact", _preload_content=False
                )
            )
            assert page["metadata"]["resourceVersion"] == snapshot.versions[kind]
            items: list[Json] = page.get("items") or []
            return items

        nodes, pods, slices, claims = await asyncio.gather(*map(complete, lists))
        for key, kind in {**self.devices, "none": None}.items():
            wanted = expected(
                kind,
                nodes,
                pods,
                self.namespace,
                slices=[one for one in slices if one["spec"]["driver"] == self.driver],
                claims=claims,
                matches=lambda one, driver: one["attributes"]["model"]["string"] == "L40S",
            )
            found = counted(snapshot.accelerators[key])
            assert found == wanted, f"{key} at {dict(snapshot.versions)}: {found}, but the lists say {wanted}"


@pytest_asyncio.fixture
async def lab(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """A part of the cluster of our own, removed afterwards."""
    await load_kube_config(config_file=str(cluster.kubeconfig))
    monkeypatch.setattr("spawner.capacity.watch.load_config", lambda: None)
    with cluster.namespace("cap", restricted=False) as namespace:
        lab = Lab(secrets.token_hex(3), namespace)
        try:
            await lab.ask(
                lab.resources.create_device_class(
                    device_class(lab.driver, f'device.driver == "{lab.driver}"'), _preload_content=False
                )
            )
            yield lab
        finally:
            await lab.watch.stop()
            for name in lab.nodes:
                await lab._ignoring_404(lab.core.delete_node(name, _preload_content=False))
                await lab._ignoring_404(lab.resources.delete_resource_slice(name, _preload_content=False))
            await lab._ignoring_404(lab.resources.delete_device_class(lab.driver, _preload_content=False))
            await lab.core.api_client.close()
            await lab.resources.api_client.close()


async def started(lab: Lab) -> None:
    await lab.watch.start()
    await lab.until(lambda: lab.watch.loaded and len(lab.watch.snapshot().versions) == 5)
    await lab.until(lambda: not lab.watch.snapshot().accelerators["l40s"].unknown)


@pytest.mark.timeout(400)
async def test_a_thousand_changes_at_random_each_counted_as_complete_lists_say(lab: Lab) -> None:
    seed = secrets.randbelow(10**6)
    rng = random.Random(seed)
    await started(lab)
    for name in lab.nodes[:4]:
        await lab.reached(await lab.make_node(rng, name))
    changes: list[tuple[int, Callable[[random.Random], Coroutine[Any, Any, Json]]]] = [
        (30, lab.make_pod), (12, lab.bind), (12, lab.finish), (22, lab.delete_pod), (4, lab.make_node), (2, lab.delete_node),
        (4, lab.cordon), (3, lab.taint), (4, lab.relabel), (4, lab.resize), (3, lab.reslice), (6, lab.allocate),
        (5, lab.free_claim),
    ]  # fmt: skip
    weights, choices = zip(*changes, strict=True)
    compared, began = 0, time.monotonic()
    done: dict[str, int] = {}
    while compared < STEPS and time.monotonic() - began < BOUND_S:
        change = rng.choices(choices, weights)[0]
        try:
            await lab.reached(await change(rng))
            await lab.compare()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, step {compared}, after {change.__name__}: {error}") from error
        compared += 1
        done[change.__name__] = done.get(change.__name__, 0) + 1
    print(f"\n{compared} steps compared in {time.monotonic() - began:.0f} s (seed {seed}): {done}")
    assert compared == STEPS


async def test_devices_that_the_scheduler_gives_are_counted_as_ours(lab: Lab) -> None:
    await started(lab)
    name = lab.nodes[0]
    body: Json = dict(kwok.node(name, {}, {"cap.test/run": lab.suffix}, tainted=True))
    await lab.ask(lab.core.create_node(body, _preload_content=False))
    devices = [lab.device("d0", "L40S"), lab.device("d1", "L40S"), lab.device("d2", "T4")]
    await lab.ask(
        lab.resources.create_resource_slice(
            resource_slice(name, devices, on=name, driver=lab.driver), _preload_content=False
        )
    )
    # KWOK's taint is in no toleration of the catalogue; the pod below tolerates everything.
    await lab.until(
        lambda: dict(lab.watch.snapshot().accelerators["l40s"].held_because) == {f"tainted ({kwok.TAINT['key']})": 2}
    )
    spec = {"devices": {"requests": [{"name": "devices", "exactly": {"deviceClassName": lab.driver, "selectors": [
        {"cel": {"expression": lab.devices["l40s"]["dra"]["selectors"][0]}}]}}]}}  # fmt: skip
    template = {"metadata": {"name": "one"}, "spec": {"spec": spec}}
    await lab.ask(
        lab.resources.create_namespaced_resource_claim_template(lab.namespace, template, _preload_content=False)
    )
    pod = {
        "metadata": {"name": "ours", "annotations": {"armillary/spawn-id": "s1"}},
        "spec": {
            "containers": [
                {"name": "main", "image": "localhost/none:1", "resources": {"claims": [{"name": "devices"}]}}
            ],
            "resourceClaims": [{"name": "devices", "resourceClaimTemplateName": "one"}],
            "nodeSelector": {"cap.test/run": lab.suffix},
            "tolerations": [{"operator": "Exists"}],
        },
    }
    await lab.ask(lab.core.create_namespaced_pod(lab.namespace, pod, _preload_content=False))
    await lab.until(lambda: "s1" in lab.watch.state.seen())
    count = lab.watch.snapshot().accelerators["l40s"]
    assert (count.total, count.used_by_us, count.used_by_others) == (2, 1, 0)
    grace = {"gracePeriodSeconds": 0}
    await lab.ask(lab.core.delete_namespaced_pod("ours", lab.namespace, body=grace, _preload_content=False))
    await lab.until(lambda: lab.watch.snapshot().accelerators["l40s"].used_by_us == 0)
    assert lab.watch.state.ended("s1") is None
