"""A real JupyterHub user with our spawner, a scripted Kubernetes API, and a server that answers like JupyterLab."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import kmock as km
import kubernetes_asyncio.client
import pytest
import pytest_asyncio
from traitlets.config import Config

from spawner.kube import ArmillarySpawner
from spawner.pod_watch import PodWatch
from tests.faults.kube_api import ScriptedCluster
from tests.spawner.catalogues import catalogue
from tests.spawner.hub_user import HubUser, answering

SECONDS = 20.0


@pytest.fixture(autouse=True)
def same_pauses_every_time() -> None:
    """What waits a random time before it tries again waits as long in each run: a failure can be repeated."""
    random.seed(1)


@pytest.fixture
def kmock_options() -> dict[str, Any]:
    """kmock's own objects are too simple; only its errors and discovery are used."""
    return {"cls": km.KubernetesScaffold}


@pytest_asyncio.fixture
async def cluster(kmock: km.RawHandler, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedCluster]:
    """The API server, and the client library pointed at it."""
    configuration = kubernetes_asyncio.client.Configuration(host=str(kmock.url).rstrip("/"))
    monkeypatch.setattr("kubespawner.spawner.load_config", lambda **_: None)
    monkeypatch.setattr(kubernetes_asyncio.client.Configuration, "_default", configuration)
    monkeypatch.setattr(PodWatch, "recheck_s", 0.5)
    yield ScriptedCluster(kmock)
    await ArmillarySpawner._stop_all_reflectors()
    await asyncio.sleep(0)


@pytest_asyncio.fixture
async def session_port() -> AsyncIterator[int]:
    """The port of something that answers HTTP at the address of every pod."""
    async with answering() as port:
        yield port


class World(HubUser):
    """JupyterHub's side: one database, one user; every start goes by `User.spawn`, as in the hub."""

    def __init__(self, port: int, cluster: ScriptedCluster) -> None:
        self.cluster = cluster
        config = Config()
        own = config.ArmillarySpawner
        own.catalogue = catalogue()
        own.namespace = "default"
        own.port = port
        own.http_timeout = 5
        own.start_timeout = 15
        own.k8s_api_request_timeout = 1
        own.k8s_api_request_retry_timeout = 3
        own.stop_timeout = 3
        super().__init__("ann", config)

    def start(self, **options: Any) -> asyncio.Task[Any]:
        """Begin a start."""
        return asyncio.ensure_future(self.user.spawn("", options=options or {"profile": "cpu"}))

    async def until(self, true: Any) -> Any:
        """Wait until something is true of the world."""
        async with asyncio.timeout(SECONDS):
            while not (found := true()):
                await asyncio.sleep(0.01)
        return found

    async def running(self) -> None:
        """Let the pod run as the cluster would."""
        await self.until(self.cluster.pod)
        self.cluster.bind()
        self.cluster.container({"running": {}})

    async def started(self) -> None:
        """Have a server that runs."""
        start = self.start()
        await self.running()
        await asyncio.wait_for(start, SECONDS)

    async def refused(self, start: asyncio.Task[Any]) -> str:
        """Return the text that a user sees of a start that fails."""
        with pytest.raises(Exception) as caught:  # noqa: PT011  # what it is, is what the test looks at
            await asyncio.wait_for(start, SECONDS)
        error = caught.value
        return str(getattr(error, "jupyterhub_message", "")) or f"{type(error).__name__}: {error}"

    def said(self) -> list[str]:
        """Return the progress messages so far."""
        return [step.text for step in self.spawner.feed.steps]


@pytest_asyncio.fixture
async def world(cluster: ScriptedCluster, session_port: int) -> AsyncIterator[World]:
    """A user who can start servers."""
    world = World(session_port, cluster)
    yield world
    world.close()
