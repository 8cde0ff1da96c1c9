"""The form's page in a browser with a service that does what a test says: slow, silent, broken, gone, back again.

The page is made of the real templates of JupyterHub, the hub and the form; only the service behind it is pretended, since the
real one cannot be brought into all these states. Whole sites are in `test_capacity.py`.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader
from jupyterhub._data import DATA_FILES_PATH

from hub.config import TEMPLATES
from profiles.access import Person
from profiles.model import Catalogue, Engine
from profiles.offers import offers
from spawner import form
from spawner.capacity.availability import Availability
from spawner.capacity.shown import shown

__all__ = ["ANN", "PretendSite", "running"]

ANN = Person(name="ann", groups=frozenset({"researchers"}))
SERVICE = "/services/armillary"
_KINDS = {".css": "text/css", ".js": "text/javascript", ".woff2": "font/woff2", ".ico": "image/x-icon"}


@dataclass
class PretendSite:
    """What the page is made of, and how the service answers; tests change it while the page is open.

    `known` is for the page, `served` what the service says. `status` other than 200 is answered to everything.
    `login_needed` until the login page was visited. `silent`: nothing is answered, as by a stopped process.
    """

    catalogue: Catalogue
    known: Availability | None
    engine: Engine = "local"
    served: Availability | None = None
    selected: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    server: str = ""
    status: int = 200
    login_needed: bool = False
    silent: bool = False
    nodes_may_appear: bool = False
    url: str = ""
    asked: list[str] = field(default_factory=list)
    """Paths below the service, in order."""
    submitted: list[str] = field(default_factory=list)
    """Forms that came."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    over: bool = False
    generation: int = 0
    """Another number for each time that all connections are cut."""

    def tell(self, **changes: Any) -> None:
        """Change something; what listens hears of it at once."""
        with self.changed:
            for name, value in changes.items():
                setattr(self, name, value)
            self.changed.notify_all()

    def drop(self) -> None:
        """Cut all connections that wait for events."""
        with self.changed:
            self.generation += 1
            self.changed.notify_all()

    def page(self) -> str:
        """Return the page as the hub would send it."""
        inside = form.render(
            offers(self.catalogue, ANN, self.engine),
            selected=self.selected,
            notices=[],
            catalogue=self.catalogue,
            availability=self.known,
            user=ANN.name,
            server=self.server,
            nodes_may_appear=self.nodes_may_appear,
        )
        return _environment().get_template("spawn.html").render(
            base_url="/hub/",
            prefix="/",
            user=None,
            for_user=None,
            login_url="/hub/login",
            static_url=lambda path, include_version=True: f"/hub/static/{path}",
            spawner_options_form=inside,
            error_message=self.error,
            url="/hub/spawn",
        )  # fmt: skip

    def capacity(self) -> str:
        """Return what the service says now."""
        titles = {key: accelerator.title for key, accelerator in self.catalogue.accelerators.items()}
        known = self.served if self.served is not None else self.known or Availability()
        return json.dumps({**shown(known, ANN.name, {"none": "None", **titles}), "engine": self.engine, "sequence": 1})


def _environment() -> Environment:
    theirs = FileSystemLoader(str(Path(DATA_FILES_PATH) / "templates"))
    loader = ChoiceLoader([PrefixLoader({"templates": theirs}), FileSystemLoader(str(TEMPLATES)), theirs])
    return Environment(loader=loader, autoescape=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: PretendSite

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/hub/static/"):
            return self._static(Path(DATA_FILES_PATH) / "static" / path.removeprefix("/hub/static/"))
        if path.startswith(SERVICE):
            return self._service(path.removeprefix(SERVICE))
        return self._answer(200, "text/html; charset=utf-8", self.site.page())

    def do_POST(self) -> None:
        self.site.submitted.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self._answer(200, "text/html; charset=utf-8", "<title>started</title>")

    def _static(self, file: Path) -> None:
        if file.suffix in _KINDS and file.is_file():
            return self._answer(200, _KINDS[file.suffix], file.read_bytes())
        return self._answer(404, "text/plain", "not here")

    def _service(self, path: str) -> None:
        site = self.site
        site.asked.append(path)
        while site.silent and not site.over:
            time.sleep(0.05)
        if path == "/login":
            site.login_needed = False
            return self._answer(200, "application/json", site.capacity())
        if site.login_needed:
            return self._answer(401, "application/problem+json", json.dumps({"login": f"{SERVICE}/login"}))
        if site.status != 200:
            return self._answer(site.status, "application/problem+json", "{}")
        if path == "/api/capacity":
            return self._answer(200, "application/json", site.capacity())
        return self._events()

    def _events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        site, said = self.site, None
        cut = site.generation
        with contextlib.suppress(OSError):
            while not site.over and site.generation == cut:
                with site.changed:
                    now = None if site.silent else site.capacity()
                    if now is not None:
                        kind = "beat" if now == said else "capacity"
                        self.wfile.write(f"event: {kind}\ndata: {now}\n\n".encode())
                        self.wfile.flush()
                        said = now
                    site.changed.wait(1.0)
        self.close_connection = True

    def _answer(self, status: int, kind: str, body: str | bytes) -> None:
        raw = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def running(site: PretendSite) -> Iterator[PretendSite]:
    """Serve the site while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.tell(over=True)
        server.shutdown()
        server.server_close()
