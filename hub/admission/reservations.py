"""The table of reservations. Functions of a connection: whoever calls them has the transaction."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of

from hub.db.clock import Now
from hub.db.tables import reservations as table
from spawner.reservation import Reservation

__all__ = ["all", "delete", "expired", "find", "insert", "mark_seen"]

_BATCH = 500
"""Rows named in one statement; databases limit how many values it may carry."""


def all(connection: Connection) -> tuple[Reservation, ...]:
    """Return every reservation that is held, the oldest first."""
    rows = connection.execute(select(table).order_by(table.c.reserved_at, table.c.id))
    return tuple(_reservation(row) for row in rows)


def find(connection: Connection, spawn_id: str) -> Reservation | None:
    """Return the reservation of this start."""
    row = connection.execute(select(table).where(table.c.id == spawn_id)).one_or_none()
    return None if row is None else _reservation(row)


def insert(connection: Connection, held: Reservation, *, expires_in_s: float) -> None:
    """Hold this; unless it is seen before, it expires after so many seconds of the database's clock."""
    connection.execute(
        insert_into(table).values(
            id=held.id,
            user_name=held.user,
            server=held.server,
            profile=held.profile,
            accelerator=held.accelerator,
            count=held.count,
            cpu_m=held.cpu_m,
            memory=held.memory,
            devices=json.dumps(held.devices),
            seen=held.seen,
            reserved_at=Now(),
            expires_at=Now() + expires_in_s,
        )
    )


def mark_seen(connection: Connection, ids: Collection[str]) -> None:
    """Note that the published snapshot counts these; ids of which there is no reservation are passed over."""
    unseen: set[str] = set(connection.scalars(select(table.c.id).where(table.c.seen.is_(False))))
    for batch in _batches(unseen.intersection(ids)):
        connection.execute(update_of(table).where(table.c.id.in_(batch)).values(seen=True))


def delete(connection: Connection, ids: Collection[str]) -> int:
    """Give these back; return how many there were."""
    if not ids:
        return 0
    held = set(connection.scalars(select(table.c.id))).intersection(ids) if len(ids) > 1 else ids
    return sum(connection.execute(delete_from(table).where(table.c.id.in_(batch))).rowcount for batch in _batches(held))


def expired(connection: Connection) -> tuple[str, ...]:
    """Return the ids of those that expired unseen."""
    return tuple(connection.scalars(select(table.c.id).where(table.c.seen.is_(False), table.c.expires_at <= Now())))


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
        count=row._mapping["count"],
        cpu_m=row.cpu_m,
        memory=row.memory,
        devices=tuple(json.loads(row.devices)),
        seen=row.seen,
    )
