"""Wait for something to become true of one pod, woken by changes and not by a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from spawner.kube_api import ApiFailure, KubeApi
from spawner.reason import Reason
from spawner.reflector import LiveEvents, LivePods

__all__ = ["PodView", "PodWatch"]

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class PodView:
    """What is known of the pod: itself (None: it is gone), the events about it, and why it had to go, if known."""

    pod: dict[str, Any] | None
    events: tuple[dict[str, Any], ...] = ()
    why_gone: Reason | None = None


class PodWatch:
    """Follows one pod by its uid; a pod of the same name with another uid is another pod.

    Parameters
    ----------
    pod
        As the API returned it when it was made or found.
    """

    recheck_s = 15.0
    """How often the pod is read directly while nothing is heard of it: a watch may die silently."""

    def __init__(self, pod: dict[str, Any], pods: LivePods, events: LiveEvents | None, api: KubeApi) -> None:
        metadata = pod["metadata"]
        self.namespace: str = metadata["namespace"]
        self.name: str = metadata["name"]
        self.uid: str = metadata["uid"]
        self._key = f"{self.namespace}/{self.name}"
        self._pods = pods
        self._events = events
        self._api = api
        self._latest = pod
        self._seen = False
        self._gone = False

    def view(self) -> PodView:
        """Return what is known now.

        A pod that the live copy does not hold is gone only if the copy held it before: right after its creation
        the copy is still behind.
        """
        found = self._pods.resources.get(self._key)
        if found is not None and found["metadata"]["uid"] == self.uid:
            self._seen = True
            self._latest = found
        elif self._seen:
            self._gone = True
        if self._gone:
            return PodView(None, why_gone=self._pods.why_gone(self.uid))
        events = self._events.about(self._key, self.uid) if self._events is not None else []
        return PodView(self._latest, tuple(events))

    async def until(self, judge: Callable[[PodView], _Result | None], *, recheck_s: float | None = None) -> _Result:
        """Return the first thing but None that `judge` says about the pod; judged after each change.

        The caller bounds the whole wait.
        """
        changed = asyncio.Event()
        with ExitStack() as subscriptions:
            for reflector in (self._pods, self._events):
                if reflector is not None:
                    reflector.ensure_running()
                    subscriptions.enter_context(reflector.subscribed(self._key, changed))
            while True:
                changed.clear()
                result = judge(self.view())
                if result is not None:
                    return result
                try:
                    async with asyncio.timeout(recheck_s or self.recheck_s):
                        await changed.wait()
                except TimeoutError:
                    await self._ask()

    async def _ask(self) -> None:
        for reflector in (self._pods, self._events):
            if reflector is not None:
                reflector.ensure_running()
        try:
            pod = await self._api.read_pod(self.namespace, self.name)
        except ApiFailure:
            return  # unknown; asked again later
        if pod is None or pod["metadata"]["uid"] != self.uid:
            self._gone = True
        elif self._pods.resources.get(self._key) is None:
            self._latest = pod
