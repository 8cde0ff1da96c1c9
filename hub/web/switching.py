"""The paths by which a running session is switched to another accelerator, or queues for it while it goes on.

The same options with another accelerator, asked for at the same door as everything else. Asked by the session itself,
with its own token, or by its owner.

FastAPI reads the annotations of paths when they are made, and they name values of their surroundings: no
`from __future__ import annotations` here.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from hub.admission import reservations, tickets
from hub.admission.decide import Queued
from hub.admission.doors import Starts, Waits, Wish, request
from hub.admission.outcome import comes_back
from hub.admission.tickets import Ticket
from hub.web.door import Door
from hub.web.leaving import leave
from hub.web.places import Places
from hub.web.problems import Problem, RefusedRequest, answers
from hub.web.queue import Queue, why_of
from hub.web.requests import CODES
from hub.web.session_documents import InLine
from hub.web.sessions import Owner, Said, Server, find_owner
from profiles.access import Person
from profiles.model import NO_ACCELERATOR
from profiles.offers import Offer, ProfileOffer, offers
from spawner.capacity.availability import Availability
from spawner.refusal import Refusal
from spawner.request import ACCOUNT
from spawner.reservation import Reservation

__all__ = ["check_switch", "in_line", "router"]

_MOST = 64
"""How many cards are offered at most where the catalogue does not say."""


class Choice(BaseModel):
    """An accelerator that a session could be switched to."""

    accelerator: str = Field(description="Key; empty: none.")
    title: str = Field(description="What it is called on screen.")
    simulated: bool = Field(description="Whether it is only imagined.")
    current: bool = Field(description="What the session has.")
    free: int | None = Field(description="How many are free; null: nobody can tell now.")
    total: int | None = Field(description="How many there are.")
    ahead: int = Field(description="How many wait for it.")
    estimate: str = Field(description="When one that asks now would have it, in words; empty: at once, or not known.")
    refused: str = Field(description="Why this person cannot have it; empty: they can.")
    most: int = Field(description="How many one session may have.")


class Choices(BaseModel):
    """All of them, in the catalogue's order."""

    choices: list[Choice] = Field(description="What it may be switched to.")


class Wanted(BaseModel):
    """Which one."""

    model_config = ConfigDict(extra="forbid")

    accelerator: Annotated[str, Field(max_length=63)] = Field(description="Key; empty or `none`: none.")
    count: Annotated[int, Field(ge=1, le=1000)] = Field(1, description="How many.")


class Switched(BaseModel):
    """What came of it."""

    outcome: Literal["waiting", "starting"] = Field(
        description="`waiting`: there is a ticket, the session goes on; `starting`: it is about to be stopped."
    )
    text: str = Field(description="The same for the person.")


