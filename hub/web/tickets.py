"""The paths about places in the queue: one's own, and for administrators everybody's.

FastAPI reads the annotations of paths when they are made, and they name values of their surroundings: no
`from __future__ import annotations` here.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from hub.admission import changes, reservations, tickets
from hub.admission.doors import Waits, change
from hub.admission.tickets import Ticket
from hub.web.door import Door, Visitor
from hub.web.leaving import leave as leave_ticket
from hub.web.places import Picture, Places
from hub.web.problems import Problem, answers
from hub.web.queue import Queue, TicketModel
from hub.web.queue_events import QueueLive, TicketStream
from hub.web.requests import CODES, RequestBody
from hub.web.switching import check_switch
from spawner.reservation import Reservation

__all__ = ["router"]

_CODES = (*CODES, "no-such-ticket")
TicketId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of the ticket.")]


class Tickets(BaseModel):
    """Places in the queue, first who comes first; those that are starting before those that wait."""

    tickets: list[TicketModel] = Field(description="Those that have not ended.")
    waiting: dict[str, int] = Field(
        description="How many wait in all, by accelerator; `none` is servers without one.",
    )


class _Move(BaseModel):
    model_config = ConfigDict(extra="forbid")

    before: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        description="In front of this ticket, with its priority; null: behind all."
    )


def router(door: Door, queue: Queue, places: Places, live: QueueLive) -> APIRouter:
    """Return the paths."""
    found = APIRouter(tags=["queue"])
    _own(found, Depends(door), queue, places)
    _live(found, door, queue, places, live)
    _for_administrators(found, Depends(door), queue, places)
    return found


def _own(found: APIRouter, visitor: Any, queue: Queue, places: Places) -> None:
    @found.get("/api/tickets", responses=answers(*CODES), summary="Your places in the queue", operation_id="tickets")
    async def mine(who: Annotated[Visitor, visitor]) -> Tickets:
        """Also says how many wait in all."""
        return await _listed(queue, places, who.identity.person.name)

    @found.get("/api/tickets/{ticket_id}", responses=answers(*_CODES), summary="One place", operation_id="ticket")
    async def one(who: Annotated[Visitor, visitor], ticket_id: TicketId) -> TicketModel:
        """Also after its end, for some weeks."""
        await queue.own(who, ticket_id)
        return await _shown(queue, places, ticket_id)

    @found.put(
        "/api/tickets/{ticket_id}",
        responses=answers(*_CODES, "not-waiting", "cannot-switch"),
        summary="Change what is waited for",
        operation_id="change_ticket",
    )
    async def put(who: Annotated[Visitor, visitor], ticket_id: TicketId, body: RequestBody) -> TicketModel:
        """The place is kept where no more is asked for than before, of the same accelerator and charged to the same
        account; otherwise it is lost, and the last one is taken."""
        ticket = await queue.own(who, ticket_id)
        if ticket.user != who.identity.person.name:
            raise Problem("not-allowed", "Only the owner may change what is waited for.")
        wish = queue.wish(who, ticket.server, body.options, body.account, notify=body.notify)
        await _check_switch(queue, ticket, wish.wanted)

        def work(connection: Connection) -> Waits | None:
            now = tickets.find(connection, ticket_id)
            if now is None or now.state != "waiting":
                return None
            return change(connection, queue.desk.store, now, wish)

        answer = await queue.decide(work)
        if answer is None:
            raise _not_waiting()
        return await places.joined(answer.ticket)

    @found.delete(
        "/api/tickets/{ticket_id}",
        status_code=204,
        response_class=Response,
        responses=answers(*_CODES, "too-late"),
        summary="Leave the queue",
        operation_id="leave_queue",
    )
    async def leave(who: Annotated[Visitor, visitor], ticket_id: TicketId) -> Response:
        """A server that is being started is stopped. Done twice it is done once.

        Where a session is switched and is being stopped already, it comes back; the ticket ends when it is there.
        """
        ticket = await queue.own(who, ticket_id)
        own = ticket.user == who.identity.person.name
        said = "You left the queue." if own else f"{who.identity.name} cancelled it."
        actor = "" if own else f"user:{who.identity.name}"
        left: object = ticket
        try:
            left = await leave_ticket(queue, ticket_id, "left" if own else "cancelled", said, actor)
        finally:  # also where the hub, which is asked afterwards, is not waited for
            if left is not None:
                places.changed()
        return Response(status_code=204)


async def _check_switch(queue: Queue, ticket: Ticket, wanted: Reservation) -> None:
    """Refuse a change that would make a switch to what the running session has; raises Problem `cannot-switch`."""
    if ticket.replaces is None:
        return
    replaces = ticket.replaces
    held = await queue.read(lambda connection: reservations.find(connection, replaces))
    if held is not None:
        check_switch(held, wanted.accelerator or "", wanted.count, await queue.desk.availability())


def _live(found: APIRouter, door: Door, queue: Queue, places: Places, live: QueueLive) -> None:
    visitor = Depends(door)

    @found.get(
        "/api/tickets/{ticket_id}/events",
        response_class=Response,
        responses={
            200: {
                "description": "Server-sent events: `ticket` (a document as of /api/tickets/{ticket_id}) at first and "
                "whenever it changes, `beat` when nothing has changed for 5 s, `login-ended` at the end of the login. "
                "Ends after the ticket has ended.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **answers(*_CODES, "full"),
        },
        summary="One place, as it changes",
        operation_id="ticket_events",
    )
    async def events(who: Annotated[Visitor, visitor], ticket_id: TicketId) -> Response:
        """Ask again when it ends before the ticket has."""
        await queue.own(who, ticket_id)
        return TicketStream(live, door, who, ticket_id, await _shown(queue, places, ticket_id))


def _for_administrators(found: APIRouter, visitor: Any, queue: Queue, places: Places) -> None:
    @found.get("/api/queue", responses=answers(*CODES), summary="The queue", operation_id="queue")
    async def everybody(who: Annotated[Visitor, visitor]) -> Tickets:
        """Everybody's places for administrators; for others their own."""
        return await _listed(queue, places, None if who.identity.admin else who.identity.person.name)

    @found.post(
        "/api/queue/{ticket_id}/move",
        responses=answers(*_CODES, "not-waiting"),
        summary="Give a place to somebody",
        operation_id="move_ticket",
    )
    async def move(who: Annotated[Visitor, visitor], ticket_id: TicketId, body: _Move) -> TicketModel:
        """For administrators; audited. Fair share between accounts still counts within a priority."""
        actor = await _administrator(queue, who, ticket_id)
        return await _moved(queue, places, ticket_id, lambda found: changes.move(found, ticket_id, body.before, actor))

    @found.post(
        "/api/queue/{ticket_id}/expedite",
        responses=answers(*_CODES, "not-waiting"),
        summary="Put somebody in front of all",
        operation_id="expedite_ticket",
    )
    async def expedite(who: Annotated[Visitor, visitor], ticket_id: TicketId) -> TicketModel:
        """For administrators; audited."""
        actor = await _administrator(queue, who, ticket_id)
        return await _moved(queue, places, ticket_id, lambda found: changes.expedite(found, ticket_id, actor))


