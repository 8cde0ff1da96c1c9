"""A large cluster that KWOK plays: nodes of every kind with pods on them, and changes that never stop."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import random
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.lab import kwok

__all__ = ["KINDS", "Crowd", "Kind", "populated"]

_AT_ONCE = 40
_SETTLED_S = 900.0
_VARIABLES = 20
# As many environment variables as a session's pod has, roughly: they are what makes lists of pods large.


@dataclass(frozen=True)
class Kind:
    """One kind of node: what it has, and how common it is."""

    name: str
    share: float
    capacity: dict[str, str]
    labels: dict[str, str]

    @property
    def device(self) -> str | None:
        """The resource that pods on such a node ask for."""
        return next(iter(self.capacity), None)


KINDS = (
    Kind("a100", 0.2, {"nvidia.com/mig-1g.5gb": "7"}, {"nvidia.com/gpu.product": "NVIDIA-A100-PCIE-40GB"}),
    Kind("t4", 0.2, {"nvidia.com/gpu": "4"}, {"nvidia.com/gpu.product": "Tesla-T4"}),
    Kind("rtx", 0.2, {"nvidia.com/gpu": "2"}, {"nvidia.com/gpu.product": "Quadro-RTX-5000"}),
    Kind("u55c", 0.05, {"amd.com/xilinx_u55c_gen3x16_xdma_base_3-0": "2"}, {}),
    Kind("cpu", 0.35, {}, {}),
)


class Crowd:
    """The nodes and pods of one run; everything of it carries one prefix and one namespace."""

    def __init__(
        self, http: aiohttp.ClientSession, server: str, tls: ssl.SSLContext, namespace: str, seed: int
    ) -> None:
        self._http, self._server, self._tls = http, server, tls
        self.namespace = namespace
        self._draw = random.Random(seed)
        self._numbers = itertools.count(1)
        self.nodes: list[tuple[str, Kind]] = []
        self.pods: list[str] = []
        self.size = 0
        self.changes = 0
        """How many changes were made since the cluster was populated."""
        self.failures: list[BaseException] = []
        """Those that failed."""

    async def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        kind: str = "application/json",
        allowed: tuple[int, ...] = (404,),
    ) -> None:
        headers = {"Content-Type": kind}
        async with self._http.request(
            method, f"{self._server}{path}", json=body, headers=headers, ssl=self._tls
        ) as answer:
            if answer.status >= 400 and answer.status not in allowed:
                raise RuntimeError(f"{method} {path}: {answer.status} {(await answer.text())[:300]}")

    async def populate(self, nodes: int, pods: int) -> None:
        """Make so many nodes and pods."""
        self.size = pods
        for kind in KINDS:
            self.nodes += [(f"{self.namespace}-{kind.name}-{n}", kind) for n in range(round(nodes * kind.share))]
        await self._all(self._call("POST", "/api/v1/nodes", _node(name, kind)) for name, kind in self.nodes)
        await self._all(self._new_pod() for _ in range(pods))
        await self._settled()

    async def _settled(self) -> None:
        """Wait until all pods run: what it costs to make them is not measured."""
        pending = f"/api/v1/namespaces/{self.namespace}/pods?fieldSelector=status.phase%3DPending&resourceVersion=0"
        async with asyncio.timeout(_SETTLED_S):
            while True:
                async with self._http.get(f"{self._server}{pending}", ssl=self._tls) as answer:
                    if answer.status == 200 and not (await answer.json())["items"]:
                        return
                await asyncio.sleep(5)

    async def _all(self, calls: Iterator[Any]) -> None:
        async def work() -> None:
            for call in calls:
                await call

        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))

    async def _new_pod(self) -> None:
        name = f"p{next(self._numbers)}"
        node, kind = self._draw.choice(self.nodes)
        await self._call("POST", f"/api/v1/namespaces/{self.namespace}/pods", _pod(name, node, kind.device))
        self.pods.append(name)

    async def _drop_pod(self) -> None:
        place = self._draw.randrange(len(self.pods))
        self.pods[place], self.pods[-1] = self.pods[-1], self.pods[place]
        name = self.pods.pop()
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}?gracePeriodSeconds=0"
        await self._call("DELETE", path)

    async def _cordon(self) -> None:
        node, _ = self._draw.choice(self.nodes)
        body = {"spec": {"unschedulable": self._draw.random() < 0.5}}
        await self._call("PATCH", f"/api/v1/nodes/{node}", body, "application/merge-patch+json")

    async def keep_changing(self, per_second: float) -> None:
        """Make changes at this rate until cancelled: pods come and go, now and then a node is cordoned."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        under_way: set[asyncio.Task[None]] = set()
        try:
            while True:
                kind = self._draw.random()
                fewer = kind >= 0.525 and len(self.pods) > self.size / 2
                change = self._cordon() if kind < 0.05 else self._drop_pod() if fewer else self._new_pod()
                task = asyncio.create_task(change)
                under_way.add(task)
                task.add_done_callback(self._made(under_way))
                due += 1 / per_second
                await asyncio.sleep(max(0.0, due - loop.time()))
        finally:
            await asyncio.gather(*under_way, return_exceptions=True)

    def _made(self, under_way: set[asyncio.Task[None]]) -> Any:
        def note(task: asyncio.Task[None]) -> None:
            under_way.discard(task)
            if task.cancelled():
                return
            failure = task.exception()
            if failure is None:
                self.changes += 1
            else:
                self.failures.append(failure)

        return note

    async def remove(self) -> None:
        """Take everything away again; the namespace is its maker's."""
        with contextlib.suppress(aiohttp.ServerDisconnectedError):  # the server ends a request that takes a minute
            path = f"/api/v1/namespaces/{self.namespace}/pods?gracePeriodSeconds=0"
            await self._call("DELETE", path, allowed=(404, 504))
        await self._all(self._call("DELETE", f"/api/v1/nodes/{name}") for name, _ in self.nodes)


