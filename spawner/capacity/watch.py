"""The whole cluster, watched: nodes and pods of all namespaces and, where the catalogue names some, DRA devices.

For the controller only: the hub and the service read what it publishes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import aiohttp
from kubespawner.clients import load_config, shared_client

from profiles.model import Catalogue, Toleration
from spawner.capacity.cluster import ClusterState
from spawner.capacity.dra import NOT_SERVED
from spawner.capacity.feed import Feed, Target
from spawner.capacity.model import Snapshot
from spawner.capacity.slim import slim_node, slim_pod
from spawner.capacity.slim_dra import slim_claim, slim_class, slim_slice
from spawner.reflector import Item

__all__ = ["ClusterWatch", "NoCluster"]

_DRA = "ResourceV1Api"
_ASK_S = 10.0
_ASK_SOON_S = 2.0
_ASK_AGAIN_S = 60.0

Slim = TypeVar("Slim")


class NoCluster(OSError):
    """There is no configuration that says where the cluster is."""


class ClusterWatch:
    """Keeps a `ClusterState` in step with the cluster.

    Parameters
    ----------
    catalogue
        What is counted.
    namespace
        That of the deployment's own sessions.
    tolerations
        Of every session.
    """

    def __init__(self, catalogue: Catalogue, namespace: str, tolerations: Sequence[Toleration] = ()) -> None:
        self.state = ClusterState(catalogue, namespace, tolerations)
        self.changed = asyncio.Event()
        """Set when anything was told, good or bad; whoever waits clears it."""
        self._feeds: dict[str, Feed] = {}
        self._devices: dict[str, Feed] = {}
        self._asking: asyncio.Task[None] | None = None
        self._no_devices = "not asked yet"
        self._blind_since: datetime | None = None

    # --- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to watch; does not wait for the first lists.

        Raises
        ------
        NoCluster
            Neither a service account nor a kubeconfig was found.
        """
        try:
            await asyncio.to_thread(load_config)  # reads files
        except Exception as error:
            raise NoCluster(f"no way to the Kubernetes API is configured: {error}") from error
        state = self.state
        node = self._target(slim_node, state.put_node, state.forget_node, state.nodes.keys)
        pod = self._target(slim_pod, state.put_pod, state.forget_pod, state.pods.keys)
        self._feeds["nodes"] = Feed("nodes", "CoreV1Api", "list_node", node)
        self._feeds["pods"] = Feed("pods", "CoreV1Api", "list_pod_for_all_namespaces", pod)
        for feed in self._feeds.values():
            feed.ensure_running()
        if any(kind.dra for kind in state.kinds):
            self._asking = asyncio.create_task(self._watch_devices())

    async def stop(self) -> None:
        """End all watches."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await asyncio.gather(*(feed.stop() for feed in self._all()))

    def ensure_running(self) -> None:
        """Begin again what has died of a bug."""
        for feed in self._all():
            feed.ensure_running()

    async def _watch_devices(self) -> None:
        """Watch what DRA has as soon as the cluster has DRA."""
        while not await self._serves_devices():  # noqa: ASYNC110  # the one who knows is in the cluster
            await asyncio.sleep(_ASK_AGAIN_S if self._no_devices == NOT_SERVED else _ASK_SOON_S)
        dra = self.state.dra
        targets: dict[str, tuple[str, Target[Any]]] = {
            "device classes": (
                "list_device_class",
                self._target(slim_class, dra.put_class, dra.forget_class, dra.classes),
            ),
            "resource slices": (
                "list_resource_slice",
                self._target(slim_slice, dra.put_slice, dra.forget_slice, dra.slices),
            ),
            "resource claims": (
                "list_resource_claim_for_all_namespaces",
                self._target(slim_claim, dra.put_claim, dra.forget_claim, dra.claims),
            ),
        }
        for kind, (method, target) in targets.items():
            self._devices[kind] = Feed(kind, _DRA, method, target)
            self._devices[kind].ensure_running()

    async def _serves_devices(self) -> bool:
        """Return whether the API server has resource.k8s.io/v1."""
        try:
            async with asyncio.timeout(_ASK_S):
                response = await shared_client(_DRA).get_api_resources(_preload_content=False)
                async with response:
                    status = int(response.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._no_devices = f"the API server does not answer: {type(error).__name__}"
            return False
        self._no_devices = "" if status == 200 else NOT_SERVED if status == 404 else f"the API server says {status}"
        return status == 200

    def _target(
        self,
        read: Callable[[Item], Slim],
        put: Callable[[Slim], None],
        forget: Callable[[str], None],
        held: Callable[[], Collection[str]],
    ) -> Target[Slim]:
        return Target(read, put, forget, held, self.changed.set)

    def _all(self) -> list[Feed]:
        return [*self._feeds.values(), *self._devices.values()]

    # --- what is seen ----------------------------------------------------------------------------------------------

    @property
    def loaded(self) -> bool:
        """Whether nodes and pods were listed once: before that there is nothing to count."""
        return bool(self._feeds) and all(feed.first_load_future.done() for feed in self._feeds.values())

    @property
    def blind_because(self) -> str:
        """Why nodes or pods are not known to be as they are counted, each that is not; empty: they are."""
        return _problems(self._feeds)

    @property
    def applied(self) -> int:
        """How many objects and changes were taken over so far."""
        return sum(feed.applied for feed in self._all())

    def snapshot(self) -> Snapshot:
        """Return the counts of now, or of when the cluster was last seen; to be called once `loaded`."""
        now = datetime.now(UTC)
        blind = self.blind_because
        if not blind:
            self._blind_since = None
        elif self._blind_since is None:
            self._blind_since = now - timedelta(seconds=self._unseen_s())
        self.state.dra.unseen = self._no_devices or _problems(self._devices)
        return Snapshot(
            engine="kubernetes",
            taken_at=now,
            accelerators=self.state.counts(),
            blind_since=self._blind_since,
            versions={kind: feed.version for kind, feed in (self._feeds | self._devices).items()},
        )

    def _unseen_s(self) -> float:
        """How long ago what cannot be seen now was seen last."""
        now = asyncio.get_running_loop().time()
        seen = [feed.last_in_step for feed in self._feeds.values() if feed.blind_because]
        return max((now - moment for moment in seen if moment is not None), default=0.0)


def _problems(feeds: Mapping[str, Feed]) -> str:
    return "; ".join(f"{kind}: {feed.blind_because}" for kind, feed in feeds.items() if feed.blind_because)
