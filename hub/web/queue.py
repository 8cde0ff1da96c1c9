"""What the paths of the queue share: the documents, and how their work is done in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, Field
from sqlalchemy import Connection, select
from sqlalchemy import Engine as Database

from hub.admission import reservations, tickets
from hub.admission.decide import Queued
from hub.admission.desk import SqlDesk
from hub.admission.doors import Waits, Wish
from hub.admission.hub_api import Servers
from hub.admission.outcome import STAYED, TURNED_BACK
from hub.admission.starter import Starter
from hub.admission.tickets import Ticket
from hub.db.clock import Now
from hub.db.transaction import read, write
from hub.web.door import Visitor
from hub.web.place import Place
from hub.web.problems import Problem, RefusedRequest
from spawner import options as parser
from spawner.ids import new_id
from spawner.occupied import occupied
from spawner.refusal import Refusal
from spawner.request import ACCOUNT
from spawner.reservation import Reservation

__all__ = ["Queue", "TicketModel", "why_of"]

T = TypeVar("T")

_BEGUN_WITHIN_S = 2.0
_LOOK_S = 0.05
_STARTS = "Your turn has come, and your server is being started."
_SWITCHES = "It is there: your session is stopped soon and starts again with it."


class TicketModel(BaseModel):
    """A place in the queue, or what has become of it."""

    id: str = Field(description="Names it; also in the answer to a request.")
    user: str = Field(description="Whose it is.")
    server: str = Field(description="Name of the server; empty: the default one.")
    profile: str = Field(description="Key of the profile.")
    accelerator: str | None = Field(description="Key of the accelerator; null: none.")
    title: str = Field(description="What the accelerator is called on the pages; empty: none.")
    count: int = Field(description="How many of it.")
    account: str = Field(description="What will be charged.")
    options: dict[str, Any] = Field(description="The request.")
    state: str = Field(description="`waiting`, `starting` or `ended`.")
    place: int | None = Field(
        description="Place in the line of this accelerator; null: it does not wait, or just after the request is not "
        "known yet."
    )
    of: int | None = Field(description="How many stand in that line.")
    why: str = Field(description="Why it waits, or how it ended, in a sentence or two.")
    estimate: str = Field(description="When its start is expected, in words; empty: it does not wait.")
    starts_at: str | None = Field(description="The same as a moment in UTC; null: not known.")
    needs_login: bool = Field(description="Whether it waits for its owner to log in again.")
    notify: bool = Field(description="Whether its owner gets an e-mail when the server is up.")
    replaces: bool = Field(description="Whether a running session is switched by it.")
    attempts: int = Field(description="Starts that failed so far.")
    asked_at: str = Field(description="When it was asked for, in UTC.")
    ended_as: str | None = Field(description="`started`, `left`, `cancelled`, `refused`, `failed` or `lapsed`.")
    url: str = Field(description="Path of the server, where it runs once it is started.")


@dataclass(frozen=True)
class Queue:
    """The queue, as the service works on it.

    Parameters
    ----------
    hub, starter
        Where servers are started and stopped, and what sees to it.
    """

    desk: SqlDesk
    database: Database
    hub: Servers
    starter: Starter
    place: Place

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do this in a write transaction; raises Problem for a refusal, and where the database is away."""
        return await self._do(lambda: write(self.database, work), changes=True)

    async def decide(self, work: Callable[[Connection], T]) -> T:
        """The same for a decision. Where somebody waits is not worked out for them alone; see `hub.web.places`."""
        try:
            answer = await self.desk.decide("service", lambda: write(self.database, work))
        except Refusal as refusal:
            raise RefusedRequest(refusal.code, refusal.text, refusal.status_code, refusal.headers) from refusal
        # It would keep all that was known at the decision for as long as the answer takes.
        return replace(answer, queued=None) if isinstance(answer, Waits) else answer

    async def read(self, work: Callable[[Connection], T]) -> T:
        """The same, where nothing is written."""
        return await self._do(lambda: read(self.database, work), changes=False)

    @staticmethod
    def now(connection: Connection) -> float:
        """Return the present moment by the database's clock."""
        return float(connection.scalar(select(Now())) or 0.0)

    async def _do(self, work: Callable[[], T], *, changes: bool) -> T:
        try:
            return await self.desk.ask(work, changes=changes)
        except Refusal as refusal:
            raise RefusedRequest(refusal.code, refusal.text, refusal.status_code, refusal.headers) from refusal

    def wish(self, who: Visitor, server: str, options: Mapping[str, Any], account: str | None, **more: Any) -> Wish:
        """Return what somebody asks for, checked against the catalogue by the parser of all doors.

        Raises
        ------
        Problem
            With the code of the refusal.
        """
        rules = self.desk.store.rules
        person = who.identity.person
        given = dict(options) | ({ACCOUNT: account} if account else {})
        try:
            request = parser.parse(given, rules.catalogue, person, rules.engine)
        except Refusal as refusal:
            raise RefusedRequest(refusal.code, refusal.text, refusal.status_code, refusal.headers) from refusal
        cpu_m, memory = occupied(request, rules.catalogue)
        wanted = Reservation(
            id=new_id(),
            user=person.name,
            server=server,
            profile=request.profile,
            accelerator=request.accelerator,
            count=request.count,
            cpu_m=cpu_m,
            memory=memory,
            account=request.account or "",
            options=request.options(),
        )
        return Wish(person, wanted, new_id(), **more)

    def model(self, ticket: Ticket, found: Queued | None, now: float | None = None) -> TicketModel:
        """Return a ticket as the API tells it.

        Parameters
        ----------
        now
            The present moment by the database's clock, for the words of the estimate; default: that of its plan.
        """
        waits = ticket.state == "waiting"
        queued = found if waits else None
        if now is None:
            now = ticket.changed_at if queued is None else queued.now
        starts = queued.estimate.at if queued is not None else None
        name = f"/{quote(ticket.server, safe='')}" if ticket.server else ""
        return TicketModel(
            id=ticket.id,
            user=ticket.user,
            server=ticket.server,
            profile=ticket.profile,
            accelerator=ticket.accelerator,
            title=self.desk.store.rules.titles.get(ticket.accelerator or "", ticket.accelerator or ""),
            count=ticket.count,
            account=ticket.account,
            options=dict(ticket.options),
            state=ticket.state,
            place=queued.place if queued is not None else None,
            of=queued.of if queued is not None else None,
            why=why_of(ticket, queued),
            estimate=queued.estimate.text(now) if queued is not None else "",
            starts_at=_moment(starts),
            needs_login=ticket.needs_login,
            notify=ticket.notify,
            replaces=ticket.replaces is not None,
            attempts=ticket.attempts,
            asked_at=_moment(ticket.asked_at) or "",
            ended_as=ticket.ended_as,
            url=f"{self.place.base_path}user/{quote(ticket.user, safe='@')}{name}/",
        )

    async def begun(self, ticket: Ticket) -> bool:
        """Wait a moment until the hub has begun with a starting ticket, and return whether it has."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _BEGUN_WITHIN_S
        while True:
            held = await self.read(lambda connection: reservations.find(connection, ticket.spawn_id or ""))
            if held is None or held.state == "begun" or loop.time() >= deadline:
                return held is not None and held.state == "begun"
            await asyncio.sleep(_LOOK_S)

    async def own(self, who: Visitor, ticket_id: str) -> Ticket:
        """Return a ticket that this visitor may see: their own; administrators see all.

        Raises
        ------
        Problem
            `no-such-ticket`.
        """
        found = await self.read(lambda connection: tickets.find(connection, ticket_id))
        mine = found is not None and who.identity.kind == "user" and found.user == who.identity.name
        if found is None or not (mine or who.identity.admin):
            raise Problem("no-such-ticket", "You have no such place in the queue; it may have ended long ago.")
        return found


def why_of(ticket: Ticket, queued: Queued | None = None) -> str:
    """Return why a ticket waits, what is being done about it, or how it ended."""
    if ticket.state == "starting":
        if ticket.said in (STAYED, TURNED_BACK):
            return ticket.said
        return _STARTS if ticket.replaces is None else _SWITCHES  # what is stored is why it waited before
    if queued is not None and (queued.cause or not ticket.said):
        return f"{queued.why} {ticket.said}" if queued.cause in ("retry",) and ticket.said else queued.why
    return ticket.said


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
