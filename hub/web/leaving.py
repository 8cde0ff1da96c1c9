"""How a place in the queue is left, by whichever path: in the database first, then in the hub."""

from __future__ import annotations

import logging
from typing import Literal, NamedTuple

from sqlalchemy import Connection

from hub.admission import changes, tickets
from hub.admission.outcome import comes_back
from hub.admission.tickets import Ticket
from hub.web.queue import Queue

__all__ = ["Left", "leave"]

_log = logging.getLogger(__name__)


class Left(NamedTuple):
    """What came of it: `comes_back` where a switch was left whose session is being stopped already."""

    ticket: Ticket
    comes_back: bool


async def leave(
    queue: Queue, ticket_id: str, ended_as: Literal["left", "cancelled"], said: str, actor: str = ""
) -> Left | None:
    """End a ticket at somebody's wish, and have its start stopped; None: it had ended before.

    Parameters
    ----------
    actor
        As for `hub.admission.changes.leave`.

    Raises
    ------
    Problem
        `too-late`, `database-away`: nothing has changed.
    """

    def work(connection: Connection) -> tuple[Left, bool] | None:
        left = changes.leave(connection, ticket_id, ended_as, said, actor)
        if left is None:
            return None
        now = tickets.find(connection, ticket_id) or left
        return Left(left, comes_back(now)), changes.to_be_stopped(connection, left)

    found = await queue.write(work)
    if found is None:
        return None
    left, to_be_stopped = found
    queue.starter.hurry()
    if to_be_stopped:
        answer = await queue.hub.stop(left.ticket.user, left.ticket.server)
        if answer.word not in ("stopped", "pending", "gone"):
            # The reconciler finds what goes on, and asks until it is done.
            ticket = left.ticket
            _log.warning("The hub has not stopped %r/%r, which was left: %s", ticket.user, ticket.server, answer)
    return left
