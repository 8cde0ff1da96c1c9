"""The service for tests: the real app on a real server, with a hub and a desk that tests can make misbehave."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import uvicorn
from sqlalchemy import Engine as Database

from hub.admission.hub_api import HubServers
from hub.db.engine import connect
from hub.db.upgrade import upgrade
from hub.web.app import ServiceParts, create_app
from hub.web.hub_access import HubAccess
from hub.web.place import Place
from profiles.access import Person
from profiles.loader import loads
from profiles.model import Catalogue
from spawner.capacity.availability import Availability
from spawner.capacity.model import Count, Fit, Snapshot
from spawner.reservation import Reservation
from tests.hub.site import free_ports, wait_for

SECRET = "5e1f" * 8
PREFIX = "/services/armillary"
ACCESS = "access:services!service=armillary"
AT = datetime(2026, 11, 21, 15, 0, 7, tzinfo=UTC)
CATALOGUE = """\
images:
  lab: {title: Lab, local: {}}
accelerators:
  t4: {title: T4, simulated: {count: 2}}
  u55c: {title: U55c, simulated: {count: 1}, access: {groups: [fpga-users]}}
  unused: {title: In no profile, simulated: {count: 1}}
profiles:
  lab: {title: Lab, options: {image: [lab], accelerator: [none, t4, u55c]}}
"""


def catalogue() -> Catalogue:
    return loads(CATALOGUE)


class FakeHub:
    """Answers what the service asks of a hub; everything public may be changed by a test."""

    def __init__(self) -> None:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self, "")

            def do_POST(self) -> None:
                hub.answer(self, self.rfile.read(int(self.headers["Content-Length"])).decode())

            def log_message(self, *args: Any) -> None:
                """Keep the test's output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.api_url = f"http://127.0.0.1:{self.server.server_port}/hub/api"
        self.tokens: dict[str, dict[str, Any]] = {}
        self.codes: dict[str, str] = {}
        self.forms: list[dict[str, str]] = []
        self.requests: list[str] = []
        self.fault: tuple[int, bytes] | None = None
        self.broken: set[str] = set()
        """Tokens about which it fails."""
        self.released = threading.Event()
        self.released.set()

    def person(self, token: str, name: str, *groups: str, scopes: tuple[str, ...] = (ACCESS,), **more: Any) -> str:
        """Give somebody a token."""
        self.tokens[token] = {"kind": "user", "name": name, "groups": list(groups), "scopes": list(scopes), **more}
        return token

    def answer(self, handler: BaseHTTPRequestHandler, body: str) -> None:
        path = handler.path.removeprefix("/hub/api")
        self.requests.append(path)
        self.released.wait(30)
        status, said = 404, {"status": 404, "message": "Not Found"}
        if path == "/user":
            token = (handler.headers["Authorization"] or "").removeprefix("token ")
            known = self.tokens.get(token)
            status, said = (200, known) if known else (403, {"status": 403, "message": "Forbidden"})
            if token in self.broken:
                status = 500
        elif path == "/oauth2/token":
            form = {key: values[0] for key, values in parse_qs(body).items()}
            self.forms.append(form)
            token = self.codes.pop(form.get("code", ""), None)
            status, said = (400, {"error": "invalid_grant"})
            if token and form["client_secret"] == SECRET:
                status, said = 200, {"access_token": token, "expires_in": 1000, "token_type": "Bearer"}
        raw = json.dumps(said).encode()
        if self.fault is not None:
            status, raw = self.fault
        with contextlib.suppress(OSError):
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(raw)))
            handler.end_headers()
            handler.wfile.write(raw)

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


