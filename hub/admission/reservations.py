"""The table of reservations: what is held. Functions of a connection: whoever calls them has the transaction.

A reservation is a session's hold, and its row in the ledger, which has the same id, is the history of that hold: both
are begun here in one transaction, and ended in one, so that nothing is held that nobody is charged for.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of

from hub.db.clock import Now
from hub.db.prepared import Prepared, Step, run_together
from hub.db.tables import reservations as table
from hub.usage import ledger
from spawner.reservation import Reservation

__all__ = [
    "all",
    "begin",
    "delete",
    "expired",
    "find",
    "give_to",
    "granted",
    "insert",
    "keep",
    "mark_seen",
    "of_server",
    "set_back",
]

_BATCH = 500
"""Rows named in one statement; databases limit how many values it may carry."""

_COUNT = table.columns.keys().index("count")

# Every decision asks these: a statement that is made once is not put together each time.
_OF_ID = select(table).where(table.c.id == bindparam("spawn"))
_OF_SERVER = (
    select(table)
    .where(table.c.user_name == bindparam("user"), table.c.server == bindparam("named"))
    .order_by(table.c.reserved_at, table.c.id)
)
_MOMENTS = {"reserved_at": Now(), "expires_at": Now() + bindparam("expires_in_s")}
_INSERT = Prepared(
    insert_into(table).values(
        **{column.name: bindparam(column.name) for column in table.columns if column.name not in _MOMENTS}, **_MOMENTS
    )
)


def all(connection: Connection) -> tuple[Reservation, ...]:
    """Return every reservation that is held, the oldest first."""
    rows = connection.execute(select(table).order_by(table.c.reserved_at, table.c.id))
    return tuple(_reservation(row) for row in rows)


def granted(connection: Connection, ids: Collection[str] | None = None) -> dict[str, tuple[float, Reservation]]:
    """Return what is held, by id, each with the moment at which it was granted.

    Parameters
    ----------
    ids
        Only of these, those that there are; None: all.
    """
    query = select(table)
    queries = [query] if ids is None else [query.where(table.c.id.in_(batch)) for batch in _batches(ids)]
    rows = [row for each in queries for row in connection.execute(each).all()]
    return {row.id: (row.reserved_at, _reservation(row)) for row in rows}


def find(connection: Connection, spawn_id: str) -> Reservation | None:
    """Return the reservation of this start."""
    row = connection.execute(_OF_ID, {"spawn": spawn_id}).one_or_none()
    return None if row is None else _reservation(row)


def of_server(connection: Connection, user: str, server: str) -> tuple[Reservation, ...]:
    """Return what is held for this server, the oldest first: more than one while a start follows an end."""
    return tuple(_reservation(row) for row in connection.execute(_OF_SERVER, {"user": user, "named": server}))


def insert(
    connection: Connection,
    held: Reservation,
    *,
    expires_in_s: float,
    image: str = "",
    now: float | None = None,
    beside: Sequence[Step] = (),
) -> None:
    """Hold this; unless it is seen before, it expires after so many seconds of the database's clock.

    Parameters
    ----------
    image
        Reference of the image that it will run, for the ledger.
    now
        By the database's clock, where the caller has asked for it in this transaction.
    beside
        What else is to be written, together with it.
    """
    now = float(connection.scalar(select(Now())) or 0.0) if now is None else now
    values = {
        "id": held.id,
        "user_name": held.user,
        "server": held.server,
        "profile": held.profile,
        "accelerator": held.accelerator,
        "count": held.count,
        "cpu_m": held.cpu_m,
        "memory": held.memory,
        "devices": json.dumps(held.devices),
        "seen": held.seen,
        "account": held.account,
        "share": held.share,
        "state": held.state,
        "ticket": held.ticket,
        "options": json.dumps(dict(held.options)),
        "session_s": held.session_s,
        "expires_in_s": expires_in_s,
    }
    run_together(connection, [(_INSERT, values), ledger.opening(held, image, now), *beside])


def begin(connection: Connection, held: Reservation, *, expires_in_s: float) -> None:
    """Note that the start of what was granted has begun, with the cpu and memory that its spawner knows."""
    mine = update_of(table).where(table.c.id == held.id)
    values = {"state": "begun", "expires_at": Now() + expires_in_s, "cpu_m": held.cpu_m, "memory": held.memory}
    connection.execute(mine.values(**values))
    ledger.begun(connection, held)


def keep(connection: Connection, ids: Collection[str], *, expires_in_s: float) -> None:
    """Keep what was granted, and of which no start has begun, for longer."""
    for batch in _batches(ids):
        mine = update_of(table).where(table.c.id.in_(batch), table.c.state == "granted")
        connection.execute(mine.values(expires_at=Now() + expires_in_s))


def give_to(connection: Connection, spawn_id: str, ticket_id: str | None) -> bool:
    """Note that this is held for that ticket; return whether there is such a hold."""
    mine = update_of(table).where(table.c.id == spawn_id)
    return connection.execute(mine.values(ticket=ticket_id)).rowcount == 1


def mark_seen(connection: Connection, ids: Collection[str]) -> None:
    """Note that the published snapshot counts these; ids of which there is no reservation are passed over."""
    unseen: set[str] = set(connection.scalars(select(table.c.id).where(table.c.seen.is_(False))))
    for batch in _batches(unseen.intersection(ids)):
        connection.execute(update_of(table).where(table.c.id.in_(batch)).values(seen=True))


def delete(connection: Connection, ids: Collection[str], ended_as: str = "ended", at: float | None = None) -> int:
    """Give these back; return how many there were.

    Parameters
    ----------
    ended_as, at
        Why and when they ended, for `hub.usage.ledger.close`.
    """
    if not ids:
        return 0
    ledger.close(connection, ids, ended_as, at)
    held = set(connection.scalars(select(table.c.id))).intersection(ids) if len(ids) > 1 else ids
    return sum(connection.execute(delete_from(table).where(table.c.id.in_(batch))).rowcount for batch in _batches(held))


def expired(connection: Connection) -> tuple[str, ...]:
    """Return the ids of those that expired unseen."""
    return tuple(connection.scalars(select(table.c.id).where(table.c.seen.is_(False), table.c.expires_at <= Now())))


def set_back(connection: Connection, seconds: float) -> int:
    """Let what was held before the database's clock was set back by so much expire as soon as it was meant to."""
    # What has just begun expires by the new clock already.
    old = (table.c.reserved_at > Now(), table.c.expires_at > Now() + seconds / 2)
    later = update_of(table).where(table.c.seen.is_(False), *old)
    moved = {"reserved_at": table.c.reserved_at - seconds, "expires_at": table.c.expires_at - seconds}
    return connection.execute(later.values(**moved)).rowcount


def _batches(ids: Collection[str]) -> list[list[str]]:
    ordered = sorted(ids)
    return [ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH)]


def _reservation(row: Row[Any]) -> Reservation:
    return Reservation(
        id=row.id,
        user=row.user_name,
        server=row.server,
        profile=row.profile,
        accelerator=row.accelerator,
        count=row[_COUNT],  # by name it is a method of every tuple
        cpu_m=row.cpu_m,
        memory=row.memory,
        devices=tuple(json.loads(row.devices)),
        seen=row.seen,
        account=row.account,
        share=row.share,
        state=row.state,
        ticket=row.ticket,
        options=json.loads(row.options),
        session_s=row.session_s,
    )
