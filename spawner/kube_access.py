"""How a server reaches the cluster: requests of its own, and the live copies that all servers of a hub share."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from kubespawner.clients import shared_client

from spawner.kube_api import KubeApi
from spawner.kube_traits import KubeTraits
from spawner.pod_watch import PodWatch
from spawner.reflector import LiveEvents, LivePods, LiveReflector

__all__ = ["KubeAccess"]

_Live = TypeVar("_Live", bound=LiveReflector)


class KubeAccess(KubeTraits):
    """Starts the shared copies, one of pods and one of events for each namespace, when they are first needed, and
    again when they are found dead.
    """

    reflectors: dict[Any, LiveReflector] = {}
    """Shared by all spawners of the hub, as KubeSpawner's, which this hides."""

    def kube(self) -> KubeApi:
        """Return the requests, with the time limits that are set now."""
        return KubeApi(
            self.api,
            request_timeout_s=self.k8s_api_request_timeout,
            retry_timeout_s=self.k8s_api_request_retry_timeout,
            log=self.log,
            devices=lambda: shared_client("ResourceV1Api"),
        )

    def watch(self, pod: dict[str, Any]) -> PodWatch:
        """Return what waits for changes of this pod."""
        return PodWatch(pod, self.live_pods(), self.live_events(), self.kube())

    def live_pods(self) -> LivePods:
        """Return the live copy of the pods, running."""
        return self._live("pods", LivePods, labels={"component": self.component_label})

    def live_events(self) -> LiveEvents | None:
        """Return the live copy of the events, running; None where the deployer wants none."""
        if not self.events_enabled:
            return None
        return self._live("events", LiveEvents, fields={"involvedObject.kind": "Pod"})

    def _live(self, kind: str, live_class: type[_Live], **selectors: Any) -> _Live:
        key = self._get_reflector_key(kind)
        live = self.reflectors.get(key)
        if not isinstance(live, live_class):
            # Not `parent=self`: that would keep the first user's spawner for the life of the hub.
            live = live_class(
                config=self.config,
                log=self.log,
                namespace=self.namespace,
                omit_namespace=self.enable_user_namespaces,
                **selectors,
            )
            self.reflectors[key] = live
        live.ensure_running()
        return live

    # What KubeSpawner's own code and deployers' hooks call.

    async def _start_watching_pods(self, replace: bool = False) -> LivePods:
        live = self.live_pods()
        if replace:
            await live.restart()
        return live

    async def _start_watching_events(self, replace: bool = False) -> LiveEvents | None:
        live = self.live_events()
        if replace and live is not None:
            await live.restart()
        return live

    @classmethod
    async def _stop_all_reflectors(cls) -> None:
        live = list(cls.reflectors.values())
        cls.reflectors.clear()
        await asyncio.gather(*(reflector.stop() for reflector in live))
