"""The web applications of the session: those that its owner may use, started and reached through jupyter-server-proxy.

The hub names them in the variable `ARMILLARY_APPS` (`spawner.apps` writes it). Each is started when it is first
opened. An open websocket counts as work: VS Code holds one for as long as its page is open, and shows nothing else of
what is done in it to the session's server.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from jupyter_server.utils import url_path_join
from jupyter_server_proxy.config import ServerProcess
from jupyter_server_proxy.handlers import SuperviseAndProxyHandler

from armillary_lab.activity import APPS, Connections

__all__ = ["processes"]

_log = logging.getLogger(__name__)

_ICONS = Path(__file__).parent / "icons"
_CATEGORY = "Applications"


@dataclass(frozen=True)
class App:
    """One application, as the hub names it."""

    name: str
    title: str
    command: tuple[str, ...]
    listen: str | int
    """`socket`, `port`, or the number of the only port that it knows."""
    icon: str
    health: str
    timeout_s: float
    keeps_prefix: bool
    environment: Mapping[str, str]

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> App:
        """Return it; KeyError, TypeError: the hub is of another version and means something else."""
        return cls(
            name=str(said["name"]),
            title=str(said["title"]),
            command=tuple(map(str, said["command"])),
            listen=said["listen"],
            icon=str(said.get("icon", "app")),
            health=str(said.get("health", "/")),
            timeout_s=float(said.get("timeout_s", 60)),
            keeps_prefix=bool(said.get("keeps_prefix", False)),
            environment={str(key): str(value) for key, value in said.get("environment", {}).items()},
        )


class AppHandler(SuperviseAndProxyHandler):
    """Passes requests on to an application that answers at its health path, and counts its open websockets."""

    health: str
    connections: Connections

    async def _http_ready_func(self, p: object) -> bool:
        """Tell whether it can be used; jupyter-server-proxy (4.6) itself takes any answer at `/` for a yes."""
        path = url_path_join(self.base_url, self.name, self.health) if self.absolute_url else self.health
        socket = self.unix_socket
        connector = None if socket is None else aiohttp.UnixConnector(socket)
        url = f"http://localhost{'' if socket else f':{self.port}'}{path}"
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as client,
                client.get(url, allow_redirects=False) as answer,
            ):
                return answer.status < 500
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def open(self, path: str) -> None:
        """Begin a websocket."""
        self.connections.opened(self)
        try:
            await super().open(path)
        except BaseException:
            self.connections.closed(self)
            raise

    def on_close(self) -> None:
        """End a websocket, whoever ended it."""
        self.connections.closed(self)
        super().on_close()


class AppProcess(ServerProcess):
    """One application, as jupyter-server-proxy has it in its settings."""

    def __init__(self, app: App, connections: Connections) -> None:
        self.app = app
        self.connections = connections
        super().__init__(
            name=app.name,
            command=list(app.command),
            # It fills braces in where the catalogue means none.
            environment={key: _literal(value) for key, value in app.environment.items()},
            timeout=app.timeout_s,
            absolute_url=app.keeps_prefix,
            port=app.listen if isinstance(app.listen, int) else 0,
            unix_socket=True if app.listen == "socket" else None,
            launcher_entry={"title": app.title, "icon_path": _icon(app.icon), "category": _CATEGORY},
        )

    def __deepcopy__(self, memo: object = None) -> AppProcess:
        """Itself: traitlets copies what settings hold, and there is one count of connections."""
        return self

    def get_proxy_base_class(self) -> tuple[type, dict[str, Any]]:
        """Return the handler, with what is known of its process."""
        return AppHandler, {"state": {}}

    def get_proxy_attributes(self) -> dict[str, Any]:
        """Return what each of its handlers is given."""
        more = {"health": self.app.health, "connections": self.connections}
        return {**super().get_proxy_attributes(), **more}


def processes(environ: Mapping[str, str], connections: Connections) -> dict[str, AppProcess]:
    """Return the applications of this session, by name; those whose program is not here are left out.

    Parameters
    ----------
    environ
        Of the session.
    connections
        Notes their websockets.
    """
    try:
        said = json.loads(environ.get(APPS) or "[]")
        apps = [App.of(one) for one in said]
    except (ValueError, KeyError, TypeError, AttributeError):
        _log.warning("Armillary: %s cannot be read; the session has no applications", APPS)
        return {}
    found = {}
    for app in apps:
        if app.command and shutil.which(app.command[0], path=environ.get("PATH")):
            found[app.name] = AppProcess(app, connections)
        else:
            _log.warning("Armillary: %s is not offered: there is no program %r", app.title, app.command[:1])
    return found


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _icon(icon: str) -> str:
    if icon.startswith("/"):
        return icon if Path(icon).is_file() else str(_ICONS / "app.svg")
    drawn = _ICONS / f"{icon}.svg"
    return str(drawn if drawn.is_file() else _ICONS / "app.svg")
