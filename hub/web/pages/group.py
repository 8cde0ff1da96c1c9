"""Group: what a group used, by member, and what is left of its budgets; for those who lead it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import date
from typing import Any

from starlette.responses import Response

from hub.web.pages.figures import PERIODS, days, history
from hub.web.pages.inner import Refused
from hub.web.pages.usage import lines_of, period_of
from hub.web.pages.visits import Pages, Visit

__all__ = ["GroupPages"]


class GroupPages:
    """Adds the page."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        pages.add("/group", self.group)

    async def group(self, visit: Visit) -> Response:
        """The page; without a group in the address it is that of the only one, or asks which."""
        led = list(visit.groups)
        if visit.admin:
            led = sorted({*led, *await self._with_limits(visit)})
        wanted = visit.query("group") or (led[0] if led else "")
        if not wanted:
            text = "You lead no group. Who leads which groups is a setting (quotas.leaders): ask the administrators."
            return visit.page("problem.html", status=403 if not visit.admin else 200, title="No group", text=text)
        return await self._page(visit, wanted, led)

    async def _page(self, visit: Visit, wanted: str, led: list[str]) -> Response:
        zone, now = self._pages.quotas.zone, time.time()
        many, first, last = period_of(visit, zone)
        account = {"account": f"group:{wanted}", "from": first, "to": last}
        by_day = await self._by_day(visit, account)
        members = await visit.get("/api/usage", {**account, "by": ["user"]})
        rows = sorted(members["rows"], key=lambda row: (-row["accelerator_hours"], -row["session_hours"]))
        figure, unit = ("session_hours", "hours of sessions")
        if members["total"]["accelerator_hours"]:
            figure, unit = "accelerator_hours", "card-hours"
        # The largest share at the bottom of each bar, where it is compared best.
        titles = {row["user"]: row["user"] for row in rows}
        what = days(date.fromisoformat(last), many)
        quotas = await visit.get("/api/quotas", {"group": wanted})
        limits: list[dict[str, Any]] = quotas["accounts"][0]["limits"] if quotas["accounts"] else []
        return visit.page(
            "group.html",
            group=wanted,
            groups=led if wanted in led else [*led, wanted],
            limits=lines_of(limits, now, zone),
            timezone=quotas["timezone"],
            rows=rows,
            total=members["total"],
            chart=history(by_day, what, "user", figure, titles, unit),
            unit=unit,
            many=many,
            periods=PERIODS,
            first=first,
            last=last,
        )

    async def _by_day(self, visit: Visit, account: Mapping[str, str]) -> list[dict[str, Any]]:
        """What was used each day, by member; of a group that is too large for that, all together."""
        try:
            said = await visit.get("/api/usage", {**account, "by": ["day", "user"]})
        except Refused as refused:
            if refused.status != 422:
                raise
            said = await visit.get("/api/usage", {**account, "by": ["day"]})
            return [{**row, "user": "all members"} for row in said["rows"]]
        rows: list[dict[str, Any]] = said["rows"]
        return rows

    async def _with_limits(self, visit: Visit) -> set[str]:
        """The groups that have limits: those that can be charged."""
        try:
            said = await visit.get("/api/quotas/all")
        except Refused:
            return set()
        return {
            name
            for prefix, _, name in (row["subject"].partition(":") for row in said["rows"])
            if prefix in ("group", "member")
        }
