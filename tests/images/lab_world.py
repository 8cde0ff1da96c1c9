"""A real jupyter_server with the server half of JupyterLab's extension, and a service that notes what it is sent."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.hub.site import ROOT, free_ports, wait_for

EXTENSION = ROOT / "images" / "labextension"
TOKEN = "5e55" * 8
API = "/services/armillary/api"


class TestService:
    """Answers as Armillary's service does; everything public may be changed by a test."""

    __test__ = False

    def __init__(self) -> None:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service.answer(self)

            def do_POST(self) -> None:
                service.answer(self)

            def do_DELETE(self) -> None:
                service.answer(self)

            def log_message(self, *args: Any) -> None:
                """Keep the test's output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/armillary"
        self.state: dict[str, Any] = {
            "now": 1000.0,
            "session": {"server": "two", "title": "T4", "keep": {"possible": True, "left": 2}, "new": 1},
            "notices": [{"id": "s1/idle", "kind": "idle", "text": "Soon."}],
        }
        self.status = 200
        self.sent: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str, Any]] = []
        self.tokens: set[str] = set()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        raw = handler.rfile.read(int(handler.headers["Content-Length"] or 0))
        body = json.loads(raw) if raw else None
        path = handler.path.removeprefix(API)
        self.tokens.add(handler.headers["Authorization"] or "")
        status, said = self.status, self.state
        if path.endswith("/measures"):
            self.sent.append(body)
        else:
            self.asked.append((handler.command, path, body))
        if status >= 400:
            said = {"code": "no-such-session", "detail": "It does not run.", "status": status}
        elif handler.command == "DELETE" and "/notices/" in path:
            status, said = 204, {}
        elif path.endswith("/switch"):
            said = {"choices": []} if handler.command == "GET" else {"outcome": "waiting", "text": "1 of 1"}
        answer = b"" if status == 204 else json.dumps(said).encode()
        with contextlib.suppress(OSError):
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(answer)))
            handler.end_headers()
            handler.wfile.write(answer)

    @contextlib.contextmanager
    def running(self) -> Iterator[TestService]:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()

    def next(self, true: Callable[[dict[str, Any]], Any], why: str) -> dict[str, Any]:
        """The first measures from now on of which this is true."""
        seen = len(self.sent)
        found: dict[str, Any] = wait_for(lambda: next(filter(true, self.sent[seen:]), None), why, 40)
        return found


class Lab:
    """The server of one session."""

    def __init__(self, folder: Path, environ: dict[str, str], base_url: str = "/user/ann/two/") -> None:
        [self.port] = free_ports(1)
        self.base_url = base_url
        self.home = folder / "home"
        self.home.mkdir()
        self.output = folder / "output"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ARMILLARY_", "JUPYTER"))}
        self.environ = {
            **kept,
            "HOME": str(self.home),
            "PYTHONPATH": str(EXTENSION),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            **environ,
        }
        self.web = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}{base_url}", headers={"Authorization": f"token {TOKEN}"}, timeout=30
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[Lab]:
        extensions = {"armillary_lab": True, "jupyter_server_terminals": True}
        command = [
            *(sys.executable, "-P", "-m", "jupyter_server", "--no-browser", "--allow-root"),
            f"--ServerApp.jpserver_extensions={extensions}",
            f"--IdentityProvider.token={TOKEN}",
            f"--ServerApp.port={self.port}",
            f"--ServerApp.base_url={self.base_url}",
            f"--ServerApp.root_dir={self.home}",
            "--ServerApp.port_retries=0",
        ]
        with self.output.open("wb") as output:
            process = subprocess.Popen(command, env=self.environ, stdout=output, stderr=output, cwd=self.home)
        try:
            wait_for(lambda: process.poll() is not None or self._answers(), "the server to answer", 60)
            assert process.poll() is None, self.output.read_text()
            yield self
        finally:
            self.web.close()
            process.terminate()
            process.wait(30)

    def _answers(self) -> bool:
        try:
            return self.web.get("api").status_code == 200
        except httpx.HTTPError:
            return False

    def socket(self, path: str) -> ClientConnection:
        """A websocket of the server, as JupyterLab opens one."""
        return connect(
            f"ws://127.0.0.1:{self.port}{self.base_url}{path}",
            additional_headers={"Authorization": f"token {TOKEN}"},
            proxy=None,
        )

    def kernel(self) -> str:
        """A new kernel, ready for work; its id."""
        id = str(self.web.post("api/kernels", json={"name": "python3"}).json()["id"])
        self.execute(id, "1 + 1", wait=True)
        return id

    def execute(self, kernel: str, code: str, *, wait: bool = False) -> None:
        """Execute this, and close the page; waits for its end only if told to."""
        header = {"msg_id": "m1", "username": "", "session": "s1", "msg_type": "execute_request", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        with self.socket(f"api/kernels/{kernel}/channels?session_id=s1") as page:
            page.send(json.dumps(message))
            while True:
                said = json.loads(page.recv(60))
                kind, state = said["header"]["msg_type"], said["content"].get("execution_state")
                if said["parent_header"].get("msg_id") != "m1":
                    continue
                if kind == "status" and state == ("idle" if wait else "busy"):
                    return
