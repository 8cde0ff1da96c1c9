"""The published capacity snapshot: written by the controller that leads, read by everybody."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection, Engine, insert, select, update

from hub.admission import reservations
from hub.controller.lease import fenced
from hub.db.clock import Now
from hub.db.tables import snapshot as table
from hub.db.transaction import read
from spawner.capacity.model import Snapshot, from_json, to_json

__all__ = ["CAPACITY", "Published", "latest", "publish"]

CAPACITY = "capacity"


class Published(NamedTuple):
    """A snapshot as it was published: `sequence` grows each time; `published_at` is in UTC by the database's clock.

    With sequence 0 there is none yet.
    """

    sequence: int
    snapshot: Snapshot | None
    published_at: datetime | None


def publish(
    engine: Engine, epoch: int, snapshot: Snapshot, *, seen: Iterable[str] = (), gone: Iterable[str] = ()
) -> int:
    """Publish a snapshot together with what it means for the reservations; return its sequence number. Blocks.

    Parameters
    ----------
    epoch
        That of the lease under which it was counted.
    seen
        Ids of reservations whose sessions the snapshot counts.
    gone
        Ids of reservations of which nothing is left: they are given back. So are those that expired unseen.

    Raises
    ------
    hub.controller.lease.StaleEpoch
        Another one leads by now: nothing was written.
    hub.db.transaction.DatabaseAway
        See `hub.db.transaction.write`.
    """
    document = to_json(snapshot)
    counted, ended = frozenset(seen), frozenset(gone)

    def work(connection: Connection) -> int:
        reservations.mark_seen(connection, counted - ended)
        reservations.delete(connection, ended)
        reservations.delete(connection, reservations.expired(connection))
        return _store(connection, epoch, document)

    return fenced(engine, epoch, work)


def latest(engine: Engine) -> Published:
    """Return what was published last. Blocks.

    Raises
    ------
    hub.db.transaction.DatabaseAway
        The database did not answer.
    pydantic.ValidationError
        It was published by another version, in a form that this one does not know.
    """
    row = read(engine, lambda connection: connection.execute(_CURRENT).one_or_none())
    if row is None:
        return Published(0, None, None)
    return Published(row.sequence, from_json(row.document), datetime.fromtimestamp(row.published_at, UTC))


_CURRENT = select(table).where(table.c.name == CAPACITY)


def _store(connection: Connection, epoch: int, document: str) -> int:
    values = {"epoch": epoch, "published_at": Now(), "document": document}
    sequence = connection.scalar(select(table.c.sequence).where(table.c.name == CAPACITY))
    if sequence is None:
        connection.execute(insert(table).values(name=CAPACITY, sequence=1, **values))
        return 1
    connection.execute(update(table).where(table.c.name == CAPACITY).values(sequence=sequence + 1, **values))
    return int(sequence) + 1
