"""A whole site for tests, started as a person would: launcher, proxy, hub, provider, all as processes of their own.

    with Site().running() as site:
        browser = site.login("researcher-1")
        site.api("POST", "/users/researcher-1/server")

Everything lies in one temporary folder that accounts other than root can pass through, because sessions run under
accounts of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.hub.forms import submit

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "d0c5" * 16
CONFIG = f"""\
exec(compile(open({str(ROOT / "jupyterhub_config.py")!r}).read(), "jupyterhub_config.py", "exec"))
c.JupyterHub.services.append({{"name": "tests", "api_token": {TOKEN!r}}})
c.JupyterHub.load_roles.append({{"name": "tests", "services": ["tests"], "scopes": [
    "admin:users", "admin:servers", "admin:groups", "admin:auth_state", "access:servers", "tokens", "proxy",
    "list:users", "list:groups", "read:hub", "read:metrics", "shutdown",
]}})
"""


def wait_for(what: Callable[[], Any], why: str, timeout_s: float = 60.0, every_s: float = 0.1) -> Any:
    """Return the first true answer; AssertionError, which says what was waited for, if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        if answer := what():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s for {why}")
        time.sleep(every_s)


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """Return ports of an address of this machine that are free now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind((address, 0))
        return [int(probe.getsockname()[1]) for probe in sockets]


class Site:
    """One site.

    Args:
        folder: where everything lies; default a new temporary folder, removed by `remove`.
        settings: what `armillary.yaml` says (nested dicts); merged over what tests need.
        catalogue: the catalogue's text; default the shipped one.
        config: Python lines for the hub's configuration, after ours.
        environ: more environment variables for the launcher.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
        catalogue: str | None = None,
        config: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._own = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="armillary-site-"))
        self.folder.mkdir(exist_ok=True)
        self.folder.chmod(0o755)
        self.state = self.folder / "state"
        self.port, hub, proxy, self.provider_port, service = free_ports(5)
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin_token = TOKEN
        said: dict[str, Any] = {
            "hub": {"bind_url": f"http://127.0.0.1:{hub}"},
            "proxy": {"api_url": f"http://127.0.0.1:{proxy}"},
            "service": {"bind_url": f"http://127.0.0.1:{service}"},
        }
        for key, value in (settings or {}).items():
            said[key] = {**said[key], **value} if isinstance(value, Mapping) and key in said else value
        if catalogue is not None:
            (self.folder / "catalogue.yaml").write_text(catalogue)
            said["catalogue"] = "catalogue.yaml"
        self.settings_file = self.folder / "armillary.yaml"
        self.settings_file.write_text(yaml.safe_dump(said))
        self.config_file = self.folder / "jupyterhub_config.py"
        self.config_file.write_text(CONFIG + config)
        self.environ = dict(environ or {})
        self.output = self.folder / "output"
        self.process: subprocess.Popen[bytes] | None = None
        self._logged_in: dict[str, float] = {}

    # The launcher -----------------------------------------------------------------------------------------------

    def command(self, *more: str) -> list[str]:
        """The launcher's command line."""
        ports = ("--port", str(self.port), "--provider-port", str(self.provider_port))
        state = ("--state", str(self.state))
        return [sys.executable, "-m", "hub.launch", "run", *state, *ports, "--config", str(self.config_file), *more]

    def variables(self) -> dict[str, str]:
        """The launcher's environment: nothing of ours that could be taken for a setting."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ARMILLARY_", "JUPYTERHUB_"))}
        return {**kept, "ARMILLARY_SETTINGS": str(self.settings_file), "PYTHONUNBUFFERED": "1", **self.environ}

    def launch(self) -> None:
        """Start the launcher without waiting for anything."""
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                self.command(), cwd=ROOT, env=self.variables(), stdout=output, stderr=output, start_new_session=True
            )

    def start(self, timeout_s: float = 100.0) -> None:
        """Start the launcher and wait until it says that everything works."""
        self.launch()
        wait_for(lambda: self.ended or "ready after" in self.said(), "the site to be ready", timeout_s)
        assert "ready after" in self.said(), f"the launcher gave up:\n{self.said()}\n{self.logs()}"

    @property
    def ended(self) -> bool:
        """Whether the launcher has ended."""
        return self.process is None or self.process.poll() is not None

    def said(self) -> str:
        """What the launcher has printed since it was started."""
        return self.output.read_text() if self.output.exists() else ""

    def logs(self) -> str:
        """The end of every log, for the message of a failed test."""
        found = sorted((self.state / "logs").glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text()[-4000:]}" for file in found)

    def stop(self, number: signal.Signals = signal.SIGINT, timeout_s: float = 60.0) -> int:
        """End everything as Ctrl-C does; returns the launcher's exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL the launcher, and wait until what it owned has died with it."""
        assert self.process is not None
        pids = [pid for name in ("hub", "service", "proxy", "provider") if (pid := self.pid_of(name))]
        self.process.kill()
        self.process.wait()
        wait_for(lambda: not any(alive(pid) for pid in pids), "the launcher's children to die with it", 10)

    def remove(self) -> None:
        """Remove the folder."""
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[Site]:
        """Start, and end and remove everything afterwards."""
        try:
            self.start()
            yield self
        finally:
            try:
                if self.process is not None:
                    self.stop()
            finally:
                self.remove()

    # Its processes ----------------------------------------------------------------------------------------------

    def pid_of(self, name: str) -> int:
        """Pid of `hub`, `service`, `proxy` or `provider`; 0 while there is none."""
        try:
            return int(json.loads((self.state / "processes" / f"{name}.json").read_text())["pid"])
        except FileNotFoundError:
            return 0

    def hub_pid(self) -> int:
        """Pid of the hub; 0 while it is between two lives."""
        return self.pid_of("hub")

    def restart_hub(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Signal the hub and wait until the launcher has brought up another that answers."""
        before = self.hub_pid()
        os.kill(before, number)
        wait_for(lambda: self.hub_pid() not in (0, before), "the launcher to start the hub again")
        self.wait_healthy()

    def wait_healthy(self) -> None:
        """Wait until the hub answers through the proxy."""
        wait_for(self.healthy, "the hub to answer through the proxy")

    def healthy(self) -> bool:
        """Whether the hub answers through the proxy."""
        try:
            return httpx.get(f"{self.url}/hub/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    # People and programs ----------------------------------------------------------------------------------------

    @property
    def accounts(self) -> dict[str, str]:
        """Passwords by account name."""
        found: dict[str, str] = json.loads((self.state / "secrets" / "accounts.json").read_text())
        return found

    def client(self) -> httpx.Client:
        """A browser nobody has logged in with yet."""
        return httpx.Client(base_url=self.url, timeout=30, follow_redirects=True)

    def login(self, name: str, password: str | None = None) -> httpx.Client:
        """Log in through the provider's pages; returns the browser."""
        browser = self.client()
        page = self.try_login(browser, name, password or self.accounts[name])
        arrived = str(page.url).startswith(self.url) and page.status_code == 200
        assert arrived, f"{name} did not get in: {page.status_code} {page.url}\n{page.text[:3000]}\n{self.logs()}"
        return browser

    def try_login(
        self, browser: httpx.Client, name: str, password: str, next_path: str = "/hub/home"
    ) -> httpx.Response:
        """Type name and password at the provider; returns the page where that led."""
        # Canaille cannot give one account two tokens within one second.
        wait_for(lambda: time.monotonic() > self._logged_in.get(name, 0.0) + 1.1, "the provider's next second")
        page = browser.get("/hub/oauth_login", params={"next": next_path})
        page = submit(browser, page, login=name)
        page = submit(browser, page, password=password)
        self._logged_in[name] = time.monotonic()
        return page

    def api(self, method: str, path: str, token: str | None = None, **more: Any) -> httpx.Response:
        """Call JupyterHub's REST API, by default with every right; `path` as in `/users/researcher-1`."""
        headers = {"Authorization": f"token {token or self.admin_token}"}
        return httpx.request(method, f"{self.url}/hub/api{path}", headers=headers, timeout=60, **more)

    def server(self, name: str, server: str = "") -> dict[str, Any]:
        """What the hub says about somebody's server; empty if it knows of none."""
        found: dict[str, Any] = self.api("GET", f"/users/{name}").json().get("servers", {}).get(server, {})
        return found

    def start_server(self, name: str, options: Mapping[str, Any] | None = None, server: str = "") -> dict[str, Any]:
        """Start a server through the REST API and wait until it is ready."""
        path = f"/users/{name}/servers/{server}" if server else f"/users/{name}/server"
        answer = self.api("POST", path, json=dict(options or {}))
        assert answer.status_code in (201, 202), f"{answer.status_code} {answer.text}\n{self.logs()}"
        try:
            wait_for(lambda: self.server(name, server).get("ready"), f"the server of {name}", 90)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None
        return self.server(name, server)


def alive(pid: int) -> bool:
    """Whether a process runs; what is left of an ended one (a zombie) does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def processes_mentioning(text: str) -> list[str]:
    """Command lines of every running process with this text in its arguments or its environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid() or not alive(int(folder.name)):
            continue
        try:
            arguments = (folder / "cmdline").read_bytes()
            if text.encode() in arguments + (folder / "environ").read_bytes():
                found.append(f"{folder.name}: {arguments.replace(bytes(1), b' ').decode(errors='replace')}")
        except OSError:
            continue  # it ended meanwhile
    return found
