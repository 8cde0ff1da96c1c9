"""Live copies of pods and events that wake those who wait, and never give up.

KubeSpawner's reflectors list everything again every ten seconds, parse it in one go on the hub's event loop, are
looked at by polling, and end for good after nine failures, leaving a frozen copy behind (kubernetes API concepts:
"Efficient detection of changes"; kubespawner#423, #829). These list once, in pages, then resume their watch
by resource version, list again only when the server has forgotten that version (410), and set an asyncio.Event
of whoever subscribed to the object that changed.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import aiohttp
from kubespawner.reflector import ResourceReflector
from kubespawner.spawner import EventReflector, PodReflector
from traitlets import Int

from spawner.diagnosis import why_gone
from spawner.metrics import REFLECTOR_FAILURES, REFLECTOR_LISTS
from spawner.reason import Reason
from spawner.wire import Change, Event, Pod, read_change, read_page

__all__ = ["LiveEvents", "LivePods", "LiveReflector"]

_FIRST_PAUSE_S = 0.1
_FRESH_START_AFTER = 3  # refusals in a row with the same version, after which the version is suspected
_LONG_ENOUGH_S = 5.0  # a watch that was open for so long was a success, even a silent one
_BURST = 50  # objects handled before other tasks get a turn
_REMEMBERED = 10_000  # reasons of pods that are gone, some 400 bytes each; each is asked for within a poll or two

Item = dict[str, Any]


class _Expired(Exception):
    """The server no longer knows the resource version (410)."""


class _Failed(Exception):
    """The server answered with an error."""


class LiveReflector(ResourceReflector):  # type: ignore[misc]  # KubeSpawner is untyped
    """A copy of one kind of object in one namespace (or in all), kept by one task that always tries again."""

    timeout_seconds = Int(
        300,
        config=True,
        help="""
        For how many seconds the API server keeps one watch open; then it is resumed where it ended.

        Default: 300. KubeSpawner's 10 exists because it lists everything after each watch; we do not.
        """,
    )
    idle_timeout = Int(
        90,
        config=True,
        help="""
        After how many seconds of silence a watch is taken for dead and begun again.

        Default: 90, because the API server sends a bookmark each minute. A connection that a firewall has
        forgotten is found by this.
        """,
    )
    stale_after = Int(
        120,
        config=True,
        help="""
        After how many seconds without contact the copy is no longer trusted to say that a pod is gone.

        Default: 120, a little over `idle_timeout`.
        """,
    )
    page_size = Int(
        100,
        config=True,
        help="""
        How many objects are read at once.

        Default: 100, about a megabyte of pods, which takes the hub's event loop a millisecond or two to read.
        """,
    )

    shape: ClassVar[Any] = Any
    """What is read of each object, a TypedDict of `wire`; by default everything."""

    longest_pause_s = 15.0
    """The longest pause between attempts while the API server does not answer."""

    connect_s = 10.0
    """How long a connection may take to be made."""

    answer_s = 60.0
    """How long the API server may take to begin a watch."""

    watch_task: asyncio.Task[None] | None
    _stopping: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._signals: dict[str, set[asyncio.Event]] = {}
        self._version: str | None = None
        self._last_contact: float | None = None
        self._changes = 0
        self._opened = math.inf
        self.connected = False

    # --- for those who look ----------------------------------------------------------------------------------

    @property
    def fresh(self) -> bool:
        """Whether the copy was in step with the server within `stale_after` seconds."""
        if self._last_contact is None:
            return False
        return self._now() - self._last_contact < self.stale_after

    async def loaded(self, within_s: float) -> bool:
        """Return whether the first list is there, waiting for it for at most this many seconds."""
        self.ensure_running()
        if not self.first_load_future.done():
            await asyncio.wait([self.first_load_future], timeout=within_s)
        return bool(self.first_load_future.done())

    @contextmanager
    def subscribed(self, key: str, signal: asyncio.Event) -> Iterator[None]:
        """Set `signal` whenever the object "namespace/name" may have changed."""
        self._signals.setdefault(key, set()).add(signal)
        try:
            yield
        finally:
            waiting = self._signals[key]
            waiting.discard(signal)
            if not waiting:
                del self._signals[key]

    # --- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin; does not wait for the first list, which may take as long as the API server is down."""
        self.ensure_running()

    def ensure_running(self) -> None:
        """Begin, or begin again if the task has died for whatever reason."""
        if self.watch_task is not None and self.watch_task.done():
            self.log.error("The reflector of %s had died; it is started again", self.kind)
            REFLECTOR_FAILURES.labels(self.kind).inc()
            self.watch_task = None
            self._version = None
        if self.watch_task is None and not self._stopping:
            self.watch_task = asyncio.create_task(self._keep_up())

    async def restart(self) -> None:
        """Begin again with a full list, on new connections."""
        await self.stop()
        self._stopping = False
        self._version = None
        self.ensure_running()

    async def stop(self) -> None:
        """End the task."""
        self._stopping = True
        if self.watch_task is not None:
            self.watch_task.cancel()
            await asyncio.wait([self.watch_task])
            self.watch_task = None

    async def _keep_up(self) -> None:
        failures = refusals = 0
        while True:
            self._changes = 0
            self._opened = math.inf
            try:
                if self._version is None:
                    await self._list()
                await self._watch()
                self._problem("")
            except _Expired:
                self.log.info("The API server has forgotten our version of %s; listing again", self.kind)
                self._version = None
            except (aiohttp.ClientError, TimeoutError, OSError, _Failed) as error:
                self._report(error, failures)
                self._problem(f"{type(error).__name__}: {error}")
                refusals += isinstance(error, _Failed)
            except Exception as error:
                # A bug must not end what every server's life depends on; it is logged in full and tried again.
                self.log.exception("Unexpected error while watching %s", self.kind)
                self._problem(f"{type(error).__name__}: {error}")
                self._version = None
            finally:
                self.connected = False
            if self._changes or self._now() - self._opened > _LONG_ENOUGH_S:
                failures = refusals = 0
                continue  # the watch was good for something; resume it at once
            failures += 1
            REFLECTOR_FAILURES.labels(self.kind).inc()
            if refusals >= _FRESH_START_AFTER:
                # A connection that breaks says nothing about the version; an answer that is no watch may.
                refusals, self._version = 0, None
            pause = min(self.longest_pause_s, _FIRST_PAUSE_S * 2 ** min(failures, 10))
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311  # spreads load, no secret

    def _report(self, error: Exception, failures: int) -> None:
        level = self.log.debug if failures == 0 and not isinstance(error, _Failed) else self.log.warning
        where = "all namespaces" if self.omit_namespace else f"namespace {self.namespace}"
        level("Watching %s in %s failed: %s: %s", self.kind, where, type(error).__name__, error)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # --- the protocol ----------------------------------------------------------------------------------------

    async def _request(self, limits: aiohttp.ClientTimeout, **parameters: Any) -> aiohttp.ClientResponse:
        if not self.omit_namespace:
            parameters["namespace"] = self.namespace
        response: aiohttp.ClientResponse = await getattr(self.api, self.list_method_name)(
            label_selector=self.label_selector,
            field_selector=self.field_selector,
            _preload_content=False,
            _request_timeout=limits,
            **parameters,
        )
        if response.ok:
            return response
        text = _message(await response.text())
        response.release()
        if response.status == 410:
            raise _Expired
        raise _Failed(f"{response.status}: {text}")

    async def _list(self) -> None:
        """Read everything, page by page, and put it in the place of the old copy at once."""
        REFLECTOR_LISTS.labels(self.kind).inc()
        found: dict[str, Item] = {}
        parameters: dict[str, Any] = {"limit": self.page_size}
        limits = aiohttp.ClientTimeout(total=self.request_timeout, sock_connect=self.connect_s)
        while True:
            response = await self._request(limits, **parameters)
            async with response:
                page = read_page(await response.read(), self.shape)
            for item in page.items or ():
                if (read := self._read(item)) is not None:
                    found[read[0]] = read[1]
            if not page.metadata.continue_:
                break
            parameters = {"limit": self.page_size, "_continue": page.metadata.continue_}
            await asyncio.sleep(0)
        self._replace(found)
        self._version = page.metadata.resource_version
        self._last_contact = self._now()
        if not self.first_load_future.done():
            self.first_load_future.set_result(None)
        for signals in self._signals.values():
            for signal in signals:
                signal.set()

    async def _watch(self) -> None:
        """Follow changes from the last known version on, until the server ends the watch."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self.connect_s, sock_read=self.idle_timeout)
        async with asyncio.timeout(self.answer_s):
            response = await self._request(
                limits,
                watch="true",  # as kubectl writes it; the library would write "True"
                allow_watch_bookmarks="true",
                resource_version=self._version,
                timeout_seconds=self.timeout_seconds,
            )
        async with response:
            self.connected = True
            self._last_contact = self._opened = self._now()
            self._watching()
            async for line in _lines(response.content):
                self._take(read_change(line, self.shape))
                if self._changes % _BURST == 0:
                    await asyncio.sleep(0)

    def _take(self, change: Change[Any]) -> None:
        kind, item = change.type, change.object
        if kind == "ERROR":
            if item.get("code") == 410:
                raise _Expired
            raise _Failed(f"{item.get('code')}: {item.get('message')}")
        self._last_contact = self._now()
        self._changes += 1
        self._version = item["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return
        if kind == "DELETED":
            self._deleted(item)
        elif (read := self._read(item)) is not None:
            self._keep(*read)
        for signal in self._signals.get(self._about(item), ()):
            signal.set()

    # --- the copy --------------------------------------------------------------------------------------------

    def _read(self, item: Item) -> tuple[str, Any] | None:
        """Return what is kept of an object, and under which key; None: nothing."""
        return _key(item), item

    def _watching(self) -> None:
        """Hear that a watch is open."""

    def _problem(self, text: str) -> None:
        """Hear of the end of a watch: why it failed, or "" if the server ended it in good order."""

    def _about(self, item: Item) -> str:
        return _key(item)

    def _replace(self, found: dict[str, Item]) -> None:
        self.resources = found

    def _deleted(self, item: Item) -> None:
        """Hear that an object is gone: as it was at its end."""
        self._forget(_key(item))

    def _keep(self, key: str, item: Item) -> None:
        self.resources[key] = item

    def _forget(self, key: str) -> None:
        self.resources.pop(key, None)


class LivePods(LiveReflector, PodReflector):  # type: ignore[misc]  # KubeSpawner is untyped
    """The pods of our servers, by "namespace/name"; and of those that are gone, why the cluster ended them.

    A pod whose node is lost, or that makes room for another one, is gone before anybody polls it.
    """

    shape = Pod

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._why_gone: OrderedDict[str, Reason] = OrderedDict()
        super().__init__(*args, **kwargs)

    def why_gone(self, uid: str) -> Reason | None:
        """Return why the pod with this uid had to go; None: somebody deleted it, or its end was not seen."""
        return self._why_gone.get(uid)

    def _deleted(self, item: Item) -> None:
        before = self.resources.get(_key(item))
        reason = (why_gone(before) if before is not None else None) or why_gone(item)
        if reason is not None:
            self._why_gone[item["metadata"]["uid"]] = reason
            if len(self._why_gone) > _REMEMBERED:
                self._why_gone.popitem(last=False)
        super()._deleted(item)


class LiveEvents(LiveReflector, EventReflector):  # type: ignore[misc]  # KubeSpawner is untyped
    """The events about pods, found by pod; upstream sorts all events of the namespace each second per open tab."""

    shape = Event

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._by_pod: dict[str, dict[str, Item]] = {}
        super().__init__(*args, **kwargs)

    def about(self, key: str, uid: str) -> list[Item]:
        """Return the events about the pod "namespace/name" that has this uid, in no order."""
        events = self._by_pod.get(key, {}).values()
        return [event for event in events if event["involvedObject"].get("uid") in (uid, None)]

    def _read(self, item: Item) -> tuple[str, Any] | None:
        item.setdefault("lastTimestamp", None)  # KubeSpawner's `events` reads both without asking
        item.setdefault("eventTime", None)
        return super()._read(item)

    def _about(self, item: Item) -> str:
        about = item["involvedObject"]
        return f"{about.get('namespace') or item['metadata']['namespace']}/{about.get('name')}"

    def _replace(self, found: dict[str, Item]) -> None:
        super()._replace(found)
        self._by_pod = {}
        for key, item in found.items():
            self._by_pod.setdefault(self._about(item), {})[key] = item

    def _keep(self, key: str, item: Item) -> None:
        super()._keep(key, item)
        self._by_pod.setdefault(self._about(item), {})[key] = item

    def _forget(self, key: str) -> None:
        item = self.resources.get(key)
        super()._forget(key)
        if item is None:
            return
        about = self._about(item)
        events = self._by_pod.get(about, {})
        events.pop(key, None)
        if not events:
            self._by_pod.pop(about, None)


def _key(item: Item) -> str:
    """Return "namespace/name", or the name of what is in no namespace."""
    metadata = item["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield lines of any length; aiohttp's own reader gives up at 128 kB, and a pod may have ten times that."""
    begun = bytearray()
    async for piece in content.iter_any():
        *ended, rest = piece.split(b"\n")
        for line in ended:
            begun += line
            if begun:
                yield bytes(begun)
            begun.clear()
        begun += rest  # what is left of it when the connection ends comes again with the next watch


def _message(body: str) -> str:
    """Return the message of a Status, or the beginning of whatever came instead."""
    try:
        return str(json.loads(body)["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return body[:200]
