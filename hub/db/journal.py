"""What has changed in some tables, written by triggers, so that a process that knew them reads only that.

Whoever decides needs all that is held and all who wait, hundreds or thousands of rows, of which few have changed since
the last decision. Triggers write down which ones, so that no writer can forget it. Writers take turns
(`hub.db.transaction`), so that the entries come in the order of the commits.

An entry that was read may be rolled back later, and its number used again; the mark, a random number, tells them apart.
Functions of a connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, select

from hub.db.tables import journal as table

__all__ = ["MOST", "Entry", "after", "newest", "trim"]

MOST = 1000
"""When so many have changed it is as quick to read everything."""

_KEPT = 10_000
"""Entries that are kept: a process that has not looked for longer reads everything again."""


class Entry(NamedTuple):
    """A row of this table, which is named as `hub.db.tables` names it, was made or changed; `gone`: it was deleted."""

    number: int
    mark: str
    subject: str
    id: str
    gone: bool


_COLUMNS = (table.c.number, table.c.mark, table.c.subject, table.c.id, table.c.gone)
_NEWEST = select(*_COLUMNS).order_by(table.c.number.desc()).limit(1)


def newest(connection: Connection) -> Entry | None:
    """Return the last entry; None: there is none."""
    row = connection.execute(_NEWEST).one_or_none()
    return None if row is None else Entry(row[0], row[1], row[2], row[3], bool(row[4]))


def after(known: Entry, found: Sequence[Entry]) -> Sequence[Entry] | None:
    """Return what came after this entry; None: that cannot be told, or it is too much.

    Parameters
    ----------
    found
        The entries from its number on, the oldest first, as many as `MOST` and one.
    """
    return found[1:] if found and found[0] == known and len(found) <= MOST else None


def trim(connection: Connection) -> int:
    """Delete what nobody asks for any more; return how many. The last one stays, so that numbers only ever grow."""
    last = newest(connection)
    if last is None:
        return 0
    return connection.execute(delete(table).where(table.c.number <= last.number - _KEPT)).rowcount
