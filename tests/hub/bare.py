"""A real hub without proxy and without real servers, for tests of what the hub itself answers.

Its configuration is ours (`hub.config.apply`), followed by the lines of a deployer.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml
from jupyterhub.proxy import Proxy
from jupyterhub.spawner import Spawner

from tests.hub.provider import CLIENT_SECRET
from tests.hub.site import free_ports, wait_for

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "cafe" * 16


class NoProxy(Proxy):  # type: ignore[misc]  # JupyterHub is untyped
    """Remembers routes and serves none: tests talk to the hub's own port."""

    should_start = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.routes: dict[str, Any] = {}

    async def add_route(self, routespec: str, target: str, data: Any) -> None:
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": data}

    async def delete_route(self, routespec: str) -> None:
        self.routes.pop(routespec, None)

    async def get_all_routes(self) -> dict[str, Any]:
        return self.routes


class PretendSpawner(Spawner):  # type: ignore[misc]  # JupyterHub is untyped
    """Writes down the environment a session would get; its "server" is the hub itself."""

    running = False

    async def start(self) -> str:
        file = Path(os.environ["TEST_ENVIRONMENTS"]) / f"{self.user.name}.json"
        file.write_text(json.dumps(self.get_env()))
        self.running = True
        return str(self.hub.server.url)

    async def poll(self) -> int | None:
        return None if self.running else 0

    async def stop(self, now: bool = False) -> None:
        self.running = False


class BareHub:
    """The hub of one test module; `browser()` is somebody who has not logged in yet."""

    def __init__(
        self, folder: Path, issuer: str, *, settings: Mapping[str, Any] | None = None, config: str = ""
    ) -> None:
        self.folder = folder
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.log_file = folder / "hub.log"
        self._browsers: list[httpx.Client] = []
        secrets = folder / "state" / "secrets"
        secrets.mkdir(parents=True, mode=0o700)
        for name in ("cookie_secret", "auth_state_keys", "proxy_password", "service_token"):
            (secrets / name).touch(mode=0o600)
            (secrets / name).write_text(os.urandom(32).hex())
        (secrets / "client_secret").write_text(CLIENT_SECRET + "\n")
        login = {"issuer": issuer, "client_secret_file": "state/secrets/client_secret", "timeout_s": 2.0}
        said = {
            "public_url": self.url,
            "state_dir": "state",
            "hub": {"bind_url": self.url, "log_level": "DEBUG"},
            "login": {**login, **(settings or {})},
        }
        self.settings = folder / "armillary.yaml"
        self.settings.write_text(yaml.safe_dump(said))
        self.config = folder / "jupyterhub_config.py"
        self.config.write_text(f"""\
from hub.config import apply
from hub.settings import load
from tests.hub.bare import NoProxy, PretendSpawner

c = get_config()
apply(c, load())
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.spawner_class = PretendSpawner
c.JupyterHub.services = [{{"name": "tests", "api_token": {TOKEN!r}}}]
c.JupyterHub.load_roles = [{{"name": "tests", "services": ["tests"], "scopes": [
    "admin:users", "admin:servers", "admin:auth_state", "tokens", "list:users"]}}]
{config}""")

    @contextlib.contextmanager
    def running(self) -> Iterator[BareHub]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ARMILLARY_", "JUPYTERHUB_"))}
        environ = {
            **kept,
            "ARMILLARY_SETTINGS": str(self.settings),
            "PYTHONPATH": str(ROOT),
            "TEST_ENVIRONMENTS": str(self.folder),
        }
        with self.log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(self.config)],
                cwd=self.folder,
                env=environ,
                stdout=log,
                stderr=log,
            )
        try:
            wait_for(lambda: process.poll() is not None or self.healthy(), f"the hub to answer\n{self.log()}")
            assert process.poll() is None, self.log()
            yield self
        finally:
            process.terminate()
            process.wait(30)

    def healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/hub/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def browser(self) -> httpx.Client:
        browser = httpx.Client(base_url=self.url, timeout=30, follow_redirects=True)
        self._browsers.append(browser)
        return browser

    def close_browsers(self) -> None:
        while self._browsers:
            self._browsers.pop().close()

    def api(self, method: str, path: str, token: str = TOKEN, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"token {token}"}
        return httpx.request(method, f"{self.url}/hub/api{path}", headers=headers, timeout=30, **more)

    def environment(self, name: str) -> dict[str, str]:
        """What somebody's session got at its last start."""
        found: dict[str, str] = json.loads((self.folder / f"{name}.json").read_text())
        return found
