"""What every decision asks first, in one statement: the time, what is published, what has changed in the journal, the
limits of who asks, and what was used of their budgets.

Each of them takes next to no time, and a statement of its own would take as long as all of them. Functions of a
connection.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    CompoundSelect,
    Connection,
    Float,
    Integer,
    Select,
    Text,
    bindparam,
    cast,
    literal,
    literal_column,
    null,
    select,
    union_all,
)

from hub.admission.placing import BY_HAND, PLACING
from hub.controller.publish import CAPACITY
from hub.db import journal
from hub.db.clock import Now
from hub.db.journal import Entry
from hub.db.prepared import Prepared
from hub.db.tables import journal as changes
from hub.db.tables import quotas, snapshot
from hub.quotas import store as quotas_store
from hub.quotas.model import Quotas
from hub.usage.time_query import Shape, Sum, Time, asked, parts

__all__ = ["Glance", "Published", "glance"]


class Published(NamedTuple):
    """Which counts are published: the number and the moment (0: none ever were). `by_hand`: the hub's own lines place
    every session."""

    sequence: int
    published_at: float
    by_hand: bool


class Glance(NamedTuple):
    """The moment by the database's clock, what is published, what came after the entry that was asked about (None where
    that cannot be told), the limits of the subjects that were asked about, and what was used in the times that were."""

    now: float
    published: Published
    entries: Sequence[Entry] | None
    quotas: Quotas
    used: Sequence[Sum]


_KINDS: dict[str, Any] = {"whole": BigInteger, "one": Float(53), "two": Float(53), "flag": Boolean}
_COLUMNS = {**_KINDS, "a": Text, "b": Text, "c": Text}


def _part(number: int, **columns: Any) -> Any:
    """Return a query of one part, in the columns that all parts have."""
    mine = [columns.get(name, cast(null(), kind)).label(name) for name, kind in _COLUMNS.items()]
    return select(literal_column(str(number), Integer).label("part"), *mine)


# A statement that is made once is not put together each time.
_counts, _placing = snapshot.alias(), snapshot.alias()
_one = select(literal(1).label("one")).subquery()
_now = _part(0, whole=_counts.c.sequence, one=Now(), two=_counts.c.published_at, a=_placing.c.document).select_from(
    _one.outerjoin(_counts, _counts.c.name == CAPACITY).outerjoin(_placing, _placing.c.name == PLACING)
)
_newer = (
    _part(1, whole=changes.c.number, a=changes.c.mark, b=changes.c.subject, c=changes.c.id, flag=changes.c.gone)
    .where(changes.c.number >= bindparam("known"))
    .order_by(changes.c.number)
    .limit(journal.MOST + 1)
    .subquery()
)
_who = {"a": quotas.c.subject, "b": quotas.c.field, "c": quotas.c.changed_by}
_limits = _part(2, **_who, one=quotas.c.value, two=quotas.c.changed_at, flag=quotas.c.declared).where(
    quotas.c.subject.in_(bindparam("subjects", expanding=True))
)
_MATTERS = (_now, select(_newer), _limits)
_USED = 3
_NO_ENTRY = (1 << 63) - 1


def glance(
    connection: Connection, known: Entry | None, subjects: Collection[str] = (), times: Sequence[Time] = ()
) -> Glance:
    """Look what there is.

    Parameters
    ----------
    known
        Up to which entry of the journal everything is known; None: nothing is.
    subjects
        Whose limits are asked for.
    times
        Of which is asked what was used in them.
    """
    shapes, values = asked(times)
    values |= {"known": _NO_ENTRY if known is None else known.number, "subjects": sorted(subjects)}
    now, published, found, limits, used = 0.0, Published(0, 0.0, False), [], [], []
    for part, whole, one, two, flag, a, b, c in _query(shapes).all(connection, values):
        if part == 0:
            now, published = one, Published(whole or 0, two or 0.0, a == BY_HAND)
        elif part == 1:
            found.append(Entry(whole, a, b, c, bool(flag)))
        elif part == _USED:
            used.append(Sum(whole, a, b, one))
        else:
            limits.append(quotas_store.stored(a, b, one, bool(flag), two, c))
    entries = None if known is None else journal.after(known, sorted(found))
    return Glance(now, published, entries, Quotas(limits), used)


@lru_cache(maxsize=256)
def _query(shapes: tuple[Shape, ...]) -> Prepared:
    def made(dialect: str) -> CompoundSelect[Any]:
        return union_all(*_MATTERS, *(_of_use(part) for part in parts(shapes, dialect)))

    return Prepared(made)


def _of_use(part: Select[Any]) -> Any:
    sums = part.subquery()
    columns = {"whole": sums.c.number, "one": sums.c.seconds, "a": sums.c.subject, "b": sums.c.accelerator}
    return _part(_USED, **columns)
