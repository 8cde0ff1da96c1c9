"""What becomes of tickets and reservations beside starting: ends, leaving, moves, and what a switch keeps.

Functions of a connection; whoever calls them has a write transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from sqlalchemy import Connection

from hub import audit
from hub.admission import reservations, tickets
from hub.admission.outcome import SEEN_TO_S, come_back, give_back, kept, tell
from hub.admission.tickets import Ticket
from hub.idle import sessions
from hub.mail import addresses
from spawner.ids import new_id
from spawner.reservation import Reservation

__all__ = ["KEPT_S", "ended", "expedite", "forget_user", "leave", "move", "starting_as", "to_be_stopped", "unwanted"]

KEPT_S = 300.0
"""How long what a session held that was switched from is kept for its return, from the last time that somebody has seen
to the switch: long enough for another controller to take that over."""

_APART_S = 0.001
"""Between ranks that are made anew; a double tells moments of this century apart by less than a millionth."""

_STOPPED = "The start was cancelled."
_NOBODY = "The hub does not know this person any more."


def ended(connection: Connection, spawn_id: str, *, otherwise: str = "ended", at: float | None = None) -> bool:
    """Give back what a start or session held; return whether anything was.

    If it is switched to another accelerator just now, what it held is kept for its return, under a new id, until the
    other is up.

    Parameters
    ----------
    otherwise
        Why it ended, for the ledger, where nothing is known that ended it.
    at
        When it ended, for `hub.usage.ledger.close`.
    """
    held = reservations.find(connection, spawn_id)
    if held is None:
        return False
    ticket = tickets.of_server(connection, held.user, held.server)
    if ticket is not None and (ticket.state != "starting" or ticket.replaces != spawn_id):
        ticket = None
    if ticket is not None and held.ticket == ticket.id:
        otherwise = "switch"
    reservations.delete(connection, (spawn_id,), sessions.why(connection, spawn_id) or otherwise, at)
    if ticket is not None and held.options:
        _keep(connection, ticket, held)
    return True


def _keep(connection: Connection, ticket: Ticket, old: Reservation) -> None:
    """Keep what a session held for its return; if its owner stays with it, that begins now."""
    kept = replace(old, id=new_id(), seen=False, state="granted", ticket=ticket.id)
    reservations.insert(connection, kept, expires_in_s=KEPT_S)
    if ticket.spawn_id == old.id:
        tickets.turn_back(connection, ticket, kept, said=ticket.said, seen_to_s=SEEN_TO_S)


def leave(
    connection: Connection, ticket_id: str, ended_as: Literal["left", "cancelled"], said: str, actor: str = ""
) -> Ticket | None:
    """End a ticket at somebody's wish and return it as it was; None: it had ended before.

    What was granted for it is given back; its start has to be stopped by whoever calls this, see `to_be_stopped`. The
    ticket of a switch goes on where the session is being stopped already: then it brings that one back.

    Parameters
    ----------
    actor
        Who did it, where that is not its owner; audited.

    Raises
    ------
    Refusal
        As of `hub.admission.outcome.come_back`; nothing has changed.
    """
    ticket = tickets.find(connection, ticket_id)
    if ticket is None or not (come_back(connection, ticket) or _end(connection, ticket, ended_as, said)):
        return None
    if actor:
        audit.record(connection, actor, "ticket.cancel", _subject(ticket), before=_told(ticket))
        now = tickets.find(connection, ticket_id)
        if now is not None and now.state == "ended":
            tell(connection, ticket, "warning", f"Its place in line is gone: {said}", "cancelled")
    return ticket


def unwanted(connection: Connection, spawn_id: str) -> bool:
    """End the ticket whose start has been stopped at the hub, by its owner or an administrator; return whether there
    was one. What was stopped for a switch comes back all the same; once it does, it can be stopped as well."""
    found = starting_as(connection, spawn_id)
    if found is None or found.spawn_id == found.replaces or kept(connection, found):
        return False
    return _end(connection, found, "left", _STOPPED)


def starting_as(connection: Connection, spawn_id: str) -> Ticket | None:
    """Return the ticket whose start has this id; None: there is none."""
    return next((one for one in tickets.starting(connection) if one.spawn_id == spawn_id), None)


def to_be_stopped(connection: Connection, left: Ticket) -> bool:
    """Return whether the hub is to be asked to stop the server of a ticket that was left: not if the session goes on
    that would have been switched, or comes back."""
    now = tickets.find(connection, left.id)
    if left.state != "starting" or now is None or now.state != "ended":
        return False
    return left.replaces is None or reservations.find(connection, left.replaces) is None


def _end(connection: Connection, ticket: Ticket, ended_as: Literal["left", "cancelled"], said: str) -> bool:
    if not tickets.end(connection, ticket.id, ended_as, said):
        return False
    if ticket.spawn_id is not None:
        give_back(connection, ticket.spawn_id, "left")
    if ticket.replaces is not None:
        sessions.withdraw(connection, ticket.replaces, "switch")
    return True


def move(connection: Connection, ticket_id: str, before: str | None, actor: str) -> Ticket | None:
    """Put a waiting ticket in front of another one, or (`before` None) behind all; return it, None: it does not wait.

    The other's priority is taken over too: within another one, places would mean nothing.
    """
    ticket = tickets.find(connection, ticket_id)
    waiting = [one for one in tickets.waiting(connection) if one.id != ticket_id]
    if ticket is None or ticket.state != "waiting":
        return None
    if before == ticket_id:
        return ticket
    if before is None:
        rank = max((one.rank for one in waiting), default=ticket.rank) + 1.0
        # One that was put in front has a priority above all, and would stay there.
        priority = min([ticket.priority, *(one.priority for one in waiting)])
    else:
        place = next((place for place, one in enumerate(waiting) if one.id == before), None)
        if place is None:
            return None
        other = waiting[place]
        rank = _in_front(connection, [one for one in waiting[:place] if one.priority == other.priority], other)
        priority = other.priority
    moved = tickets.move(connection, ticket_id, rank=rank, priority=priority)
    if moved is not None:
        audit.record(connection, actor, "ticket.move", _subject(ticket), before=_told(ticket), after=_told(moved))
    return moved


def _in_front(connection: Connection, ahead: Sequence[Ticket], other: Ticket) -> float:
    """Return a rank between a ticket and the last of those ahead of it. Each time half of what lies between is left,
    and after some times nothing: then those ahead move a thousandth of a second away."""
    if not ahead:
        return other.rank - 1.0
    rank = (ahead[-1].rank + other.rank) / 2
    if ahead[-1].rank < rank < other.rank:
        return rank
    below = rank = other.rank - _APART_S
    for one in reversed(ahead):
        if one.rank < below:
            break
        below -= _APART_S
        tickets.move(connection, one.id, rank=below)
    return rank


def expedite(connection: Connection, ticket_id: str, actor: str) -> Ticket | None:
    """Put a waiting ticket in front of all others: a priority above theirs; return it, None: it does not wait."""
    ticket = tickets.find(connection, ticket_id)
    if ticket is None or ticket.state != "waiting":
        return None
    others = [one.priority for one in tickets.waiting(connection) if one.id != ticket_id]
    moved = tickets.move(connection, ticket_id, priority=max([ticket.priority, *(one + 1 for one in others)]))
    if moved is not None:
        audit.record(connection, actor, "ticket.expedite", _subject(ticket), before=_told(ticket), after=_told(moved))
    return moved


def forget_user(connection: Connection, user: str) -> int:
    """End the tickets of somebody whom the hub does not know any more; return how many there were."""
    addresses.forget(connection, user)
    found = [one for one in tickets.of_user(connection, user) if _end(connection, one, "cancelled", _NOBODY)]
    for one in found:
        audit.record(connection, "controller", "ticket.cancel", _subject(one), before=_told(one))
    return len(found)


def _subject(ticket: Ticket) -> str:
    return f"ticket:{ticket.id}"


def _told(ticket: Ticket) -> dict[str, object]:
    return {
        "user": ticket.user,
        "server": ticket.server,
        "accelerator": ticket.accelerator,
        "priority": ticket.priority,
        "rank": ticket.rank,
        "state": ticket.state,
    }
