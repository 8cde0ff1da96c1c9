"""The published capacity snapshot: written by the controller that leads, read by everybody."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection, Engine, insert, select, update

from hub.admission import changes, reservations, tickets
from hub.controller.lease import fenced
from hub.db.clock import Now
from hub.db.tables import snapshot as table
from hub.db.transaction import read
from hub.usage.ledger import LAST_BEAT, NOTICED
from spawner.capacity.model import Snapshot, from_json, to_json

__all__ = ["CAPACITY", "Published", "latest", "publish"]

CAPACITY = "capacity"

_WANDERS_S = 5.0
"""By so much a clock may be corrected without anybody having to mind."""

_log = logging.getLogger(__name__)


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
        _follow_clock(connection)
        reservations.mark_seen(connection, counted - ended)
        for spawn_id in ended:
            # Often sooner than the hub says so: what a session held that is switched is kept here, too.
            changes.ended(connection, spawn_id, otherwise="gone", at=NOTICED)
        # Of these nothing was ever seen: what of them was charged is what a heartbeat has seen, which is nothing.
        reservations.delete(connection, reservations.expired(connection), "expired", LAST_BEAT)
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


def _follow_clock(connection: Connection) -> None:
    """Where the database's clock was set back, let nothing hold for longer because of that.

    Snapshots are published every few seconds, and the last one was published before now.
    """
    behind = connection.scalar(select(table.c.published_at - Now()).where(table.c.name == CAPACITY)) or 0.0
    if behind > _WANDERS_S:
        held, waiting = reservations.set_back(connection, behind), tickets.set_back(connection, behind)
        _log.warning(
            "The database's clock was set back by %.0f s; %d reservations and %d tickets are moved with it",
            behind,
            held,
            waiting,
        )


def _store(connection: Connection, epoch: int, document: str) -> int:
    values = {"epoch": epoch, "published_at": Now(), "document": document}
    sequence = connection.scalar(select(table.c.sequence).where(table.c.name == CAPACITY))
    if sequence is None:
        connection.execute(insert(table).values(name=CAPACITY, sequence=1, **values))
        return 1
    connection.execute(update(table).where(table.c.name == CAPACITY).values(sequence=sequence + 1, **values))
    return int(sequence) + 1
