"""What every decision asks first, in one statement: the time, what is published, and what has changed in the journal.

Each of them takes next to no time, and a statement of its own would take as long as all of them. Functions of a
connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, literal, select

from hub.admission.placing import BY_HAND, PLACING
from hub.controller.publish import CAPACITY
from hub.db import journal
from hub.db.clock import Now
from hub.db.journal import Entry
from hub.db.tables import journal as journal_table
from hub.db.tables import snapshot

__all__ = ["Glance", "Published", "glance"]


class Published(NamedTuple):
    """Which counts are published: the number and the moment (0: none ever were). `by_hand`: the hub's own lines place
    every session."""

    sequence: int
    published_at: float
    by_hand: bool


class Glance(NamedTuple):
    """The moment by the database's clock, what is published, and what came after the entry that was asked about; None
    where that cannot be told."""

    now: float
    published: Published
    entries: Sequence[Entry] | None


# A statement that is made once is not put together each time. One row at least, whatever there is beside it.
_counts, _placing = snapshot.alias(), snapshot.alias()
_one = select(literal(1).label("one")).subquery()
_GLANCE = (
    select(Now(), _counts.c.sequence, _counts.c.published_at, _placing.c.document, *journal.COLUMNS)
    .select_from(
        _one.outerjoin(_counts, _counts.c.name == CAPACITY)
        .outerjoin(_placing, _placing.c.name == PLACING)
        .outerjoin(journal_table, journal_table.c.number >= bindparam("known"))
    )
    .order_by(journal_table.c.number)
    .limit(journal.MOST + 1)
)
_NO_ENTRY = (1 << 63) - 1


def glance(connection: Connection, known: Entry | None) -> Glance:
    """Look what there is.

    Parameters
    ----------
    known
        Up to which entry of the journal everything is known; None: nothing is.
    """
    rows = connection.execute(_GLANCE, {"known": _NO_ENTRY if known is None else known.number}).all()
    now, sequence, published_at, said = rows[0][:4]
    found = [Entry(row[4], row[5], row[6], row[7], bool(row[8])) for row in rows if row[4] is not None]
    entries = None if known is None else journal.after(known, found)
    return Glance(now, Published(sequence or 0, published_at or 0.0, said == BY_HAND), entries)
