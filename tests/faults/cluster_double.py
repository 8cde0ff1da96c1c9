"""A Kubernetes API in this process, for virtual time: lists in pages, watches, versions; and every way to fail.

It stands in for the generated client (`list_node(...)` and so on), and answers as that does with
`_preload_content=False`. What goes over the wire is tested with kmock in `test_capacity_wire.py`.
"""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any, Literal

import aiohttp

Json = dict[str, Any]

_KINDS = {
    "list_node": "nodes",
    "list_pod_for_all_namespaces": "pods",
    "list_device_class": "classes",
    "list_resource_slice": "slices",
    "list_resource_claim_for_all_namespaces": "claims",
}


class Double:
    """The cluster's objects by kind and name, their history, and who watches."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Json]] = {kind: {} for kind in _KINDS.values()}
        self.version = 1000
        self.oldest = 0
        """Watches from an older version are told 410."""
        self.state: Literal["up", "refused", "hung", "503"] = "up"
        self.serves_dra = True
        self.lists: dict[str, int] = dict.fromkeys(_KINDS.values(), 0)
        self.watches = 0
        self.history: dict[str, list[tuple[int, bytes]]] = {kind: [] for kind in _KINDS.values()}
        self._moved = asyncio.Event()
        self._generation = 0
        self._cut = False

    # --- what happens in the cluster ---------------------------------------------------------------------------

    def put(self, kind: str, item: Json) -> None:
        """Make or change an object."""
        item = copy.deepcopy(item)
        name = _name(item)
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        what = "MODIFIED" if name in self.objects[kind] else "ADDED"
        self.objects[kind][name] = item
        self._tell(kind, what, item)

    def remove(self, kind: str, name: str) -> None:
        """Delete an object."""
        item = self.objects[kind].pop(name, None)
        if item is not None:
            self.version += 1
            item["metadata"]["resourceVersion"] = str(self.version)
            self._tell(kind, "DELETED", item)

    def send(self, kind: str, line: bytes) -> None:
        """Tell the watches this, whatever it is."""
        self.version += 1
        self.history[kind].append((self.version, line + b"\n"))
        self._wake()

    def _tell(self, kind: str, what: str, item: Json) -> None:
        self.send_line(kind, json.dumps({"type": what, "object": item}).encode() + b"\n")

    def send_line(self, kind: str, line: bytes) -> None:
        self.history[kind].append((self.version, line))
        self._wake()

    # --- what happens to the connections -------------------------------------------------------------------------

    def drop(self, *, cut: bool = False) -> None:
        """End all watches: in good order, or `cut` in the middle."""
        self._generation += 1
        self._cut = cut
        self._wake()

    def forget(self) -> None:
        """Forget all versions, as after a compaction."""
        self.version += 1
        self.oldest = self.version

    def become(self, state: Literal["up", "refused", "hung", "503"]) -> None:
        """Be reachable, or not: whatever is open hangs or breaks."""
        self.state = state
        if state in ("refused", "503"):
            self.drop(cut=True)

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    # --- the client ------------------------------------------------------------------------------------------------

    def __getattr__(self, method: str) -> Any:
        if method not in _KINDS:
            raise AttributeError(method)

        async def call(**parameters: Any) -> Response:
            return await self._answer(_KINDS[method], parameters)

        return call

    async def get_api_resources(self, **_: Any) -> Response:
        """Answer what resource.k8s.io/v1 has."""
        await self._reach(aiohttp.ClientTimeout(total=10))
        return Response(200 if self.serves_dra else 404, b"{}")

    async def _reach(self, limits: aiohttp.ClientTimeout) -> None:
        if self.state == "refused":
            raise aiohttp.ClientConnectionError("connection refused")
        if self.state == "hung":
            await asyncio.sleep(limits.sock_connect or limits.total or 0)
            raise TimeoutError

    async def _answer(self, kind: str, asked: Json) -> Response:
        limits: aiohttp.ClientTimeout = asked["_request_timeout"]
        await self._reach(limits)
        if self.state == "503":
            return Response(503, b'{"message": "apiserver is shutting down"}')
        if asked.get("watch") == "true":
            self.watches += 1
            return Response(200, b"", self._stream(kind, asked, limits))
        start = int(asked.get("_continue") or 0)
        if not start:
            self.lists[kind] += 1
        items = list(self.objects[kind].values())
        page: Json = {
            "metadata": {"resourceVersion": str(self.version)},
            "items": items[start : start + asked["limit"]],
        }
        if start + asked["limit"] < len(items):
            page["metadata"]["continue"] = str(start + asked["limit"])
        return Response(200, json.dumps(page).encode())

    async def _stream(self, kind: str, asked: Json, limits: aiohttp.ClientTimeout) -> AsyncIterator[bytes]:
        seen, generation = int(asked["resource_version"]), self._generation
        now = asyncio.get_running_loop().time
        until = now() + asked["timeout_seconds"]
        heard = now()
        if seen < self.oldest:
            yield b'{"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}\n'
            return
        while True:
            if self.state == "hung":
                await asyncio.sleep(heard + (limits.sock_read or 0) - now())
                raise aiohttp.SocketTimeoutError("nothing was read")
            if generation != self._generation:
                if self._cut:
                    raise aiohttp.ClientPayloadError("response payload is not completed")
                return
            news = [(version, line) for version, line in self.history[kind] if version > seen]
            if news:
                seen, heard = news[-1][0], now()
                for piece in _pieces(b"".join(line for _, line in news)):
                    yield piece
                continue
            if now() >= until:
                return
            try:
                async with asyncio.timeout(until - now()):
                    await self._moved.wait()
            except TimeoutError:
                continue


class Response:
    """What the client returns unread."""

    def __init__(self, status: int, body: bytes, stream: AsyncIterator[bytes] | None = None) -> None:
        self.status = status
        self.ok = status < 400
        self._body = body
        self._stream = stream

    @property
    def content(self) -> Response:
        return self

    def iter_any(self) -> AsyncIterator[bytes]:
        assert self._stream is not None
        return self._stream

    async def read(self) -> bytes:
        return self._body

    async def text(self) -> str:
        return self._body.decode()

    def release(self) -> None:
        pass

    async def __aenter__(self) -> Response:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def _pieces(data: bytes) -> list[bytes]:
    """Cut anywhere, as a network does."""
    cuts = sorted({0, len(data), *(random.randrange(len(data)) for _ in range(2))})
    return [data[start:end] for start, end in pairwise(cuts)]


def _name(item: Json) -> str:
    namespace = item["metadata"].get("namespace")
    return f"{namespace}/{item['metadata']['name']}" if namespace else str(item["metadata"]["name"])
