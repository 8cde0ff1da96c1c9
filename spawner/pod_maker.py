"""Make one pod exactly once, however slow or forgetful the API server is; and end one for sure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spawner.api_refusals import explain
from spawner.kube_api import ApiFailure, KubeApi
from spawner.pod import SPAWN_ID, Pod
from spawner.pod_watch import PodWatch
from spawner.refusal import StartFailed

__all__ = ["NotGone", "Owner", "PodMaker", "late_pod_removed"]

_USER = "hub.jupyter.org/username"
_SERVER = "hub.jupyter.org/servername"
_TRIES = 3
_MAYBE_DONE = frozenset({0, 500, 502, 503, 504})
_RECHECK_S = 2.0
_LATE_LOOKS_S = (5.0, 20.0, 60.0)


class NotGone(Exception):
    """A pod that was deleted is still there when the time is up."""


@dataclass(frozen=True)
class Owner:
    """Whose server a pod runs: user and server name as JupyterHub writes them, kept by KubeSpawner in annotations."""

    user: str
    server: str

    def owns(self, pod: dict[str, Any]) -> bool:
        """Return whether this pod runs the server in question."""
        annotations = pod["metadata"].get("annotations") or {}
        return annotations.get(_USER) == self.user and (annotations.get(_SERVER) or "") == self.server


class PodMaker:
    """Makes and ends the pods of one server.

    Parameters
    ----------
    watch
        Makes a PodWatch for a pod.
    stop_timeout_s
        How long an ended pod may take to go away.
    """

    def __init__(
        self,
        api: KubeApi,
        owner: Owner,
        *,
        watch: Callable[[dict[str, Any]], PodWatch],
        stop_timeout_s: float,
        log: logging.Logger,
    ) -> None:
        self._api = api
        self._owner = owner
        self._watch = watch
        self._stop_timeout_s = stop_timeout_s
        self._log = log
        self.in_flight: asyncio.Task[dict[str, Any]] | None = None
        """The request that is under way, if one is; it goes on when start() is cancelled, so stop() sees its end."""
        self.doubtful = False
        """A request was given up without an answer: the pod may appear later."""

    async def make(self, namespace: str, pod: Pod, say: Callable[[str], None]) -> dict[str, Any]:
        """Return the pod as the API server has stored it.

        A request whose answer came too late has made the pod all the same, so that the next try is told
        "AlreadyExists". KubeSpawner then kills its own pod and starts over; here the spawn id in the annotations
        tells whether the pod is ours. Left-over pods of an earlier start are ended first; pods of anybody else
        are never touched.

        Raises
        ------
        Refusal
            With the cause in plain words.
        """
        name, spawn_id = pod.metadata.name, pod.metadata.annotations[SPAWN_ID]

        async def attempt() -> dict[str, Any]:
            for _ in range(_TRIES):
                try:
                    return await self._post(namespace, pod)
                except ApiFailure as failure:
                    self.doubtful = self.doubtful or failure.status in _MAYBE_DONE
                    if failure.status != 409 or failure.reason != "AlreadyExists":
                        raise
                found = await self._api.read_pod(namespace, name)
                if found is None:
                    continue  # it went away between the two requests
                if (found["metadata"].get("annotations") or {}).get(SPAWN_ID) == spawn_id:
                    self._log.info("Pod %s/%s was made by an earlier try of this start", namespace, name)
                    return found
                await self._make_way(found, say)
            raise ApiFailure(409, "Conflict", f"pod {name} comes back as often as it is removed")

        try:
            made = await self._api.patiently(attempt, f"Making pod {namespace}/{name}")
        except ApiFailure as failure:
            raise explain(failure, "your server") from failure
        self.doubtful = False
        return made

    async def _post(self, namespace: str, pod: Pod) -> dict[str, Any]:
        self.in_flight = asyncio.ensure_future(self._api.create_pod(namespace, pod))
        self.in_flight.add_done_callback(self._answered)
        return await asyncio.shield(self.in_flight)

    def _answered(self, task: asyncio.Task[dict[str, Any]]) -> None:
        if self.in_flight is task:
            self.in_flight = None  # with its answer, the whole pod, which would stay as long as the server
        if not task.cancelled():
            task.exception()  # nobody may be left to hear of its failure; unheard exceptions are logged as bugs

    async def _make_way(self, found: dict[str, Any], say: Callable[[str], None]) -> None:
        name = found["metadata"]["name"]
        if not self._owner.owns(found):
            text = (
                "Another server in the cluster has the name that yours would have. "
                "Tell your administrators; the hub's log names it."
            )
            raise StartFailed(
                "name-taken", text, log=f"pod {name} is in the way and is not {self._owner}'s", status=409
            )
        self._log.warning("Ending pod %s, left over from an earlier start of the same server", name)
        say("Removing what is left of your last session")
        try:
            await self.end(found, grace_s=1)
        except NotGone as error:
            node = (found.get("spec") or {}).get("nodeName") or "unknown"
            text = (
                "Your last session cannot be removed: the node that it ran on does not answer. "
                "Tell your administrators, or start a server of another name meanwhile."
            )
            raise StartFailed("leftover", text, log=f"{error} (node {node})", status=409) from error

    async def end(self, pod: dict[str, Any], *, grace_s: int) -> None:
        """Delete exactly this pod and return when it is gone.

        Raises
        ------
        NotGone
            It is still there after the time that a stop may take.
        ApiFailure
            The API server did not take the request.
        """
        metadata = pod["metadata"]
        watch = self._watch(pod)
        await self._api.delete_pod(metadata["namespace"], metadata["name"], metadata["uid"], grace_s)
        try:
            async with asyncio.timeout(self._stop_timeout_s):
                await watch.until(lambda view: True if view.pod is None else None, recheck_s=_RECHECK_S)
        except TimeoutError:
            raise NotGone(
                f"pod {metadata['name']} is still there {self._stop_timeout_s:g} s after its deletion"
            ) from None

    async def settled(self) -> None:
        """Wait until no request to make a pod is under way; bounded by the time that one request may take."""
        if self.in_flight is not None and not self.in_flight.done():
            await asyncio.wait([self.in_flight])


async def late_pod_removed(api: KubeApi, namespace: str, name: str, spawn_id: str, *, grace_s: int) -> bool:
    """Delete a pod that appears after its start was given up, because the API server stored it that late.

    Looks three times within a minute and a half; returns whether one was found.
    """
    for pause in _LATE_LOOKS_S:
        await asyncio.sleep(pause)
        try:
            pod = await api.read_pod(namespace, name)
            if pod is not None and (pod["metadata"].get("annotations") or {}).get(SPAWN_ID) == spawn_id:
                await api.delete_pod(namespace, name, pod["metadata"]["uid"], grace_s)
                return True
        except ApiFailure:
            continue
    return False