def _node(name: str, kind: Kind) -> dict[str, object]:
    return kwok.node(name, kind.capacity, kind.labels, tainted=False)


def _pod(name: str, node: str, device: str | None) -> dict[str, object]:
    limits = {"cpu": "100m", "memory": "256Mi"} | ({device: "1"} if device else {})
    variables = [
        {"name": f"VARIABLE_{n}", "value": f"value {n} of a variable of usual length"} for n in range(_VARIABLES)
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "crowd"}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {"name": "c", "image": "crowd", "env": variables, "resources": {"limits": limits, "requests": limits}}
            ],
            "tolerations": [{"operator": "Exists"}],
        },
    }


@asynccontextmanager
async def populated(kubeconfig: Path, namespace: str, *, nodes: int, pods: int, seed: int = 4) -> AsyncIterator[Crowd]:
    """A crowd of so many nodes and pods, there while the block runs."""
    said = yaml.safe_load(kubeconfig.read_text())
    server = said["clusters"][0]["cluster"]["server"]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_AT_ONCE * 2)) as http:
        crowd = Crowd(http, server, _tls(said), namespace, seed)
        try:
            await crowd.populate(nodes, pods)
            yield crowd
        finally:
            await crowd.remove()


def _tls(said: dict[str, Any]) -> ssl.SSLContext:
    """The kubeconfig's certificates, given as data or as files."""
    cluster, user = said["clusters"][0]["cluster"], said["users"][0]["user"]
    with tempfile.TemporaryDirectory() as folder:

        def file(section: dict[str, Any], name: str) -> str:
            if name in section:
                return str(section[name])
            path = Path(folder, name)
            path.write_bytes(base64.b64decode(section[f"{name}-data"]))
            return str(path)

        context = ssl.create_default_context(cafile=file(cluster, "certificate-authority"))
        context.load_cert_chain(file(user, "client-certificate"), file(user, "client-key"))
    return context
