"""Whether the hub's own lines place every session, so that only the scheduler knows which nodes it may reach.

These lines (tolerations, pod settings, another scheduler) stand in the hub's configuration, which neither the service
nor the controller reads. So the hub says in the database what its spawners were configured with, and every door and the
controller decide by it. Functions of a connection: whoever calls them has the transaction.
"""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from hub.db.clock import Now
from hub.db.tables import snapshot as table

__all__ = ["BY_HAND", "PLACING", "said", "say"]

PLACING = "placing"
"""Name of the row in the table of what is published."""

BY_HAND = "by hand"
_COUNTED = "counted"


def said(connection: Connection) -> bool:
    """Return what a hub said last; False: also where none ever did."""
    return connection.scalar(select(table.c.document).where(table.c.name == PLACING)) == BY_HAND


def say(connection: Connection, by_hand: bool) -> None:
    """Say it for all who decide from now on."""
    document = BY_HAND if by_hand else _COUNTED
    sequence = connection.scalar(select(table.c.sequence).where(table.c.name == PLACING))
    if sequence is None:
        values = {"epoch": 0, "published_at": Now(), "document": document}
        connection.execute(insert(table).values(name=PLACING, sequence=1, **values))
    elif said(connection) != by_hand:
        mine = update(table).where(table.c.name == PLACING)
        connection.execute(mine.values(sequence=sequence + 1, published_at=Now(), document=document))