def router(door: Door, queue: Queue, places: Places) -> APIRouter:
    """Return the paths."""
    made = APIRouter(prefix="/api/sessions/{server}/switch", tags=["sessions"])

    @made.get(
        "",
        responses=answers(*CODES, "no-such-session"),
        summary="What a session could be switched to",
        operation_id="session_choices",
    )
    async def choices(http: Request, server: Server) -> Choices:
        """What its profile offers, with what is free of it."""
        owner = await find_owner(door, http, server)
        held = await _running(queue, owner)
        availability = await queue.desk.availability()

        profile = _profile(queue, owner.visitor.identity.person, held)
        most = _most(profile)
        found = [_choice(one, held, availability, most) for one in _offers(profile)]
        wishes: dict[str, Wish] = {}
        for at, one in enumerate(found):
            if not (one.current or one.refused):
                try:
                    wishes[one.accelerator] = _wish(
                        queue, owner, held, Wanted(accelerator=one.accelerator, count=1), profile
                    )
                except RefusedRequest as refused:  # it does not go with the session's other options
                    found[at] = one.model_copy(update={"refused": refused.detail})

        def told(connection: Connection) -> Choices:
            ahead = Counter(one.accelerator or NO_ACCELERATOR for one in tickets.waiting(connection))
            when = _foreseen(connection, queue, wishes)
            return Choices(
                choices=[
                    one.model_copy(
                        update={"ahead": ahead[one.accelerator or NO_ACCELERATOR], **when.get(one.accelerator, {})}
                    )
                    for one in found
                ]
            )

        return await queue.read(told)

    @made.post(
        "",
        status_code=202,
        responses=answers(*CODES, "no-such-session", "cannot-switch"),
        summary="Switch the accelerator",
        operation_id="session_switch",
        response_description="It is being switched, or waits for its turn",
    )
    async def switch(http: Request, server: Server, wanted: Wanted) -> Switched:
        """The session goes on until the other one is there; then it is warned, stopped, and started with that."""
        owner = await find_owner(door, http, server)
        held = await _running(queue, owner)
        check_switch(held, wanted.accelerator, wanted.count, await queue.desk.availability())
        wish = _wish(queue, owner, held, wanted, _profile(queue, owner.visitor.identity.person, held))
        answer = await queue.decide(lambda connection: request(connection, queue.desk.store, wish))
        return await _said(queue, places, answer)

    @made.delete(
        "",
        responses=answers(*CODES, "no-such-session", "too-late"),
        summary="Do not switch after all",
        operation_id="session_stay",
    )
    async def stay(http: Request, server: Server) -> Said:
        """Leave the queue for the other accelerator. The session goes on; if it is being stopped already, it comes back
        with what it had."""
        owner = await find_owner(door, http, server)
        ticket = await queue.read(lambda connection: tickets.of_server(connection, owner.user, owner.server))
        if ticket is None or (ticket.replaces is None and not comes_back(ticket)):
            return Said(text="Nothing was being waited for.")
        left = await leave(queue, ticket.id, "left", "You stayed with what you had.")
        if left is None:
            return Said(text="Nothing was being waited for.")
        if left.comes_back:
            return Said(text="It is being stopped already; it comes back with what it had.")
        return Said(text="You left the queue; your session goes on.")

    return made


def in_line(queue: Queue | None, places: Places | None) -> Callable[[Connection, Ticket], InLine | None]:
    """Return what tells where a ticket stands; without a queue nobody can."""

    def told(connection: Connection, ticket: Ticket) -> InLine | None:
        if queue is not None and ticket.state == "starting" and ticket.replaces is not None:
            stops_at = ticket.changed_at + queue.desk.store.rules.queue.switch_grace_s
            return InLine(0, 0, why_of(ticket), stops_at)
        if queue is None or places is None or ticket.state != "waiting":
            return None
        picture = places.at_rest(ticket)
        found = queue.desk.store.place(connection, ticket) if picture is None else picture.places.get(ticket.id)
        if found is None:
            return None
        estimate = found.estimate.text(queue.now(connection))
        return InLine(found.place, found.of, " ".join(part for part in (found.why, estimate) if part))

    return told


async def _running(queue: Queue, owner: Owner) -> Reservation:
    held = await queue.read(lambda connection: reservations.of_server(connection, owner.user, owner.server))
    found = next((one for one in reversed(held) if one.state == "begun" and one.seen), None)
    if found is None:
        raise Problem("no-such-session", "This server does not run, or has just been started.")
    return found


def _wish(queue: Queue, owner: Owner, held: Reservation, wanted: Wanted, profile: ProfileOffer | None) -> Wish:
    """What a session asks for that is to be switched.

    Raises
    ------
    Problem
        With the code of the refusal.
    """
    options = _options(held, wanted, profile)
    wish = queue.wish(owner.visitor, owner.server, options, held.account or None, may_wait=True, notify=False)
    return replace(wish, replaces=held.id)


def _foreseen(connection: Connection, queue: Queue, wishes: Mapping[str, Wish]) -> dict[str, dict[str, str]]:
    """When each of these would start that does not start at once, in words; or why it is refused."""
    store = queue.desk.store
    found: dict[str, dict[str, str]] = {}
    for key, wish in wishes.items():
        try:
            sight = store.look(connection, wish.person, wish.wanted.account)
            charged = store.charged(sight, wish.person, wish.wanted.account)
            standing = store.standing(connection, sight, charged=charged)
            asked = store.rules.asked(wish.wanted, charged, replaces=wish.replaces)
            answer = store.decide(asked, standing)
        except Refusal as refusal:
            found[key] = {"refused": refusal.text}
            continue
        if isinstance(answer, Queued):
            found[key] = {"estimate": answer.estimate.text(standing.now)}
    return found


