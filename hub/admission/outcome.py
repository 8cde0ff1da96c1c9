"""How a start from the queue ended, written down: its ticket ends or waits again, and what it held is given back.

Functions of a connection. Each looks whether the ticket is still starting under the spawn id that it is about, so that
two who see to the same start, or one that is killed and begun anew, do everything once.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from hub import notices
from hub.admission import reservations, tickets
from hub.admission.hub_api import Answer
from hub.admission.tickets import EndedAs, Ticket
from hub.idle import sessions
from hub.settings.queue import QueueSettings
from spawner.refusal import Refusal
from spawner.reservation import Reservation

__all__ = [
    "SEEN_TO_S",
    "STAYED",
    "TURNED_BACK",
    "come_back",
    "comes_back",
    "give_back",
    "kept",
    "lapse",
    "logged_in",
    "refuse",
    "settle",
    "tell",
]

SEEN_TO_S = 30.0
"""For how long somebody who sees to a start says so at once; a third of it later again."""

TURNED_BACK = "The session that you wanted could not be started, so the one that you had comes back."
STAYED = "You stayed with what you had. It was being stopped already, so it comes back."

_BACK: Mapping[str, tuple[EndedAs, notices.Level]] = {TURNED_BACK: ("failed", "warning"), STAYED: ("started", "info")}
"""What is said of a ticket that brings back what was switched from: how it ends then, and how that is told."""

_PASSING = frozenset(
    {"capacity-unknown", "database-away", "full", "no-room-now", "queued", "none-there", "quota-shared", "hub-away"}
)
"""Refusals of a start that may be none a moment later: its ticket waits again, in its place."""

_LOGIN = "login"
"""What a notice is about that asks for a login."""

_LOGIN_OVER = "Its turn came while your login had ended, and you did not log in again in time. Ask again."

_AGAIN_S = 15.0
_TRIED_S = 30.0
_FOR_DAYS = 3 * 86_400.0


def settle(connection: Connection, ticket: Ticket, answer: Answer, queue: QueueSettings) -> bool:
    """Write down how a start ended; return False if somebody else has done so, or it starts under another id by now.

    Parameters
    ----------
    answer
        `ready`, `refused`, `failed`, `lapsed`, `gone`, or `away` where the hub did not answer for too long.
    """
    spawn_id = ticket.spawn_id or ""
    now = tickets.find(connection, ticket.id)
    if now is None or now.state != "starting" or now.spawn_id != spawn_id:
        return False
    if answer.word == "ready":
        return _up(connection, now)
    give_back(connection, spawn_id)
    if now.replaces is not None:
        if _turned_back(connection, now, answer):
            return True
        sessions.withdraw(connection, now.replaces, "switch")  # it was not stopped yet, and will not be
        reservations.give_to(connection, now.replaces, None)
    match answer.word:
        case "gone":
            return _end(connection, now, "cancelled", "The hub does not know this person any more.")
        case "lapsed":
            said = "It is your turn, but your login has ended: log in again, and your server starts."
            tell(connection, now, "warning", said, _LOGIN)
            return tickets.put_back(connection, now.id, spawn_id, said=said, wait_s=_AGAIN_S, needs_login=True)
        case "refused" if answer.code not in _PASSING:
            return _end(connection, now, "refused", answer.text or "The hub refused it.")
        case "failed" if answer.code not in _PASSING:
            return _failed(connection, now, answer, queue)
    said = "The hub did not answer in time; it is tried again." if answer.word == "away" else answer.text
    return tickets.put_back(connection, now.id, spawn_id, said=said, wait_s=max(_AGAIN_S, answer.wait_s))


def logged_in(connection: Connection, user: str) -> None:
    """Let what waits for this person's login go on; it is not true any more that it does."""
    found = tickets.logged_in(connection, user)
    notices.withdraw(connection, [_notice(one, _LOGIN) for one in found])


def lapse(connection: Connection, login_wait_s: float) -> None:
    """End what has waited for a login for so long, and say so in the place of what asked for one."""
    for one in tickets.lapse(connection, login_wait_s, _LOGIN_OVER):
        tell(connection, one, "warning", _LOGIN_OVER, _LOGIN)


def refuse(connection: Connection, ticket: Ticket, said: str) -> bool:
    """End a ticket that can never start, and tell its owner; False: it had ended before."""
    if not tickets.end(connection, ticket.id, "refused", said):
        return False
    tell(connection, ticket, "danger", said, "refused")
    return True


