"""A hub beside the cluster, as a process that can be killed; its proxy is another process and lives on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import connect

from tests.bench.installation import install
from tests.hub.site import free_ports
from tests.lab.cluster import Cluster

__all__ = ["KubeHub", "running"]

_HERE = Path(__file__).parent
_PATIENCE_S = 120.0


class KubeHub:
    """A hub with the kubernetes engine, its proxy, and a token that may everything."""

    def __init__(self, cluster: Cluster, namespace: str, image: str, folder: Path) -> None:
        self.cluster, self.namespace, self.folder = cluster, namespace, folder
        public, api = free_ports(2, cluster.bridge_address)
        proxy_api, service = free_ports(2)
        self.url = f"http://{cluster.bridge_address}:{public}"
        self.api_port = api
        self.token = secrets.token_hex(16)
        given = {
            "BENCH_URL": self.url,
            "BENCH_HUB_URL": f"http://{cluster.bridge_address}:{api}",
            "BENCH_PROXY_API_URL": f"http://127.0.0.1:{proxy_api}",
            "BENCH_SERVICE_URL": f"http://127.0.0.1:{service}",
            "BENCH_NAMESPACE": namespace,
            "BENCH_IMAGE": image,
            "BENCH_STORAGE_CLASS": cluster.storage_class,
        }
        _, self._proxy_command = install(folder, given)
        self._hub_command = [sys.executable, "-m", "jupyterhub", "-f", str(_HERE / "hub_config.py")]
        self._environment = os.environ | {
            "HUB_FOLDER": str(folder),
            "HUB_TOKEN": self.token,
            "KUBECONFIG": str(cluster.kubeconfig),
            "PYTHONPATH": str(_HERE.parents[1]),
        }
        self.log = folder / "hub.log"
        self._output = self.log.open("ab")
        self._process: subprocess.Popen[bytes] | None = None
        self._proxy: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(base_url=self.url, headers={"Authorization": f"token {self.token}"}, timeout=60)

    # --- processes -------------------------------------------------------------------------------------------

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL,
            stdout=self._output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def up(self) -> None:
        """Start the hub, and the proxy if it does not run; return when the hub answers."""
        if self._proxy is None:
            self._proxy = self._run(self._proxy_command)
        self._process = self._run(self._hub_command)
        self.until(self._answers, "the hub answers")

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the hub ended:\n{self.tail()}")
        with contextlib.suppress(httpx.HTTPError):
            return self.http.get("/hub/api/").status_code == 200
        return False

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send the hub a signal and wait until it has ended."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, how)
            self._process.wait(60)
            self._process = None

    def down(self) -> None:
        """End everything."""
        self.end(signal.SIGKILL)
        if self._proxy is not None:
            os.killpg(self._proxy.pid, signal.SIGKILL)
            self._proxy.wait(60)
        self.http.close()
        self._output.close()

    def tail(self, lines: int = 60) -> str:
        """Return the end of the hub's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def until(self, true: Any, what: str, within_s: float = _PATIENCE_S) -> Any:
        """Wait until something is true, and return it."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if found := true():
                return found
            time.sleep(0.05)
        raise AssertionError(f"not within {within_s:g} s: {what}\n{self.tail()}")

    # --- people ----------------------------------------------------------------------------------------------

    def add(self, user: str) -> str:
        """Add a person; return a token of theirs."""
        self.http.post(f"/hub/api/users/{user}").raise_for_status()
        answer = self.http.post(f"/hub/api/users/{user}/tokens", json={})
        return str(answer.raise_for_status().json()["token"])

    def server(self, user: str) -> dict[str, Any]:
        """Return what the hub says about a person's default server; empty if there is none."""
        servers = self.http.get(f"/hub/api/users/{user}").raise_for_status().json()["servers"]
        return dict(servers.get("") or {})

    def request_start(self, user: str, **options: str) -> httpx.Response:
        """Ask for a start by the REST API."""
        return self.http.post(
            f"/hub/api/users/{user}/server", json={"user_options": options or {"profile": "jupyterlab"}}
        )

    def click(self, user: str) -> None:
        """Ask for a start and do not wait for the answer, which may never come."""

        def ask() -> None:
            with contextlib.suppress(httpx.HTTPError), httpx.Client(headers=self.http.headers, timeout=60) as http:
                http.post(f"{self.url}/hub/api/users/{user}/server", json={"user_options": {"profile": "jupyterlab"}})

        threading.Thread(target=ask, daemon=True).start()

    def start(self, user: str, **options: str) -> None:
        """Start a server and wait until it is ready."""
        answer = self.request_start(user, **options)
        assert answer.status_code in (201, 202), answer.text
        self.until(lambda: self.server(user).get("ready"), f"{user}'s server is ready")

    def stop(self, user: str) -> None:
        """Stop a server and wait until it is gone."""
        assert self.http.delete(f"/hub/api/users/{user}/server").status_code in (202, 204)
        self.until(lambda: not self.server(user), f"{user}'s server has stopped")

    # --- the cluster -----------------------------------------------------------------------------------------

    def objects(self, kind: str, name: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind in the namespace."""
        found = json.loads(self.cluster.kubectl("get", kind, "-n", self.namespace, "-o", "json"))["items"]
        return [item for item in found if not name or item["metadata"]["name"] == name]

    # --- a session -------------------------------------------------------------------------------------------

    def compute(self, user: str, token: str, code: str) -> str:
        """Run code in a kernel of this person's server, through the proxy; return what it prints.

        A hub that has just come back tells that a server is ready before it has looked at the proxy's routes.
        """
        self.until(lambda: self.http.get(f"/user/{user}/api/status").status_code == 200, f"a route to {user}'s server")
        return asyncio.run(self._compute(user, token, code))

    async def _compute(self, user: str, token: str, code: str) -> str:
        headers = {"Authorization": f"token {token}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60) as http:
            kernel = (await http.post(f"/user/{user}/api/kernels", json={})).raise_for_status().json()["id"]
        address = f"{self.url.replace('http', 'ws', 1)}/user/{user}/api/kernels/{kernel}/channels"
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": "execute_request",
            "username": "",
            "session": "s",
            "version": "5.3",
        }
        request = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        said = ""
        async with connect(address, additional_headers=headers) as socket, asyncio.timeout(_PATIENCE_S):
            await socket.send(json.dumps(request))
            async for text in socket:
                message = json.loads(text)
                if message.get("parent_header", {}).get("msg_id") != header["msg_id"]:
                    continue
                # What a kernel prints comes in as many pieces as it likes.
                match message.get("msg_type"), message["content"]:
                    case "stream", {"name": "stdout", "text": piece}:
                        said += str(piece)
                    case "error", {"evalue": problem}:
                        raise AssertionError(f"{said}{problem}")
                    case "status", {"execution_state": "idle"}:
                        return said
        raise AssertionError(f"the kernel went away after {said!r}")


@contextlib.contextmanager
def running(cluster: Cluster, namespace: str, folder: Path) -> Iterator[KubeHub]:
    """Run a hub while the block runs."""
    hub = KubeHub(cluster, namespace, cluster.image("base"), folder)
    try:
        hub.up()
        yield hub
    finally:
        hub.down()
