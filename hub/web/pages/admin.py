"""Use and limits, for administrators: occupancy, who used most, limits to edit, the audit trail, messages."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from starlette.responses import Response

from hub.usage.windows import day_start
from hub.web.pages.chart import Chart, bars
from hub.web.pages.figures import PERIODS, days
from hub.web.pages.inner import Refused, part
from hub.web.pages.usage import period_of, titles_of
from hub.web.pages.visits import Pages, Visit
from hub.web.problems import Problem
from profiles.model import NO_ACCELERATOR, Catalogue

__all__ = ["AdminPages"]

_TOP = 20
_DONE = {
    "set": "The limit is set. It holds for the next request; a budget also for sessions that run, within half a "
    "minute.",
    "removed": "The limit is removed.",
    "told": "The message is told.",
    "taken": "The message is taken back.",
}


class AdminPages:
    """Adds these pages."""

    def __init__(self, pages: Pages, catalogue: Catalogue) -> None:
        self._pages = pages
        self._catalogue = catalogue
        pages.add("/admin", self.overview)
        pages.add("/admin/quotas", self.quotas)
        pages.add_post("/admin/quotas/set", self.set)
        pages.add_post("/admin/quotas/remove", self.remove)
        pages.add("/admin/audit", self.audit)
        pages.add("/admin/messages", self.messages)
        pages.add_post("/admin/messages/tell", self.tell)
        pages.add_post("/admin/messages/take-back", self.take_back)

    async def overview(self, visit: Visit) -> Response:
        """Occupancy over time, top users."""
        _check(visit)
        zone = self._pages.quotas.zone
        many, first, last = period_of(visit, zone)
        asked: dict[str, Any] = {"everybody": "true", "from": first, "to": last}
        by_day = await visit.get("/api/usage", {**asked, "by": ["day", "accelerator"]})
        users = await visit.get("/api/usage", {**asked, "by": ["user"]})
        accounts = await visit.get("/api/usage", {**asked, "by": ["account"]})
        capacity = await visit.get("/api/capacity")
        refused = await visit.get("/api/refusals", {"from": first, "to": last})
        what = days(date.fromisoformat(last), many)
        return visit.page(
            "admin.html",
            occupancy=self._occupancy(by_day["rows"], what, capacity["accelerators"]),
            users=_most(users["rows"]),
            accounts=_most(accounts["rows"]),
            refused=refused["refusals"],
            total=users["total"],
            many=many,
            periods=PERIODS,
            first=first,
            last=last,
        )

    def _occupancy(
        self, rows: list[Mapping[str, Any]], what: list[str], counts: Mapping[str, Mapping[str, Any]]
    ) -> list[tuple[str, int, float, Chart]]:
        """Return (title, how many there are now, mean of the days in percent, picture) for each accelerator."""
        zone = self._pages.quotas.zone
        now = datetime.now(zone).timestamp()
        lasted_h = {}
        for day in what:
            begin = day_start(date.fromisoformat(day), zone)
            end = day_start(date.fromisoformat(day) + timedelta(days=1), zone)
            lasted_h[day] = max(1 / 60, (min(end, now) - begin) / 3600)
        titles, found = titles_of(self._catalogue), []
        for key, one in counts.items():
            total = one.get("total")
            if key == NO_ACCELERATOR or not total:
                continue
            used = {row["day"]: row["card_hours"] for row in rows if row["accelerator"] == key}
            values = {
                (day, key): 100 * hours / (total * lasted_h[day]) for day, hours in used.items() if day in lasted_h
            }
            mean = 100 * sum(used.values()) / (total * sum(lasted_h.values()))
            top = max([100.0, *values.values()])
            found.append((titles.get(key, key), total, mean, bars(what, values, titles, "%", top=top)))
        return found

    async def quotas(
        self, visit: Visit, *, error: str = "", status: int = 200, typed: Mapping[str, str] | None = None
    ) -> Response:
        """Limits as they are set, to be changed."""
        _check(visit)
        query = {name: visit.query(name) for name in ("contains", "after") if visit.query(name)}
        said = await visit.get("/api/quotas/all", query)
        return visit.page(
            "quotas.html",
            status=status,
            error=error,
            done=_DONE.get(visit.query("done"), ""),
            rows=said["rows"],
            more=said["rows"][-1]["subject"] if said["more"] else "",
            contains=visit.query("contains"),
            typed=typed or {},
            kinds=list(self._catalogue.accelerators),
        )

    async def set(self, visit: Visit) -> Response:
        """Set a limit: a new one, or the one that was seen with this etag."""
        etag = visit.form.text("etag")
        body = {"value": visit.form.text("value"), "although_declared": visit.form.text("although_declared") == "yes"}
        try:
            await visit.ask(
                "PUT", _limit(visit), body, headers={"If-Match": f'"{etag}"'} if etag else {"If-None-Match": "*"}
            )
        except Refused as refused:
            return await self.quotas(visit, error=refused.text, status=refused.status, typed=visit.form.typed())
        return visit.away("/admin/quotas?done=set")

    async def remove(self, visit: Visit) -> Response:
        """Remove a limit as it was seen."""
        query = {"although_declared": "true"} if visit.form.text("although_declared") == "yes" else {}
        headers = {"If-Match": f'"{visit.form.text("etag")}"'}
        try:
            await visit.ask("DELETE", _limit(visit), query=query, headers=headers)
        except Refused as refused:
            return await self.quotas(visit, error=refused.text, status=refused.status, typed=visit.form.typed())
        return visit.away("/admin/quotas?done=removed")

    async def audit(self, visit: Visit) -> Response:
        """Who changed what, when."""
        _check(visit)
        names = ("actor", "action", "subject", "older_than")
        asked = {name: visit.query(name) for name in names}
        error, status = "", 200
        said: dict[str, Any] = {"entries": [], "older_than": None}
        try:
            said = await visit.get("/api/audit", {name: value for name, value in asked.items() if value})
        except Refused as refused:
            error, status = refused.text, refused.status
        return visit.page("audit.html", status=status, error=error, asked=asked, **said)

    async def messages(
        self, visit: Visit, *, error: str = "", status: int = 200, typed: Mapping[str, str] | None = None
    ) -> Response:
        """Messages to everybody."""
        _check(visit)
        told = await visit.get("/api/notices", {"everybody": "true"})
        return visit.page(
            "messages.html",
            status=status,
            error=error,
            done=_DONE.get(visit.query("done"), ""),
            told=told,
            typed=typed or {},
            now=time.time(),
        )

    async def tell(self, visit: Visit) -> Response:
        """Tell everybody, or somebody."""
        hours = visit.form.text("hours")
        body: dict[str, Any] = {name: visit.form.text(name) for name in ("text", "user")}
        body["level"] = visit.form.text("level", "info")
        try:
            body["hours"] = float(hours.replace(",", ".")) if hours else None
        except ValueError:
            error = f"“{hours}” is no number of hours. Write one such as 24 or 1.5, or nothing."
            return await self.messages(visit, error=error, status=422, typed=visit.form.typed())
        try:
            await visit.ask("POST", "/api/notices", body)
        except Refused as refused:
            return await self.messages(visit, error=refused.text, status=refused.status, typed=visit.form.typed())
        return visit.away("/admin/messages?done=told")

    async def take_back(self, visit: Visit) -> Response:
        """Take a message to everybody back."""
        try:
            await visit.ask("DELETE", f"/api/notices/{part(visit.form.text('id'))}", query={"everybody": "true"})
        except Refused as refused:
            return await self.messages(visit, error=refused.text, status=refused.status)
        return visit.away("/admin/messages?done=taken")


def _check(visit: Visit) -> None:
    """Refuse others in the words for a page; what is told and done is checked by the API in any case."""
    if not visit.admin:
        raise Problem("not-allowed", "This page is for administrators.")


def _limit(visit: Visit) -> str:
    return f"/api/quotas/{part(visit.form.text('subject'))}/{part(visit.form.text('field'))}"


def _most(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda row: (-row["accelerator_hours"], -row["session_hours"]))[:_TOP]