def _options(held: Reservation, wanted: Wanted, profile: ProfileOffer | None) -> dict[str, object]:
    """The options that the session was started with, but for the accelerator.

    How many is held of every session; it is an option only where the profile lets one choose it.
    """
    options = {key: value for key, value in held.options.items() if key not in (ACCOUNT, "accelerator", "count")}
    key = wanted.accelerator or NO_ACCELERATOR
    options |= {"profile": held.profile, "accelerator": key}
    chosen = profile is not None and any(one.key == "count" for one in profile.options)
    if key != NO_ACCELERATOR and (wanted.count > 1 or chosen):
        options["count"] = wanted.count
    return options


def check_switch(held: Reservation, accelerator: str, count: int, availability: Availability) -> None:
    """Refuse what is no switch: what a session has already, and more or fewer of the same kind where there are not that
    many beside those that it keeps.

    It keeps them until the other start has succeeded, so a place in the queue would wait for what never comes.

    Parameters
    ----------
    accelerator
        Key; empty or `none`: none.

    Raises
    ------
    Problem
        `cannot-switch`.
    """
    key = "" if accelerator == NO_ACCELERATOR else accelerator
    if (held.accelerator or "") != key:
        return
    if not key or held.count == count:
        raise Problem("cannot-switch", "The session has that already.")
    known = availability.count(key)
    if known is None or known.unknown or not availability.fresh:
        return
    usable = known.total - known.used_by_others - known.held_back
    if held.count + count > usable:
        raise Problem(
            "cannot-switch",
            f"The session keeps what it has until the other start has succeeded, and {usable} can be used in all. Stop "
            f"the session, and start it with {count}.",
        )


async def _said(queue: Queue, places: Places, answer: Starts | Waits) -> Switched:
    if isinstance(answer, Starts):
        if answer.new:
            queue.starter.see_to(answer.ticket)
        grace_s = queue.desk.store.rules.queue.switch_grace_s
        return Switched(
            outcome="starting",
            text=f"It is there. This session is stopped in about {grace_s} seconds and starts again with it: save now.",
        )
    now = await places.joined(answer.ticket)
    if now.place is None:
        return Switched(outcome="starting" if now.state == "starting" else "waiting", text=now.why)
    return Switched(
        outcome="waiting", text=f"You are number {now.place} of {now.of} for it; this session goes on. {now.why}"
    )


def _profile(queue: Queue, person: Person, held: Reservation) -> ProfileOffer | None:
    rules = queue.desk.store.rules
    return next((one for one in offers(rules.catalogue, person, rules.engine) if one.key == held.profile), None)


def _offers(profile: ProfileOffer | None) -> tuple[Offer, ...]:
    option = next((one for one in profile.options if one.key == "accelerator"), None) if profile else None
    return option.offers if option is not None else ()


def _most(profile: ProfileOffer | None) -> int:
    """How many accelerators the profile lets one ask for."""
    option = next((one for one in profile.options if one.key == "count"), None) if profile else None
    if option is None:
        return 1
    listed = [int(offer.key) for offer in option.offers]
    return max(listed, default=int(option.maximum or 1))


def _choice(offer: Offer, held: Reservation, availability: Availability, most: int) -> Choice:
    """What is offered; who waits for it, and when one would have it, is still to be told."""
    none = offer.key == NO_ACCELERATOR
    free = None if none else availability.free(offer.key, held.user)
    return Choice(
        accelerator="" if none else offer.key,
        title="" if none else offer.title.removesuffix(" (simulated)"),
        simulated=offer.simulated,
        current=(held.accelerator or NO_ACCELERATOR) == offer.key,
        free=None if free is None else free.free,
        total=None if free is None else free.total,
        ahead=0,
        estimate="",
        refused=offer.reason or "",
        most=1 if none else min(most, offer.at_most or _MOST),
    )
