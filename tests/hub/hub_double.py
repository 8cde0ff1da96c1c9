"""A strict double of what JupyterHub 6.1 does with servers: refuses what the real one refuses, in its words.

Starts end when the test says so (`finish`), unless `instant` is set; `on_start` is told of each start that begins, as
the real hub's spawner is. Faults: `away` (no answer), `answers` (given instead of doing anything, one each), `deaf`
(does what is asked, and does not say so).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from hub.web.place import COMES_BACK

__all__ = ["HubDouble", "Server"]

TOKEN = "0123456789abcdef0123456789abcdef"

Refused = tuple[int, str, str]
"""Status, code, text: what a spawner's refusal becomes."""


@dataclass
class Server:
    """One server: `state` is stopped, spawn, stop or ready."""

    state: str = "stopped"
    options: dict[str, Any] = field(default_factory=dict)
    failed: Refused | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def become(self, state: str) -> None:
        """Let all that wait hear of it."""
        self.state = state
        self.changed.set()
        self.changed = asyncio.Event()


class HubDouble:
    """The hub. `users` may log in; of those in `lapsed` the login has ended."""

    def __init__(self) -> None:
        self.users: set[str] = set()
        self.lapsed: set[str] = set()
        self.servers: dict[tuple[str, str], Server] = {}
        self.limit = 100
        self.slow_start_s = 0.05
        self.instant = True
        self.away = False
        self.deaf = 0
        self.answers: list[tuple[int, dict[str, str], str]] = []
        self.starts: list[tuple[str, str, dict[str, Any]]] = []
        self.stops: list[tuple[str, str]] = []
        self.on_start: Callable[[str, str, Mapping[str, Any]], Awaitable[Refused | None]] | None = None
        self.on_stop: Callable[[str, str], Awaitable[None]] | None = None
        self._runner: web.AppRunner | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.api_url = ""

    async def open(self) -> None:
        """Listen on a port of its own."""
        app = web.Application(middlewares=[self._guard])
        for path in ("/hub/api/users/{user}/server", "/hub/api/users/{user}/servers/{server}"):
            app.router.add_get(path, self._get)
            app.router.add_post(path, self._post)
            app.router.add_delete(path, self._delete)
            app.router.add_get(f"{path}/progress", self._progress)
        app.router.add_get("/hub/api/users/{user}", self._user)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.api_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hub/api"

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    def server(self, user: str, server: str = "") -> Server:
        return self.servers.setdefault((user, server), Server())

    def finish(self, user: str, server: str = "", failed: Refused | None = None) -> None:
        """Let a pending start end."""
        found = self.server(user, server)
        assert found.state == "spawn", found.state
        found.failed = failed
        found.become("stopped" if failed else "ready")

    def restart(self) -> None:
        """As a hub that was killed: it knows nothing of starts that were pending."""
        for found in self.servers.values():
            if found.state == "spawn":
                found.become("stopped")

    # --- paths ---------------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.away:
            assert request.transport is not None
            request.transport.abort()
            raise web.HTTPServiceUnavailable
        if request.headers.get("Authorization") != f"token {TOKEN}":
            return _error(403, "Missing or invalid credentials.")
        if self.answers and request.method == "POST":
            status, headers, text = self.answers.pop(0)
            return _error(status, text, headers)
        answer: web.StreamResponse = await handler(request)
        if self.deaf and request.method == "POST":
            self.deaf -= 1
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def _user(self, request: web.Request) -> web.Response:
        user = request.match_info["user"]
        if user not in self.users:
            return _error(404, "Not Found")
        stopped = "include_stopped_servers" in request.query
        servers = {
            name: {"name": name, "ready": found.state == "ready"}
            for (owner, name), found in self.servers.items()
            if owner == user and (stopped or found.state != "stopped")
        }
        return web.json_response({"name": user, "kind": "user", "servers": servers})

    async def _get(self, request: web.Request) -> web.Response:
        user, server = _names(request)
        if user not in self.users or (user, server) not in self.servers:
            return _error(404, "Not Found")
        found = self.servers[user, server]
        pending = found.state if found.state in ("spawn", "stop") else None
        return web.json_response({"name": server, "pending": pending, "ready": found.state == "ready"})

    async def _post(self, request: web.Request) -> web.Response:
        user, server = _names(request)
        if user not in self.users:
            return _error(404, "Not Found")
        body = await request.json() if request.can_read_body else {}
        if not isinstance(body, dict):
            return _error(400, "Body must be a JSON object")
        if "user_options" not in body:
            body = {"user_options": body}  # as the real one: the body itself is taken for the options
        if not isinstance(body["user_options"], dict | None):
            return _error(400, "user_options must be an object or null")
        found = self.server(user, server)
        name = f"{user}:{server}"
        if found.state == "spawn":
            return web.Response(status=202)  # whatever options came with it
        if found.state == "stop":
            return _error(400, f"{name} is pending stop")
        if found.state == "ready":
            return _error(400, f"{name} is already running")
        if user in self.lapsed and COMES_BACK not in request.headers:
            return _error(403, f"auth has expired for {user}, login again")
        if sum(one.state == "spawn" for one in self.servers.values()) >= self.limit:
            text = "Too many users trying to log in right now. Try again in 30 seconds."
            return _error(429, text, {"Retry-After": "30"})
        answer = await self._spawn(user, server, found, body["user_options"] or {})
        if found.state in ("stop", "stopped") and found.failed is None:
            return _error(500, "Internal Server Error")  # the start was cancelled: nobody catches that
        return answer

    async def _spawn(self, user: str, server: str, found: Server, options: dict[str, Any]) -> web.Response:
        self.starts.append((user, server, options))
        found.options, found.failed = options, None
        found.become("spawn")
        task = asyncio.ensure_future(self._start(user, server, found))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        changed = found.changed
        if found.state == "spawn":
            try:
                async with asyncio.timeout(self.slow_start_s if not self.instant else 5):
                    await changed.wait()
            except TimeoutError:
                return web.Response(status=202)
        return _created(found.failed)

    async def _start(self, user: str, server: str, found: Server) -> None:
        refused = await self.on_start(user, server, found.options) if self.on_start is not None else None
        if found.state == "spawn" and (refused is not None or self.instant):
            found.failed = refused
            found.become("stopped" if refused else "ready")

    async def _delete(self, request: web.Request) -> web.Response:
        user, server = _names(request)
        if user not in self.users:
            return _error(404, "Not Found")
        if server and (user, server) not in self.servers:
            return _error(404, f"{user} has no server named '{server}'")
        found = self.server(user, server)
        self.stops.append((user, server))
        if found.state in ("ready", "spawn"):
            found.become("stop")
            if self.on_stop is not None:
                await self.on_stop(user, server)
            found.become("stopped")
        return web.Response(status=204)

    async def _progress(self, request: web.Request) -> web.StreamResponse:
        user, server = _names(request)
        found = self.servers.get((user, server))
        if user not in self.users or found is None:
            return _error(404, "Not Found")
        if found.state not in ("spawn", "ready") and found.failed is None:
            return _error(400, f"{user}:{server} is not starting...")
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"\n\n")
        while found.state == "spawn":
            await answer.write(b'data: {"progress": 10, "message": "Preparing"}\n\n')
            await found.changed.wait()
        last: dict[str, Any] = {"progress": 100}
        if found.state == "ready":
            last |= {"ready": True, "message": "Server ready"}
        else:
            last |= {
                "failed": True,
                "message": f"Spawn failed: {found.failed[2]}" if found.failed else "Spawn cancelled",
            }
        await answer.write(f"data: {json.dumps(last)}\n\n".encode())
        return answer


def _names(request: web.Request) -> tuple[str, str]:
    return request.match_info["user"], request.match_info.get("server", "")


def _created(failed: Refused | None) -> web.Response:
    if failed is None:
        return web.Response(status=201)
    status, code, text = failed
    return _error(status, text, {"Armillary-Refusal": code} if code else {})


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"status": status, "message": message}, status=status, headers=dict(headers or {}))