class FakeDesk:
    """Tells what the test says; counts how often it was asked."""

    def __init__(self) -> None:
        count = Count(total=2, free=1, used_by_us=1, fits_now=(Fit(1, 2000, 4 << 30),), simulated=True)
        one = Count(total=1, free=1, simulated=True)
        self.now = Availability(
            Snapshot("local", AT, {"t4": count, "u55c": one, "none": Count(fits_now=(Fit(0, 2000, 8 << 30),))}),
            True,
            AT,
            (Reservation("one", "ann", "", "lab", "t4", 1, seen=True),),
        )
        self.asked = 0
        self.fault: Exception | None = None

    def set_free(self, free: int) -> None:
        """Let so many T4 be free; two in all."""
        assert self.now.snapshot is not None
        t4 = replace(self.now.snapshot.accelerators["t4"], free=free, used_by_us=2 - free)
        counts = {**self.now.snapshot.accelerators, "t4": t4}
        self.now = replace(self.now, snapshot=replace(self.now.snapshot, accelerators=counts))

    async def availability(self) -> Availability:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return self.now

    async def reserve(self, wanted: Reservation, *, expires_in_s: float, person: Person | None = None) -> Reservation:
        raise AssertionError("the service reserves nothing")

    async def release(self, spawn_id: str) -> None:
        raise AssertionError("the service releases nothing")


def database(folder: Path) -> Database:
    """A database with the tables of this version."""
    made = connect(f"sqlite:///{folder / 'armillary.sqlite'}")
    upgrade(made)
    return made


class World:
    """The service on a port, and what it leans on."""

    def __init__(self, folder: Path, hub: FakeHub, **parts: Any) -> None:
        self.hub = hub
        self.desk = FakeDesk()
        self.database = database(folder)
        self.file = folder / "armillary.sqlite"
        [port] = free_ports(1)
        self.origin = f"http://127.0.0.1:{port}"
        self.url = self.origin + PREFIX
        self.access = HubAccess(hub.api_url, SECRET, timeout_s=5.0)
        given: dict[str, Any] = {
            "place": Place("/", self.origin),
            "hub": self.access,
            "secret": SECRET,
            "desk": self.desk,
            "database": self.database,
            "catalogue": catalogue(),
            "engine": "local",
            "servers": HubServers(hub.api_url, SECRET, slow_start_s=1),
        }
        self.parts = ServiceParts(**{**given, **parts})
        self.app = create_app(self.parts)
        self.server = uvicorn.Server(
            uvicorn.Config(self.app, port=port, log_config=None, access_log=False, ws="none", lifespan="on")
        )
        self._thread = threading.Thread(target=self.server.run, daemon=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[World]:
        self._thread.start()
        wait_for(lambda: self.server.started, "the service to listen", 20)
        try:
            yield self
        finally:
            self.server.should_exit = True
            self.app.state.live.closing = True
            self._thread.join(20)
            self.database.dispose()
            assert not self._thread.is_alive()

    def get(self, path: str, token: str = "", **more: Any) -> httpx.Response:
        """GET a path below the service's prefix, as a program with a token."""
        headers = {**({"Authorization": f"token {token}"} if token else {}), **more.pop("headers", {})}
        return httpx.get(self.url + path, headers=headers, timeout=20, **more)


class LivePage:
    """An open EventSource: what it heard, in a thread."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.ended = threading.Event()
        parts = urlsplit(url)
        self._connection = HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        self._connection.connect()
        self._socket = self._connection.sock
        self._connection.request("GET", url.partition(parts.netloc)[2], headers=headers)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        name = ""
        try:
            with self._connection.getresponse() as answer:
                for raw in answer:
                    line = raw.decode().rstrip("\n")
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        self.heard.append((name, json.loads(line.removeprefix("data: "))))
        except (OSError, HTTPException):
            pass  # cut off, from here or from there
        finally:
            self.ended.set()

    def counts(self) -> list[int | None]:
        """What the page showed of the T4, one after the other."""
        return [said["accelerators"]["t4"]["free"] for name, said in self.heard if name == "capacity"]

    def close(self) -> None:
        """As a browser does that leaves the page."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(20)
        self._connection.close()
        self._socket.close()


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is problem details with this status and code, and return them."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said: dict[str, Any] = answer.json()
    assert set(said) >= {"type", "title", "status", "detail", "instance", "code"}
    assert (said["status"], said["code"]) == (status, code), said
    assert said["type"] == f"{PREFIX}/docs#{code}"
    assert said["instance"].startswith("urn:uuid:")
    return said
