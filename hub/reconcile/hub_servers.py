"""Which servers the hub takes for active: its list, in pages small enough that each is answered within milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from hub.admission.hub_api import Answer, HubServers
from hub.reconcile.picture import HubServer

__all__ = ["ActiveServers", "HubList"]

_PAGE = 50
_ANSWER_S = 10.0
_PAGES = 2000
"""More pages than any hub has; one that answers the same page for ever must not keep us."""


class ActiveServers(Protocol):
    """The hub, as the reconciler needs it; see `hub.admission.hub_api.Servers` for the other two."""

    async def active(self) -> Mapping[tuple[str, str], HubServer] | None:
        """Return the active servers by user and name; None: the hub did not tell all."""
        ...

    async def look(self, user: str, server: str) -> Answer:
        """Return how one server is."""
        ...

    async def stop(self, user: str, server: str) -> Answer:
        """Ask for a stop."""
        ...


class HubList(HubServers):
    """The hub, by its REST API (JupyterHub 6.1, apihandlers/users.py). For one event loop. Needs `list:users`."""

    async def active(self) -> Mapping[tuple[str, str], HubServer] | None:
        """See `ActiveServers`.

        Somebody who comes or goes meanwhile moves the pages, so one may be missed: ask again before acting on that.
        """
        self._headers["Accept"] = "application/jupyterhub-pagination+json"
        found: dict[tuple[str, str], HubServer] = {}
        offset = 0
        for _ in range(_PAGES):
            path = f"/users?state=active&limit={_PAGE}&offset={offset}"
            status, _, said = await self._ask("GET", path, _ANSWER_S)
            users = (said or {}).get("items")
            if status != 200 or not isinstance(users, list):
                return None
            for user in users:
                found.update(_servers(user))
            after = ((said or {}).get("_pagination") or {}).get("next")
            if not after:
                return found
            offset = int(after["offset"])
        return None


def _servers(user: Any) -> dict[tuple[str, str], HubServer]:
    if not isinstance(user, Mapping):
        return {}
    name, servers = str(user.get("name", "")), user.get("servers")
    if not isinstance(servers, Mapping):
        return {}
    found = {}
    for server, said in servers.items():
        options = said.get("user_options")
        known = options if isinstance(options, Mapping) else {}
        found[name, str(server)] = HubServer(name, str(server), bool(said.get("ready")), dict(known))
    return found
