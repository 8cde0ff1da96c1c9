"""What everybody says at one moment: the values that are compared, and how those in the database are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, select

from hub.admission import reservations, tickets
from hub.admission.tickets import Ticket
from hub.db.clock import Now
from hub.db.tables import ledger as ledger_table
from hub.usage import ledger
from hub.usage.ledger import OpenRow
from spawner.reservation import Reservation

__all__ = ["Books", "HubServer", "Picture", "Running", "read_books"]


@dataclass(frozen=True)
class Running:
    """Something that runs: a pod, or processes of this machine. `where` names it for people and for its end.

    `devices` are the uuids of this machine's devices that it has. `user` and `server` are None where the engine's list
    does not tell them; see `hub.reconcile.engines.Engine.owner`.
    """

    spawn_id: str
    where: str
    user: str | None = None
    server: str | None = None
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class HubServer:
    """A server that the hub takes for active: ready, or something is being done to it."""

    user: str
    server: str
    ready: bool
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Books:
    """What the database says, in one state of it; `now` by its clock."""

    now: float = 0.0
    held: Mapping[str, Reservation] = field(default_factory=dict)
    rows: Mapping[str, OpenRow] = field(default_factory=dict)
    """Open rows of the ledger."""
    closed: Mapping[str, float] = field(default_factory=dict)
    """Holds whose row in the ledger is closed, and up to when it is charged, counter-rows included."""
    tickets: tuple[Ticket, ...] = ()
    """Those that wait or are starting, and those that holds name."""


@dataclass(frozen=True)
class Picture:
    """Everything; None where somebody did not tell.

    `running` and `hub` are asked before the books are read: what was granted or begun in between is in the books, and
    what has ended in between is told otherwise at the next look.
    """

    books: Books
    running: Mapping[str, Running] | None = None
    hub: Mapping[tuple[str, str], HubServer] | None = None
    planned: frozenset[str] | None = None
    """Starts of which nothing runs yet and something may appear; None: of any, since it is made by others and late."""
    claims: Mapping[str, str] = field(default_factory=dict)
    """DRA claims of ours whose pods are gone, and what is known of each."""


def read_books(connection: Connection) -> Books:
    """Return what the database says. Only some few statements, however much is held."""
    held = {one.id: one for one in reservations.all(connection)}
    rows = {row.id: row for row in ledger.opened(connection)}
    waiting = tickets.open_ones(connection)
    known = {one.id for one in waiting}
    named = {one.ticket for one in held.values() if one.ticket is not None}
    return Books(
        now=float(connection.scalar(select(Now())) or 0.0),
        held=held,
        rows=rows,
        closed=_closed(connection, [spawn_id for spawn_id in held if spawn_id not in rows]),
        tickets=(*waiting, *tickets.of_ids(connection, named - known)),
    )


def _closed(connection: Connection, ids: list[str]) -> dict[str, float]:
    """Return those that have a row, closed; there are none of these unless something is wrong."""
    found: dict[str, float] = {}
    for spawn_id in ids:
        mine = (ledger_table.c.id == spawn_id) | (ledger_table.c.corrects == spawn_id)
        end = connection.scalar(select(func.max(ledger_table.c.closed_at)).where(mine))
        if end is not None:
            found[spawn_id] = float(end)
    return found