def give_back(connection: Connection, spawn_id: str, ended_as: str = "not-started") -> bool:
    """Give back what was granted and of which no start has begun; what has begun is given back when nothing runs."""
    held = reservations.find(connection, spawn_id)
    if held is None or held.state != "granted":
        return False
    return reservations.delete(connection, (spawn_id,), ended_as) == 1


def come_back(connection: Connection, ticket: Ticket) -> bool:
    """Let a session come back whose owner leaves the switch after all; return whether it does.

    It does if it is being stopped already or gone. Before that nothing is done: it simply goes on.

    Raises
    ------
    Refusal
        `too-late` (409): nobody knows with what options it was started.
    """
    if ticket.state != "starting" or comes_back(ticket):
        return comes_back(ticket)
    old = reservations.find(connection, ticket.replaces) if ticket.replaces is not None else None
    if old is None:
        held = kept(connection, ticket)
        return bool(held) and tickets.turn_back(connection, ticket, held[0], said=STAYED, seen_to_s=SEEN_TO_S)
    if old.ticket != ticket.id:
        return False
    if not old.options:
        raise Refusal("too-late", "It is being stopped already; what you asked for follows.", status=409)
    give_back(connection, ticket.spawn_id or "", "left")
    return tickets.turn_back(connection, ticket, old, said=STAYED, seen_to_s=SEEN_TO_S)


def comes_back(ticket: Ticket) -> bool:
    """Return whether a ticket brings back what was switched from, because its owner stayed with that."""
    return ticket.state == "starting" and ticket.said == STAYED


def kept(connection: Connection, ticket: Ticket) -> list[Reservation]:
    """Return what is kept for the return of the session that is switched from; at most one."""
    if ticket.replaces is None:
        return []
    held = reservations.of_server(connection, ticket.user, ticket.server)
    return [one for one in held if one.ticket == ticket.id and one.id != ticket.spawn_id and one.state == "granted"]


def _up(connection: Connection, ticket: Ticket) -> bool:
    for held in kept(connection, ticket):
        give_back(connection, held.id, "switched")
    give_back(connection, ticket.spawn_id or "")  # still granted: the server had been running already
    back = _BACK.get(ticket.said)
    if back is None:
        return tickets.end(connection, ticket.id, "started", "Your server is up.", spawn_id=ticket.spawn_id)
    ended_as, level = back
    tell(connection, ticket, level, ticket.said)
    return tickets.end(connection, ticket.id, ended_as, ticket.said, spawn_id=ticket.spawn_id)


def _failed(connection: Connection, ticket: Ticket, answer: Answer, queue: QueueSettings) -> bool:
    why = answer.text or "The hub did not say why."
    if ticket.attempts + 1 >= queue.attempts:
        times = "once" if queue.attempts == 1 else f"{queue.attempts} times"
        return _end(connection, ticket, "failed", f"It was started {times} in vain. The last time: {why}")
    wait_s = _TRIED_S * 2**ticket.attempts
    said = f"A start has failed and is tried again in {wait_s:g} seconds. {why}"
    return tickets.put_back(
        connection, ticket.id, ticket.spawn_id or "", said=said, wait_s=max(wait_s, answer.wait_s), failed=True
    )


def _turned_back(connection: Connection, ticket: Ticket, answer: Answer) -> bool:
    """Let the old session of a switch come back, if it was stopped already; its card is kept for that."""
    for held in kept(connection, ticket):
        tell(connection, ticket, "warning", f"{TURNED_BACK} {answer.text}".strip())
        return tickets.turn_back(connection, ticket, held, said=TURNED_BACK, seen_to_s=SEEN_TO_S)
    return False


def _end(connection: Connection, ticket: Ticket, ended_as: EndedAs, said: str) -> bool:
    if not tickets.end(connection, ticket.id, ended_as, said, spawn_id=ticket.spawn_id):
        return False
    if ended_as != "cancelled":
        tell(connection, ticket, "danger", said)
    return True


def _notice(ticket: Ticket, about: str) -> str:
    return f"ticket/{ticket.id}/{about}"


def tell(connection: Connection, ticket: Ticket, level: notices.Level, said: str, about: str = "") -> None:
    """Tell the owner: once of the same start. What is told `about` something else takes the place of what was."""
    what = f"Your server {ticket.server}" if ticket.server else "Your server"
    if about:
        notices.withdraw(connection, [_notice(ticket, about)])
    notices.add(
        connection,
        ticket.user,
        "queue",
        level,
        f"{what}: {said}",
        id=_notice(ticket, about or ticket.spawn_id or ""),
        for_s=_FOR_DAYS,
    )
