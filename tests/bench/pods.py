"""Watches the pods of one namespace and notes what happens to them, with the time on this machine's clock."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kubernetes_asyncio import client, config

from tests.bench.stages import Marks

__all__ = ["Watcher", "watching"]

_EVERY_S = 0.02
# How often a server that does not answer yet is asked: the error of that moment, at most.

_SEEN_HERE = frozenset({"pod_created", "scheduled", "container_started", "server_answers"})

_WATCH_S = 4 * 3600
# A run lasts half an hour.

_CONNECT_S = 1.0
_ANSWER_S = 30.0


class Watcher:
    """What is known of the namespace's pods. `marks` is filled in for the pods of the present start."""

    def __init__(self) -> None:
        self.marks: Marks | None = None
        self.path = "/"
        self._pods: set[str] = set()
        self._none_left = asyncio.Event()
        self._none_left.set()
        self._probe: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None

    def follow(self, marks: Marks, path: str) -> None:
        """Note from now on in `marks`; the server is asked for `path`."""
        self.marks, self.path = marks, path

    async def until_no_pod_is_left(self) -> None:
        """Return when the namespace has no pod."""
        await self._none_left.wait()

    async def until_complete(self) -> None:
        """Return when everything is noted that Kubernetes may still have to say after the page is there.

        Raises
        ------
        RuntimeError
            The watch has ended, so that nothing can be noted any more.
        """
        while self.marks is not None and not self.marks.at.keys() >= _SEEN_HERE:
            if self.failure is not None:
                raise RuntimeError("the watch of pods has ended") from self.failure
            await asyncio.sleep(_EVERY_S)

    def see(self, event: dict[str, Any]) -> None:
        """Take in one event of the watch."""
        pod = event["object"]
        name = pod["metadata"]["name"]
        if event["type"] == "DELETED":
            self._pods.discard(name)
            self._end_probe()
            if not self._pods:
                self._none_left.set()
            return
        self._pods.add(name)
        self._none_left.clear()
        if self.marks is not None and "deletionTimestamp" not in pod["metadata"]:
            self._note(self.marks, pod)

    def _note(self, marks: Marks, pod: dict[str, Any]) -> None:
        status = pod.get("status", {})
        marks.note("pod_created")
        if pod["spec"].get("nodeName"):
            marks.note("scheduled")
        if any("running" in container["state"] for container in status.get("containerStatuses", [])):
            marks.note("container_started")
        if status.get("podIP") and self._probe is None:
            port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
            self._probe = asyncio.create_task(_until_answers(status["podIP"], port, self.path, marks))

    def _end_probe(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None


async def _until_answers(address: str, port: int, path: str, marks: Marks) -> None:
    """Note when the server sends the first byte of an answer.

    Connecting costs the server nothing before it listens, and it is asked once only, so that asking does not slow
    down what is measured.
    """
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CONNECT_S):
                reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                async with asyncio.timeout(_ANSWER_S):
                    if await reader.read(1):
                        marks.note("server_answers")
                        return
            finally:
                writer.close()
        await asyncio.sleep(_EVERY_S)


@contextlib.asynccontextmanager
async def watching(kubeconfig: Path, namespace: str) -> AsyncIterator[Watcher]:
    """Watch the namespace while the block runs."""
    configuration = client.Configuration()
    await config.load_kube_config(str(kubeconfig), client_configuration=configuration)
    watcher = Watcher()
    async with client.ApiClient(configuration) as connection:
        api = client.CoreV1Api(connection)
        # From version 0: the namespace is new, and the API server need not ask its store for the newest version,
        # which it cannot with Debian's etcd 3.4 ("Too large resource version").
        answer = await api.list_namespaced_pod(
            namespace,
            watch=True,
            resource_version="0",
            timeout_seconds=_WATCH_S,
            _preload_content=False,
            _request_timeout=_WATCH_S,
        )
        task = asyncio.create_task(_read(answer, watcher))
        try:
            yield watcher
        finally:
            task.cancel()
            watcher._end_probe()
            answer.close()


async def _read(answer: Any, watcher: Watcher) -> None:
    try:
        async for line in answer.content:
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise RuntimeError(event["object"].get("message"))
            watcher.see(event)
        watcher.failure = RuntimeError("the API server closed it")
    except Exception as failure:  # noqa: BLE001  # told to whoever waits for what is not noted any more
        watcher.failure = failure
