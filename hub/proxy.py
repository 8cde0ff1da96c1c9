"""The proxy as the hub knows it: traefik with its routes in a file, which many starts at once share.

Routes that are added while the file is written, or while traefik reads it, go into it together with the next write.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from jupyterhub_traefik_proxy.fileprovider import TraefikFileProviderProxy
from jupyterhub_traefik_proxy.traefik_utils import deep_merge
from tornado.httpclient import HTTPError
from traitlets import Integer, default, observe

from hub.routes_file import RoutesFile

__all__ = ["ArmillaryProxy", "RouteNotSeen"]


_MARK = "written-"


class RouteNotSeen(TimeoutError):
    """The proxy did not take a route over in time."""


class ArmillaryProxy(TraefikFileProviderProxy):  # type: ignore[misc]  # upstream is untyped
    """Upstream's `traefik_file`, configured by the same `c.TraefikFileProviderProxy` lines; the file has to be TOML.

    Upstream (jupyterhub-traefik-proxy 2.1) writes all routes for each one and asks for each by itself whether traefik
    has it, ten at a time, with random pauses that grow from 0.2 s, while somebody waits for the server behind it.
    Here each write carries its number, as a middleware that nothing uses. When traefik knows that number it has read
    that file, whole; so one question suffices for everybody, also where a route of the same name was there before.
    """

    concurrency = Integer(10_000, config=True, help="How many routes may be added at once; they share what is written.")

    every_s: ClassVar[float] = 0.02
    """Pause between two looks, in seconds: traefik 3.7 has read its file after a few hundredths of a second."""

    def __init__(self, **given: Any) -> None:
        # Its own thread: those of the loop may all be waiting for a database.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="armillary-routes")
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None
        self._taken: asyncio.Task[bool] | None = None
        self._born, self._writes = time.time_ns(), 0
        super().__init__(**given)

    @default("dynamic_config_handler")
    def _default_handler(self) -> RoutesFile:
        return RoutesFile(Path(self.dynamic_config_file).absolute())

    @default("dynamic_config")
    def _load_dynamic_config(self) -> dict[str, Any]:
        found: dict[str, Any] = super()._load_dynamic_config()
        middlewares = found["http"].get("middlewares", {})
        for mark in [name for name in middlewares if name.startswith(_MARK)]:
            del middlewares[mark]
        return found

    @observe("dynamic_config_file")
    def _set_dynamic_config_file(self, change: Any) -> None:
        self.dynamic_config_handler = self._default_handler()

    async def _apply_dynamic_config(
        self, traefik_config: Mapping[str, Any], jupyterhub_config: Mapping[str, Any] | None = None
    ) -> None:
        changed = dict(traefik_config)
        if jupyterhub_config is not None:
            changed["jupyterhub"] = jupyterhub_config
        deep_merge(self.dynamic_config, changed)
        self.dynamic_config_handler.forget(changed)
        await self._written()

    async def _delete_dynamic_config(
        self, traefik_keys: Iterable[Sequence[str]], jupyterhub_keys: Iterable[Sequence[str]]
    ) -> None:
        for table, section, name in chain(traefik_keys, (("jupyterhub", *keys) for keys in jupyterhub_keys)):
            if self.dynamic_config.get(table, {}).get(section, {}).pop(name, None) is None:
                self.log.warning("There is no %s.%s.%s to delete from the proxy's routes", table, section, name)
            self.dynamic_config_handler.forget({table: {section: {name: None}}})
        await self._written()

    async def _written(self) -> None:
        """Return when the file says what the configuration now says.

        Raises
        ------
        OSError
            It cannot be written.
        """
        if self._next is None:
            self._next = asyncio.ensure_future(self._write())
        # Others share it: one of them that is cancelled must not take it from them.
        await asyncio.shield(self._next)

    async def _write(self) -> None:
        async with self._turn:
            if self._taken is not None:
                await self._taken  # traefik reads one file at a time
            self._next = None  # whoever changes something from here on needs another write
            self._writes += 1
            mark = f"{_MARK}{self._born}-{self._writes}"
            file: RoutesFile = self.dynamic_config_handler
            text = file.text(self._marked(mark))
            file.forget({"http": {"middlewares": {mark: None}}})
            await asyncio.get_running_loop().run_in_executor(self._writer, file.write, text)
            self._taken = asyncio.ensure_future(self._is_taken(mark))

    def _marked(self, mark: str) -> dict[str, Any]:
        config: dict[str, Any] = self.dynamic_config
        http = config.get("http", {})
        middlewares = {**http.get("middlewares", {}), mark: {"addPrefix": {"prefix": f"/{mark}"}}}
        return {**config, "http": {**http, "middlewares": middlewares}}

    async def _is_taken(self, mark: str) -> bool:
        """Wait until traefik has read this write; False: it has not in `check_route_timeout` seconds."""
        began = time.monotonic()
        while not await self._knows(mark):
            waited = time.monotonic() - began
            if waited > self.check_route_timeout:
                self.log.warning("The proxy has not read its routes in %.0f s; see its log", waited)
                return False
            await asyncio.sleep(max(self.every_s, min(0.25, waited / 20)))
        return True

    async def _knows(self, mark: str) -> bool:
        try:
            await self._traefik_api_request(f"/api/http/middlewares/{mark}@{self.provider_name}")
        except (HTTPError, OSError) as error:
            if isinstance(error, HTTPError) and error.code not in (404, 599):
                self.log.warning("The proxy does not say whether it has read its routes: %s", error)
            return False
        return True

    async def _wait_for_route(self, routespec: str) -> None:
        """Return when traefik has the route, which is written.

        Raises
        ------
        RouteNotSeen
            It has not after `check_route_timeout` seconds.
        """
        if self._taken is None or not await asyncio.shield(self._taken):
            text = f"The proxy has no route for {routespec} after {self.check_route_timeout} s; see its log."
            raise RouteNotSeen(text)
