"""The two doors: a start that has begun in the hub, and a request at the service. Both meet the same decision.

Functions of a connection, to be called in a write transaction. A reservation and a ticket belong to one server of one
person; asking again for the same changes nothing and has the same answer, so every door may be asked twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import Connection

from hub.admission import reservations, tickets
from hub.admission.decide import Admitted, Queued, limited, refuse_without_slot
from hub.admission.memory import Sight
from hub.admission.order import keeps_place
from hub.admission.outcome import SEEN_TO_S, STAYED, TURNED_BACK, give_back, tell
from hub.admission.standing import Asked, Standing
from hub.admission.store import Store
from hub.admission.tickets import Ticket
from hub.db.prepared import Step
from profiles.access import Person
from spawner.refusal import Refusal
from spawner.request import ACCOUNT
from spawner.reservation import Reservation

__all__ = ["Starts", "Waits", "Wish", "begin", "change", "request", "same_request"]

NO_SLOT = "As many servers as can be are starting just now; yours does when it is its turn."
_INSTEAD = "Another start of this server was asked for instead."
_SWITCH_GIVEN_UP = (
    "It was started anew, so its place in line for a switch is given up. Switch the accelerator again to wait for it."
)


@dataclass(frozen=True)
class Wish:
    """A request at the service.

    `wanted` has the id that its reservation would get, and in `account` what its owner wants to charge (empty: the
    default). `ticket_id` is that of a new ticket. `replaces`: the session of the same server that it is switched from.
    """

    person: Person
    wanted: Reservation
    ticket_id: str
    may_wait: bool = True
    notify: bool = False
    replaces: str | None = None


@dataclass(frozen=True)
class Starts:
    """It is reserved; `ticket` is starting. `new`: nobody sees to it yet."""

    ticket: Ticket
    new: bool


@dataclass(frozen=True)
class Waits:
    """It has a place in the queue; `queued` says where and why, None: only a start slot is missing, or nothing was
    decided that tells it."""

    ticket: Ticket
    queued: Queued | None

    def looked_up(self) -> Waits:
        """Work out the place, and return this. It blocks, and is best done after the transaction."""
        if self.queued is not None:
            _ = self.queued.place
        return self


def begin(
    connection: Connection, store: Store, wanted: Reservation, person: Person, *, ticket_id: str, expires_in_s: float
) -> Reservation | Waits:
    """Decide about a start that has begun in the hub, and hold what it needs.

    What was granted for this server and this request before is what it gets, under that one's id.

    Raises
    ------
    Refusal
        See `hub.admission.decide.decide`; nothing is written then.
    """
    sight = store.look(connection, person, wanted.account)
    if wanted.id in sight.known.held:
        return sight.known.held[wanted.id]
    mine = sight.known.held_for(wanted.user, wanted.server)
    for one in mine:
        if one.state == "granted" and same_request(one, wanted):
            if not _comes_back(sight, one):
                store.charged(sight, person, one.account)  # who queued for a group may have left it meanwhile
            begun = replace(one, state="begun", cpu_m=wanted.cpu_m, memory=wanted.memory)
            reservations.begin(connection, begun, expires_in_s=expires_in_s)
            return begun
    charged = store.charged(sight, person, wanted.account)
    # What an earlier start of this server may still hold is about to end: it counts as held, but not against its owner.
    asked = store.rules.asked(wanted, charged, replaces=mine[-1].id if mine else None)
    ticket = sight.known.ticket_of(wanted.user, wanted.server)
    if ticket is not None and ticket.state == "waiting" and same_request(ticket, asked):
        return Waits(ticket, store.place(connection, ticket))
    asked, answer, standing = _decided(connection, store, sight, charged, asked, ticket)
    for one in mine:
        give_back(connection, one.id, "changed")
    ours = ticket is not None and ticket.state == "starting" and same_request(ticket, asked)
    if isinstance(answer, Admitted):
        begun = replace(answer.reservation, state="begun", ticket=ticket.id if ours and ticket else None)
        _hold(connection, store, begun, expires_in_s, standing.now)
        if ours and ticket is not None:
            tickets.restarted(connection, ticket.id, begun.id)
        elif ticket is not None:
            _given_up(connection, ticket)
        return begun
    if ours and ticket is not None:
        tickets.put_back(connection, ticket.id, ticket.spawn_id or "", said=answer.why, wait_s=0.0)
        return Waits(ticket, answer)
    new = _ticket(asked, ticket_id, answer)
    return Waits(_stored(connection, sight, ticket, asked, new), answer)


def _comes_back(sight: Sight, held: Reservation) -> bool:
    """Whether this is kept for a session that was stopped for a switch: it ran on that account already."""
    ticket = sight.known.ticket_of(held.user, held.server)
    return ticket is not None and ticket.spawn_id == held.id and ticket.said in (STAYED, TURNED_BACK)


def request(connection: Connection, store: Store, wish: Wish) -> Starts | Waits:
    """Decide about a request at the service; what it may have at once is reserved, and its ticket is starting.

    Raises
    ------
    Refusal
        See `hub.admission.decide.decide` and `refuse_without_slot`, and `already-running` (409): the server runs or is
        being started.
    """
    wanted = wish.wanted
    sight = store.look(connection, wish.person, wanted.account)
    charged = store.charged(sight, wish.person, wanted.account)
    asked = store.rules.asked(wanted, charged, replaces=wish.replaces, may_wait=wish.may_wait)
    ticket = sight.known.ticket_of(wanted.user, wanted.server)
    if ticket is not None and same_request(ticket, asked):
        if wish.notify and not ticket.notify:
            ticket = tickets.notify(connection, ticket)
        if ticket.state == "starting":
            return Starts(ticket, new=False)
        return Waits(ticket, None)
    if _without_what_was_granted(connection, sight, ticket, wish):
        sight = store.look(connection, wish.person, wanted.account)
    slot = sight.known.slots_taken < store.rules.queue.slots(store.rules.engine)
    asked, answer, standing = _decided(connection, store, sight, charged, asked, ticket, slot=slot)
    new = partial(_ticket, asked, wish.ticket_id, answer, notify=wish.notify, replaces=wish.replaces)
    if isinstance(answer, Admitted) and not slot:
        refuse_without_slot(asked, standing)
    if isinstance(answer, Admitted) and slot:
        if ticket is not None and wish.replaces is None:
            _given_up(connection, ticket)
        elif ticket is not None:
            tickets.end(connection, ticket.id, "left", _INSTEAD)
        held = replace(answer.reservation, ticket=wish.ticket_id)
        starting = new(state="starting", spawn_id=held.id)
        stored, step = tickets.inserting(starting, sight.moment, seen_to_s=SEEN_TO_S)
        _hold(connection, store, held, store.rules.queue.reservation_s, standing.now, beside=[step])
        return Starts(stored, new=True)
    queued = answer if isinstance(answer, Queued) else None
    return Waits(_stored(connection, sight, ticket, asked, new()), queued)


def change(connection: Connection, store: Store, ticket: Ticket, wish: Wish) -> Waits:
    """Store another request of a waiting ticket; it keeps its place as `hub.admission.order.keeps_place` says.

    Raises
    ------
    Refusal
        As for a new request; the ticket stays as it was.
    """
    sight = store.look(connection, wish.person, wish.wanted.account)
    charged = store.charged(sight, wish.person, wish.wanted.account)
    asked = store.rules.asked(wish.wanted, charged, replaces=ticket.replaces)
    asked, answer, _ = _decided(connection, store, sight, charged, asked, ticket)
    new = _ticket(asked, ticket.id, answer, notify=wish.notify, replaces=ticket.replaces)
    stored = _stored(connection, sight, ticket, asked, new)
    return Waits(stored, None)


def same_request(one: Any, other: Any) -> bool:
    """Return whether two (reservations, tickets, requests) ask for the same; no account means whichever it is."""
    if (one.profile, one.accelerator, one.count) != (other.profile, other.accelerator, other.count):
        return False
    return _plain(one.options) == _plain(other.options) and _charges_the_same(one, other)


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != ACCOUNT}


def _charges_the_same(one: Any, other: Any) -> bool:
    return not one.account or not other.account or one.account == other.account


def _without_what_was_granted(connection: Connection, sight: Sight, ticket: Ticket | None, wish: Wish) -> bool:
    """Refuse a request for a server that runs or starts, unless it is to be switched. Give back what was granted for it
    before; return whether anything was."""
    server = wish.wanted.server
    held = sight.known.held_for(wish.wanted.user, server)
    if ticket is not None and ticket.state == "starting":
        busy = True
    else:
        busy = any(one.state == "begun" and one.id != wish.replaces for one in held)
    if busy:
        which = f"Your server {server!r}" if server else "Your server"
        raise Refusal(
            "already-running",
            f"{which} runs, or is being started. Stop it first, switch it to another accelerator, or start one of "
            "another name.",
            status=409,
        )
    for one in held:
        give_back(connection, one.id, "changed")
    return bool(held)


def _decided(
    connection: Connection,
    store: Store,
    sight: Sight,
    charged: str,
    asked: Asked,
    ticket: Ticket | None,
    *,
    slot: bool = True,
) -> tuple[Asked, Admitted | Queued, Standing]:
    """Decide about something new; a ticket for the same server is what it takes the place of.

    Return it with the time that limits leave it, the answer, and on what that was made. Where it would keep the
    ticket's place it is decided there, and nobody who asked in between is passed by it.
    """
    standing = store.standing(connection, sight, charged=charged, without=ticket.id if ticket is not None else "")
    asked = limited(asked, standing)
    if ticket is not None and keeps_place(ticket, asked):
        asked = replace(asked, rank=ticket.rank, priority=ticket.priority)
    return asked, store.decide(asked, standing, slot=slot), standing


def _stored(connection: Connection, sight: Sight, ticket: Ticket | None, asked: Asked, new: Ticket) -> Ticket:
    if ticket is not None and ticket.state == "waiting":
        return tickets.change(connection, replace(new, id=ticket.id), keeps_place=keeps_place(ticket, asked))
    if ticket is not None:
        tickets.end(connection, ticket.id, "left", _INSTEAD)
    return tickets.insert(connection, new, after=sight.moment)


def _given_up(connection: Connection, ticket: Ticket) -> None:
    """End a ticket for whose server something else starts; who waited for a switch is told, since that is no start."""
    tickets.end(connection, ticket.id, "left", _INSTEAD)
    if ticket.replaces is not None:
        tell(connection, ticket, "info", _SWITCH_GIVEN_UP, "instead")


def _hold(
    connection: Connection,
    store: Store,
    held: Reservation,
    expires_in_s: float,
    now: float,
    beside: Sequence[Step] = (),
) -> None:
    image = store.rules.image_of(held)
    reservations.insert(connection, held, expires_in_s=expires_in_s, image=image, now=now, beside=beside)


def _ticket(
    asked: Asked,
    ticket_id: str,
    answer: Admitted | Queued,
    *,
    state: tickets.State = "waiting",
    spawn_id: str | None = None,
    notify: bool = False,
    replaces: str | None = None,
) -> Ticket:
    return Ticket(
        id=ticket_id,
        user=asked.user,
        server=asked.server,
        profile=asked.profile,
        options={ACCOUNT: asked.account, **asked.options},  # a profile's own option of this name stays as it is
        account=asked.account,
        accelerator=asked.accelerator,
        count=asked.count,
        cpu_m=asked.cpu_m,
        memory=asked.memory,
        share=asked.share,
        session_s=answer.session_s if isinstance(answer, Queued) else answer.reservation.session_s,
        priority=asked.priority,
        state=state,
        spawn_id=spawn_id,
        replaces=replaces,
        notify=notify,
        said=answer.why if isinstance(answer, Queued) else NO_SLOT,
    )
