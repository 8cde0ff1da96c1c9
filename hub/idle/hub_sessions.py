"""What is asked of the hub about running sessions: when it last saw one used, and to stop one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import quote

from hub.admission.hub_api import Answer, HubServers

__all__ = ["HubSessions", "Sessions", "age_of"]

_ANSWER_S = 10.0


class Sessions(Protocol):
    """The hub, as the loop needs it."""

    async def stop(self, user: str, server: str) -> Answer:
        """Ask for a stop; see `hub.admission.hub_api.Servers`."""
        ...

    async def unused_s(self, user: str, server: str) -> float | None:
        """Return for how many seconds the hub has seen nobody use a server; None: it does not say."""
        ...


class HubSessions(HubServers):
    """The hub, by its REST API. For one event loop."""

    async def unused_s(self, user: str, server: str) -> float | None:
        """See `Sessions`."""
        status, headers, said = await self._ask("GET", f"/users/{quote(user, safe='')}", _ANSWER_S)
        servers = (said or {}).get("servers")
        if status != 200 or not isinstance(servers, Mapping):
            return None
        one = servers.get(server)
        return age_of(one, headers.get("Date", "")) if isinstance(one, Mapping) else None


def age_of(server: Mapping[str, object], date: str) -> float | None:
    """Return how long ago the hub last saw a server used, by the hub's own clock; None: it does not know.

    Only of one that is ready and that nothing is being done to. One that was never used since it was started counts
    from its start.

    Parameters
    ----------
    server
        JupyterHub's model of it.
    date
        The header `Date` of the answer: the same clock as that of the moments in it.
    """
    if server.get("pending") or not server.get("ready"):
        return None
    seen = [found for key in ("last_activity", "started") if (found := _moment(server.get(key))) is not None]
    try:
        now = parsedate_to_datetime(date)
    except ValueError:
        return None
    return max(0.0, (now - max(seen)).total_seconds()) if seen else None


def _moment(text: object) -> datetime | None:
    """Read a moment as JupyterHub writes it (ISO 8601, UTC)."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
