"""The query for what subjects used in some times: as a statement of its own, or as parts of another one.

Read are the sums of quarters of an hour up to the first midnight (UTC) of a time, those of UTC's days from there on,
and what the open rows have used since their last heartbeat. All is in share-seconds: seconds of a whole card.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Float,
    Integer,
    Select,
    Text,
    bindparam,
    func,
    literal,
    literal_column,
    select,
)

from hub.db.clock import Now
from hub.db.tables import ledger, usage_spans
from hub.usage.charges import DAY, QUARTER
from hub.usage.windows import QUARTER_S

__all__ = ["Shape", "Sum", "Time", "asked", "parts"]

_BY = "by:"
"""What subjects begin with that stand for a person, whatever was charged."""


class Time(NamedTuple):
    """What some subjects used from `since` until `until`, None: until now; sessions that run count up to `end`, None:
    up to now by the database's clock. Moments in seconds since 1970."""

    subjects: tuple[str, ...]
    since: float
    until: float | None = None
    end: float | None = None


class Shape(NamedTuple):
    """What a time's part of the query looks like: which ranges have an end, whose open rows are asked for, and whether
    they count up to now."""

    bounded: tuple[bool, ...]
    kinds: tuple[str, ...]
    up_to_now: bool


class Sum(NamedTuple):
    """A part of what a subject used in the time of this number, in share-seconds."""

    number: int
    subject: str
    accelerator: str
    seconds: float


class _Range(NamedTuple):
    """Spans of one size, from a quarter of an hour on until one before `end`; None: up to now."""

    size: int
    first: int
    end: int | None


def asked(times: Sequence[Time]) -> tuple[tuple[Shape, ...], dict[str, Any]]:
    """Return what the parts for these times look like, and their values by name."""
    values: dict[str, Any] = {}
    shapes = []
    for number, (subjects, since, until, end) in enumerate(times):
        ranges = _ranges(since, until)
        whose = {
            "accounts": [subject for subject in subjects if not subject.startswith(_BY)],
            "people": [subject.removeprefix(_BY) for subject in subjects if subject.startswith(_BY)],
        }
        values |= {f"subjects{number}": subjects, f"since{number}": since}
        values |= {f"{kind}{number}": names for kind, names in whose.items() if names}
        if end is not None:
            values[f"end{number}"] = end
        for place, one in enumerate(ranges):
            values |= {f"size{number}of{place}": one.size, f"first{number}of{place}": one.first}
            if one.end is not None:
                values[f"last{number}of{place}"] = one.end
        kinds = tuple(kind for kind, names in whose.items() if names)
        shapes.append(Shape(tuple(one.end is not None for one in ranges), kinds, end is None))
    return tuple(shapes), values


def parts(shapes: Sequence[Shape], dialect: str) -> list[Select[Any]]:
    """Return queries whose rows are `Sum`s; several of one number, subject and accelerator are to be added up.

    Parameters
    ----------
    dialect
        SQLAlchemy's name for the kind of database.
    """
    found: list[Select[Any]] = []
    for number, shape in enumerate(shapes):
        found += [_of_spans(number, place, ends) for place, ends in enumerate(shape.bounded)]
        found += [_of_open_rows(number, kind, shape.up_to_now, dialect) for kind in shape.kinds]
    return found


def _ranges(since: float, until: float | None) -> list[_Range]:
    """What makes up one time; `until` None: up to now. Nothing is later than now, so the newest day counts whole."""
    first = int(since // QUARTER_S)
    midnight = -(-first // DAY) * DAY
    if until is None:
        ranges = [_Range(QUARTER, first, midnight), _Range(DAY, midnight, None)]
    else:
        end = int(until // QUARTER_S)
        last = end - end % DAY
        ranges = [
            _Range(QUARTER, first, min(end, midnight)),
            _Range(DAY, midnight, last),
            _Range(QUARTER, max(midnight, last), end),
        ]
    return [one for one in ranges if one.end is None or one.first < one.end]


def _of_spans(number: int, place: int, ends: bool) -> Select[Any]:
    table = usage_spans
    name = f"{number}of{place}"
    mine = [
        table.c.subject.in_(bindparam(f"subjects{number}", expanding=True)),
        table.c.size == bindparam(f"size{name}"),
        table.c.quarter >= bindparam(f"first{name}"),
    ]
    if ends:
        mine.append(table.c.quarter < bindparam(f"last{name}"))
    columns = (table.c.subject, table.c.accelerator, func.sum(table.c.share_seconds).label("seconds"))
    return select(_literal(number), *columns).where(*mine).group_by(table.c.subject, table.c.accelerator)


def _of_open_rows(number: int, kind: str, up_to_now: bool, dialect: str) -> Select[Any]:
    whose = ledger.c.user_name if kind == "people" else ledger.c.account
    subject = (literal(_BY, Text) + whose if kind == "people" else whose).label("subject")
    since = bindparam(f"since{number}", type_=Float(53))
    end: Any = Now() if up_to_now else bindparam(f"end{number}", type_=Float(53))
    larger: Any = func.max if dialect == "sqlite" else func.greatest
    # A clock that was set back leaves heartbeats that are yet to come; before the time began is not in it.
    seconds = larger(0.0, end - larger(ledger.c.beat_at, since))
    columns = (subject, ledger.c.accelerator, func.sum(ledger.c.share * seconds).label("seconds"))
    mine = whose.in_(bindparam(f"{kind}{number}", expanding=True))
    still_open = (ledger.c.folded.is_(False), ledger.c.closed_at.is_(None))
    return select(_literal(number), *columns).where(mine, *still_open).group_by(whose, ledger.c.accelerator)


def _literal(number: int) -> ColumnElement[int]:
    return literal_column(str(number), Integer).label("number")