async def _administrator(queue: Queue, who: Visitor, ticket_id: str) -> str:
    if not who.identity.admin:
        raise Problem("not-allowed", "Only administrators may change the order of the queue.")
    await queue.own(who, ticket_id)
    return f"{who.identity.kind}:{who.identity.name}"


async def _moved(
    queue: Queue, places: Places, ticket_id: str, work: Callable[[Connection], Ticket | None]
) -> TicketModel:
    if await queue.write(work) is None:
        raise _not_waiting()
    places.changed()
    return await _shown(queue, places, ticket_id)


async def _shown(queue: Queue, places: Places, ticket_id: str) -> TicketModel:
    ticket = await queue.read(lambda connection: tickets.find(connection, ticket_id))
    if ticket is None:
        raise Problem("no-such-ticket", "You have no such place in the queue; it may have ended long ago.")
    return await places.told(ticket)


async def _listed(queue: Queue, places: Places, user: str | None) -> Tickets:
    """Return this person's places, or with None everybody's."""
    if user is None:
        picture = await places.picture()
        return await asyncio.to_thread(_told, queue, picture, [*picture.tickets.values()])
    mine = await queue.read(lambda connection: tickets.of_user(connection, user))
    read_at = time.monotonic()
    picture = await places.picture(mine)
    if picture.began >= read_at:
        return _told(queue, picture, [one for one in picture.tickets.values() if one.user == user])
    own = {one.id: one for one in mine}  # it has these, and others perhaps that have ended
    return _told(queue, picture, [own[id] for id in picture.tickets if id in own])


def _told(queue: Queue, picture: Picture, wanted: Iterable[Ticket]) -> Tickets:
    return Tickets(
        tickets=[queue.model(one, picture.places.get(one.id), picture.now) for one in wanted],
        waiting=dict(picture.waiting),
    )


def _not_waiting() -> Problem:
    return Problem("not-waiting", "It does not wait any more: its server is being started, or it has ended.")
