"""A JupyterLab with the extension as people install it, and a script of what its server half would answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Page, Route

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "images" / "labextension" / "build.py"
START_S = 90


def install(prefix: Path) -> Path:
    """Build the wheel and install it with pip below a folder, where there is no Node."""
    made = subprocess.run([sys.executable, str(BUILD), "wheel"], stdout=subprocess.PIPE, text=True, check=True)
    wheel = made.stdout.strip()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--prefix", str(prefix)]
    subprocess.run([*command, wheel], env={**os.environ, "PATH": "/nowhere"}, check=True)
    return prefix / "share" / "jupyter"


class Lab:
    """A JupyterLab that runs."""

    def __init__(self, url: str, token: str, files: Path) -> None:
        self.url = url
        self.files = files
        self._token = token

    def address(self, path: str = "") -> str:
        return f"{self.url}lab{path}?token={self._token}&reset"


@contextmanager
def running(shared: Path, folder: Path) -> Iterator[Lab]:
    """Run JupyterLab with extensions from `shared`, everything it writes in `folder`."""
    places = {name: folder / name for name in ("home", "files", "runtime", "config")}
    for place in places.values():
        place.mkdir(parents=True)
    surroundings = {
        **os.environ,
        "HOME": str(places["home"]),
        "JUPYTER_PATH": str(shared),
        "JUPYTER_CONFIG_DIR": str(places["config"]),
        "JUPYTER_NO_CONFIG": "1",
        "JUPYTER_RUNTIME_DIR": str(places["runtime"]),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    command += ["--ip=127.0.0.1", "--port=0", f"--ServerApp.root_dir={places['files']}"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, env=surroundings, cwd=places["home"], stdout=log, stderr=log)
        try:
            known = _wait(process, places["runtime"], folder / "log")
            yield Lab(known["url"], known["token"], places["files"])
        finally:
            process.terminate()
            process.wait(30)


def _wait(process: subprocess.Popen[bytes], runtime: Path, log: Path) -> dict[str, Any]:
    """Return what the server writes about itself when it listens."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            try:
                known: dict[str, Any] = json.loads(file.read_text())
            except ValueError:
                continue  # half written
            return known
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text(errors='replace')[-3000:]}")


class Script:
    """What the server half answers in one page, and what it was asked."""

    def __init__(self, page: Page) -> None:
        self.state: dict[str, Any] | None = a_state()
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, Any]] = []
        self.before: Callable[[str], None] = lambda _request: None
        """Called with every request but those for the state, before it is answered."""
        page.route("**/armillary/**", self._answer)

    def requests(self) -> list[str]:
        return [request for request, _ in self.asked]

    def _answer(self, route: Route) -> None:
        request = route.request
        name = f"{request.method} {urlsplit(request.url).path.split('/armillary/', 1)[1]}"
        if name == "GET state":
            if self.state is None:
                route.fulfill(status=404, json={"message": "Not Found"})
            else:
                route.fulfill(json={**self.state, "now": time.time(), "as_of": time.time()})
            return
        self.before(name)
        self.asked.append((name, request.post_data_json if request.post_data else None))
        status, document = self.answers.get(name, (404, {"code": "not-found", "detail": f"{name} is not scripted"}))
        if document is None:
            route.fulfill(status=status)
        else:
            route.fulfill(status=status, json=document)


def a_state() -> dict[str, Any]:
    """A session with a slice of a card, two and a half hours and a budget."""
    now = time.time()
    return {
        "problem": "",
        "session": {
            "server": "",
            "accelerator": "a100-1g.5gb",
            "title": "A100 slice 1/7",
            "count": 1,
            "share": 1 / 7,
            "simulated": True,
            "profile": "JupyterLab",
            "account": "group:cms",
            "started_at": now - 3600,
            "ends_at": now + 9000,
            "stop_at": None,
            "stop_because": "",
            "keep": {"possible": False, "left": None},
        },
        "budgets": [
            {
                "whose": "group cms",
                "what": "A100",
                "window": "this week",
                "used_h": 27.6,
                "limit_h": 40,
                "renews_at": now + 3 * 86400,
                "field": "hours:week:a100-1g.5gb",
            },
            {
                "whose": "you",
                "what": "",
                "window": "the last 24 hours",
                "used_h": 1.5,
                "limit_h": 8,
                "renews_at": None,
                "field": "hours:24h",
            },
        ],
        "notices": [],
        "ticket": None,
        "links": {"usage": "/services/armillary/usage", "queue": "/services/armillary/queue"},
        "here": {
            "cpu": 1.2,
            "cpu_limit": 4,
            "memory": 3 * 1024**3,
            "memory_limit": 8 * 1024**3,
            "devices": [
                {"name": "A100", "utilisation": 0.4, "memory_used": 2 * 1024**3, "memory_total": 5 * 1024**3},
            ],
            "kernels": 1,
            "busy_kernels": 0,
            "terminals": 0,
            "busy_terminals": 0,
            "connections": 0,
        },
    }


def a_notice(kind: str, text: str, level: str = "warning") -> dict[str, Any]:
    """A notice of this kind; its id is the kind."""
    return {"id": kind, "kind": kind, "level": level, "text": text, "made_at": time.time(), "until": None}
