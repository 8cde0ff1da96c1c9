"""My usage: what runs, with what it measures of itself; what is left of each budget; what was used, day by day."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from starlette.responses import Response

from hub.admission.hub_api import Servers
from hub.quotas.subjects import say_account
from hub.web.pages.figures import PERIODS, days, history, session
from hub.web.pages.inner import Refused, part
from hub.web.pages.visits import Pages, Visit
from hub.web.pages.words import pace, window_of
from profiles.model import Catalogue

__all__ = ["UsagePages", "lines_of", "period_of", "titles_of"]

_DEFAULT_SERVER = "~"
_DONE = {
    "kept": "Your session goes on.",
    "stopping": "Your session is being stopped; what it held is given back when it has ended.",
    "switching": "The other accelerator is there: your session is stopped soon and starts again with it. Save now.",
    "waiting": "You are in line for the other accelerator; your session goes on until it is there.",
    "stayed": "You stay with what you have.",
    "read": "The notice is gone.",
}
_STOPPED = ("stopped", "pending", "gone")


class UsagePages:
    """Adds these pages.

    Parameters
    ----------
    servers
        Where servers are stopped: the hub.
    """

    def __init__(self, pages: Pages, catalogue: Catalogue, servers: Servers) -> None:
        self._pages = pages
        self._catalogue = catalogue
        self._servers = servers
        pages.add("/usage", self.usage)
        pages.add_post("/usage/sessions/{server}/keep", self.keep)
        pages.add_post("/usage/sessions/{server}/stop", self.stop)
        pages.add("/usage/sessions/{server}/switch", self.choices)
        pages.add_post("/usage/sessions/{server}/switch", self.switch)
        pages.add_post("/usage/sessions/{server}/stay", self.stay)
        pages.add_post("/usage/notices/read", self.read)

    async def usage(self, visit: Visit, *, error: str = "", status: int = 200) -> Response:
        """The page."""
        zone = self._pages.quotas.zone
        now = time.time()
        running = await visit.get("/api/sessions")
        quotas = await visit.get("/api/quotas")
        notices = await visit.get("/api/notices")
        many, first, last = period_of(visit, zone)
        by = {"from": first, "to": last}
        use = await visit.get("/api/usage", {**by, "by": ["day", "accelerator"]})
        titles = titles_of(self._catalogue)
        what = days(date.fromisoformat(last), many)
        figure, unit = ("card_hours", "hours of cards") if visit.query("of") == "cards" else ("session_hours", "hours")
        return visit.page(
            "usage.html",
            status=status,
            error=error,
            done=_DONE.get(visit.query("done"), ""),
            now=now,
            running=[
                {**session(one), "path": _path(one), "account": say_account(one["account"], visit.name)}
                for one in running
            ],
            accounts=[{**one, "limits": lines_of(one["limits"], now, zone)} for one in quotas["accounts"]],
            timezone=quotas["timezone"],
            notices=notices,
            chart=history(use["rows"], what, "accelerator", figure, titles, unit),
            figure=figure,
            unit=unit,
            total=use["total"],
            many=many,
            periods=PERIODS,
            first=first,
            last=last,
        )

    async def keep(self, visit: Visit) -> Response:
        """Keep my session."""
        return await self._act(visit, "POST", "keep", "kept")

    async def stay(self, visit: Visit) -> Response:
        """Do not switch after all."""
        return await self._act(visit, "DELETE", "switch", "stayed")

    async def stop(self, visit: Visit) -> Response:
        """Stop one's own session, as the hub's own page does."""
        server = visit.request.path_params["server"]
        name = "" if server == _DEFAULT_SERVER else server
        running = await visit.get("/api/sessions")
        if not any(one["server"] == name for one in running):
            return await self.usage(visit, error="This session does not run any more.", status=404)
        answer = await self._servers.stop(visit.name, name)
        if answer.word not in _STOPPED:
            text = answer.text or "The hub does not stop it just now. Try again in a minute."
            return await self.usage(visit, error=text, status=503)
        return visit.away("/usage?done=stopping")

    async def choices(
        self, visit: Visit, *, error: str = "", status: int = 200, typed: str = "", count: str = "1"
    ) -> Response:
        """What a session could be switched to."""
        server = visit.request.path_params["server"]
        said = await visit.get(f"/api/sessions/{part(server)}/switch")
        more = {"error": error, "typed": typed, "count": count}
        return visit.page("switch.html", status=status, server=server, choices=said["choices"], **more)

    async def switch(self, visit: Visit) -> Response:
        """Switch it, or wait in line for that."""
        server, wanted = visit.request.path_params["server"], visit.form.text("accelerator", "none")
        count = visit.form.text("count", "1") or "1"
        body: dict[str, Any] = {
            "accelerator": wanted,
            "count": int(count) if count.isdecimal() and count.isascii() and len(count) < 10 else 0,
        }
        try:
            answer = await visit.ask("POST", f"/api/sessions/{part(server)}/switch", body)
        except Refused as refused:
            text = "Write how many, as a whole number from 1 on." if body["count"] == 0 else refused.text
            return await self.choices(visit, error=text, status=refused.status, typed=wanted, count=count)
        return visit.away(f"/usage?done={'switching' if answer.said['outcome'] == 'starting' else 'waiting'}")

    async def read(self, visit: Visit) -> Response:
        """Dismiss a notice."""
        try:
            await visit.ask("DELETE", f"/api/notices/{part(visit.form.text('id'))}")
        except Refused as refused:
            return await self.usage(visit, error=refused.text, status=refused.status)
        return visit.away("/usage?done=read")

    async def _act(self, visit: Visit, method: str, what: str, done: str) -> Response:
        server = visit.request.path_params["server"]
        try:
            await visit.ask(method, f"/api/sessions/{part(server)}/{what}")
        except Refused as refused:
            return await self.usage(visit, error=refused.text, status=refused.status)
        return visit.away(f"/usage?done={done}")


def period_of(visit: Visit, zone: Any) -> tuple[int, str, str]:
    """Return how many days a history has, and its first and last day."""
    asked = visit.query("days")
    many = int(asked) if asked in map(str, PERIODS) else 30
    last = datetime.now(zone).date()
    what = days(last, many)
    return many, what[0], what[-1]


def titles_of(catalogue: Catalogue) -> dict[str, str]:
    """Return what accelerators are called on the pages, in the catalogue's order; sessions without are the first."""
    return {"": "no accelerator", **{key: card.title for key, card in catalogue.accelerators.items()}}


def lines_of(limits: Sequence[Mapping[str, Any]], now: float, zone: Any) -> list[dict[str, Any]]:
    """Return limits with how much of them is used as a part of 1, and how long that lasts."""
    found = []
    for one in limits:
        value, used = one["value"], one["used"]
        said, until = pace(one, now, zone)
        is_part = value and used is not None
        found.append(
            {
                **one,
                "part": min(1.0, used / value) if is_part else None,
                "pace": said,
                "pace_until": until,
                "window": window_of(one["field"]),
            }
        )
    return found


def _path(one: Mapping[str, Any]) -> str:
    return part(str(one["server"]) or _DEFAULT_SERVER)
