"""The page of the queue: one's own places, changing and leaving them; for administrators everybody's."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from hub.admission.words import ordinal
from hub.quotas.subjects import say_account
from hub.web.pages.inner import Refused, part
from hub.web.pages.visits import Pages, Visit
from profiles.model import NO_ACCELERATOR, Catalogue, Engine
from profiles.offers import offers
from spawner import form
from spawner.capacity.availability import Availability
from spawner.describe import describe
from spawner.options import from_form, parse
from spawner.protocols import CapacityDesk
from spawner.refusal import Refusal
from spawner.request import ACCOUNT

__all__ = ["QueuePages"]

_MOST = 500
"""Places of others on one page."""

_DONE = {
    "left": "You left the queue.",
    "changed": "The request is changed.",
    "moved": "The place is moved.",
    "cancelled": "The place is cancelled.",
}
"""What is said after something was done, by the word in the address."""


class QueuePages:
    """Adds these pages.

    Parameters
    ----------
    desk
        Tells what is free.
    hide
        Whether people are told nothing of what they may not pick.
    mail
        Whether an e-mail can be sent when a server is up.
    """

    def __init__(
        self, pages: Pages, catalogue: Catalogue, engine: Engine, desk: CapacityDesk, *, hide: bool, mail: bool
    ) -> None:
        self._pages = pages
        self._catalogue = catalogue
        self._engine = engine
        self._desk = desk
        self._hide = hide
        self._mail = mail
        pages.add("/queue", self.queue)
        pages.add("/queue/{ticket_id}/change", self.change)
        pages.add_post("/queue/{ticket_id}/change", self.put)
        for what in ("leave", "cancel", "move", "expedite"):
            pages.add_post(f"/queue/{{ticket_id}}/{what}", self.act)

    async def queue(self, visit: Visit, *, error: str = "", status: int = 200) -> Response:
        """The page."""
        said = await visit.get("/api/tickets")
        free = await self._free(visit) if said["tickets"] else []
        everybody = (await visit.get("/api/queue"))["tickets"] if visit.admin else []
        person = visit.query("person")
        return visit.page(
            "queue.html",
            status=status,
            done=_DONE.get(visit.query("done"), ""),
            error=error,
            mine=[self._shown(visit, one) for one in said["tickets"]],
            all=[
                {**one, "account": say_account(one["account"], visit.name)}
                for one in [one for one in everybody if person in ("", one["user"])][:_MOST]
            ],
            number=len(everybody),
            most=_MOST,
            person=person,
            waiting=[(self._title(key), number) for key, number in said["waiting"].items()],
            free=free,
            mail=self._mail,
            now=time.time(),
        )

    async def act(self, visit: Visit) -> Response:
        """Leave, or as an administrator cancel, move or put in front."""
        ticket_id = visit.request.path_params["ticket_id"]
        what = visit.request.url.path.rpartition("/")[2]
        try:
            if what in ("leave", "cancel"):
                await visit.ask("DELETE", f"/api/tickets/{part(ticket_id)}")
            elif what == "move":
                body = {"before": visit.form.text("before") or None}
                await visit.ask("POST", f"/api/queue/{part(ticket_id)}/move", body)
            else:
                await visit.ask("POST", f"/api/queue/{part(ticket_id)}/expedite")
        except Refused as refused:
            return await self.queue(visit, error=refused.text, status=refused.status)
        done = {"leave": "left", "cancel": "cancelled"}.get(what, "moved")
        return visit.away(f"/queue?done={done}")

    async def change(self, visit: Visit) -> Response:
        """The form of another request for the same place."""
        ticket = await self._own(visit)
        wanted = {"accelerator": visit.query("accelerator")} if visit.query("accelerator") else {}
        selected = {**ticket["options"], **wanted}
        if wanted:
            selected.pop("count", None)
        account, notify = ticket["account"], bool(ticket["notify"])
        return await self._form(visit, ticket, selected, account=account, notify=notify)

    async def put(self, visit: Visit) -> Response:
        """Change it; what was typed is shown again where it is refused."""
        ticket = await self._own(visit)
        account, notify = visit.form.text(ACCOUNT), visit.form.text("notify") == "yes"
        fields = {name: values for name, values in visit.form.fields.items() if name not in (ACCOUNT, "notify")}
        selected: Mapping[str, Any] = ticket["options"]
        try:
            selected = from_form(fields, self._catalogue)
            body = {"options": selected, "account": account or None, "notify": notify}
            await visit.ask("PUT", f"/api/tickets/{part(ticket['id'])}", body)
        except (Refused, Refusal) as refused:
            status = refused.status if isinstance(refused, Refused) else refused.status_code
            more: dict[str, Any] = {"account": account, "notify": notify, "error": refused.text, "status": status}
            return await self._form(visit, ticket, selected, **more)
        return visit.away("/queue?done=changed")

    async def _own(self, visit: Visit) -> dict[str, Any]:
        ticket_id = visit.request.path_params["ticket_id"]
        found: dict[str, Any] = await visit.get(f"/api/tickets/{part(ticket_id)}")
        return found

    async def _form(
        self,
        visit: Visit,
        ticket: Mapping[str, Any],
        selected: Mapping[str, Any],
        *,
        account: str,
        notify: bool,
        error: str = "",
        status: int = 200,
    ) -> Response:
        person = visit.who.identity.person
        shown = form.visible(offers(self._catalogue, person, self._engine), hide_not_allowed=self._hide)
        fields = form.render(
            shown,
            selected=selected,
            notices=[],
            catalogue=self._catalogue,
            availability=await self._available(),
            user=visit.name,
            server=ticket["server"],
        )
        quotas = await visit.get("/api/quotas")
        return visit.page(
            "change.html",
            status=status,
            ticket=ticket,
            fields=fields,
            accounts=quotas["accounts"],
            account=account,
            notify=notify,
            mail=self._mail,
            error=error,
        )

    async def _available(self) -> Availability:
        try:
            return await self._desk.availability()
        except OSError:
            return Availability()

    async def _free(self, visit: Visit) -> list[tuple[str, str, str]]:
        """What this person could have at once: key, title, how many."""
        try:
            said = await visit.get("/api/capacity")
        except Refused:
            return []
        return [
            (key, str(one["title"]), f"{one['free']} of {one['total']} free")
            for key, one in said["accelerators"].items()
            if key != NO_ACCELERATOR and one["free"]
        ]

    def _shown(self, visit: Visit, ticket: Mapping[str, Any]) -> dict[str, Any]:
        base, name = self._pages.place.base_path, str(ticket["url"]).removeprefix(self._pages.place.base_path)
        return {
            **ticket,
            "ordinal": ordinal(ticket["place"]) if ticket["place"] else "",
            "account": say_account(ticket["account"], visit.name),
            "facts": self._facts(visit, ticket),
            # user/ann/two/ -> hub/spawn-pending/ann/two
            "pending": f"{base}hub/spawn-pending/{name.removeprefix('user/').rstrip('/')}",
        }

    def _facts(self, visit: Visit, ticket: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        options = {key: value for key, value in ticket["options"].items() if key != ACCOUNT}
        try:
            request = parse(options, self._catalogue, visit.who.identity.person, self._engine)
        except Refusal:  # the catalogue has changed since
            return (("Profile", str(ticket["profile"])),)
        return describe(request, self._catalogue, self._engine)

    def _title(self, key: str) -> str:
        card = self._catalogue.accelerators.get(key)
        return card.title if card else ("no accelerator" if key == NO_ACCELERATOR else key)
