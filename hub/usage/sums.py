"""How much was used in a time: cheap enough to be asked before every start, however long the history is.

Read are the sums of quarters of an hour up to the first midnight (UTC) of the time, those of UTC's days from there on,
and what the open rows have used since their last heartbeat. Everything is in share-seconds: seconds of a whole card.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import tzinfo
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Float,
    Integer,
    Select,
    Text,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    union_all,
)

from hub.db.clock import Now
from hub.db.prepared import Prepared
from hub.db.tables import ledger, usage_fair, usage_spans
from hub.usage.charges import DAY, QUARTER
from hub.usage.windows import QUARTER_S, Window, bounds

__all__ = ["decayed", "share_seconds", "used", "used_by_each"]

_BY = "by:"

# Every decision asks these: a statement that is made once is not put together each time.
_FAIR = select(usage_fair.c.account, usage_fair.c.decayed, (Now() - usage_fair.c.at).label("age"))
_FAIR_OF = _FAIR.where(usage_fair.c.account.in_(bindparam("accounts", expanding=True)))


def used(
    connection: Connection, subject: str, windows: Collection[Window], zone: tzinfo, *, now: float | None = None
) -> Mapping[tuple[Window, str], float]:
    """Return what a subject has used in these windows, by window and accelerator; "" stands for all together.

    What is not in it was not used. Sessions that run count up to now.

    Parameters
    ----------
    subject
        An account (`user:…`, `group:…`), or `by:` and a person's name: all that they used, whatever was charged.
    zone
        In which days, weeks and months begin.
    now
        By the database's clock, where the caller has just asked for it.
    """
    return used_by_each(connection, {subject: windows}, zone, now=now)[subject]


def used_by_each(
    connection: Connection, windows: Mapping[str, Collection[Window]], zone: tzinfo, *, now: float | None = None
) -> Mapping[str, Mapping[tuple[Window, str], float]]:
    """Return the same for several subjects, each in windows of its own: one statement, however many."""
    found: dict[str, defaultdict[tuple[Window, str], float]] = {subject: defaultdict(float) for subject in windows}
    subjects: defaultdict[Window, list[str]] = defaultdict(list)
    for subject in sorted(windows):
        for window in dict.fromkeys(windows[subject]):
            subjects[window].append(subject)
    if not subjects:
        return {subject: {} for subject in found}
    if now is None:
        now = float(connection.scalar(select(Now())) or 0.0)
    asked = list(subjects)
    times = [_Time(tuple(subjects[window]), bounds(window, now, zone).since, None, now) for window in asked]
    for number, subject, accelerator, seconds in _sums(connection, times):
        sums, window = found[subject], asked[number]
        sums[window, ""] += seconds
        if accelerator:
            sums[window, accelerator] += seconds
    return {subject: dict(sums) for subject, sums in found.items()}


def share_seconds(connection: Connection, subject: str, since: float, until: float) -> Mapping[str, float]:
    """Return what a subject used from one moment to another, by accelerator; "" stands for all together.

    The moments, in seconds since 1970, count as the quarters of an hour that they lie in.
    """
    end = min(until, float(connection.scalar(select(Now())) or 0.0))
    found: defaultdict[str, float] = defaultdict(float)
    for _, _, accelerator, seconds in _sums(connection, [_Time((subject,), since, until, end)]):
        for each in {accelerator, ""}:
            found[each] += seconds
    return dict(found)


def decayed(connection: Connection, half_life_s: float, accounts: Collection[str] | None = None) -> Mapping[str, float]:
    """Return what accounts have used, in share-seconds, older use counting less: half after each `half_life_s`.

    It is as of the last time that the sums were folded (`hub.usage.rollup`), some minutes ago at most.

    Parameters
    ----------
    accounts
        Only these; None: all that ever used anything.
    """
    rows = connection.execute(*((_FAIR,) if accounts is None else (_FAIR_OF, {"accounts": sorted(accounts)}))).all()
    return {row.account: row.decayed * 0.5 ** (max(0.0, row.age) / half_life_s) for row in rows}


class _Range(NamedTuple):
    """Spans of one size, from a quarter of an hour on until one before `end`; None: up to now."""

    size: int
    first: int
    end: int | None


class _Time(NamedTuple):
    """What some subjects used from `since` until `until`, None: until now; sessions that run count up to `end`."""

    subjects: tuple[str, ...]
    since: float
    until: float | None
    end: float


class _Sum(NamedTuple):
    """A part of what a subject used, of the time that has this number."""

    number: int
    subject: str
    accelerator: str
    share_seconds: float


class _Shape(NamedTuple):
    """What a time's part of the query looks like: which ranges have an end, and whose open rows are asked for."""

    bounded: tuple[bool, ...]
    kinds: tuple[str, ...]


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


def _sums(connection: Connection, times: Sequence[_Time]) -> list[_Sum]:
    """Return what was used in each of these times: the sums of its ranges, and what open rows have used since their
    last heartbeat, which is in no sum yet."""
    values: dict[str, Any] = {}
    shapes = []
    for number, (subjects, since, until, end) in enumerate(times):
        ranges = _ranges(since, until)
        whose = {
            "accounts": [subject for subject in subjects if not subject.startswith(_BY)],
            "people": [subject.removeprefix(_BY) for subject in subjects if subject.startswith(_BY)],
        }
        values |= {f"subjects{number}": subjects, f"since{number}": since, f"end{number}": end}
        values |= {f"{kind}{number}": names for kind, names in whose.items() if names}
        for place, one in enumerate(ranges):
            values |= {f"size{number}of{place}": one.size, f"first{number}of{place}": one.first}
            if one.end is not None:
                values[f"last{number}of{place}"] = one.end
        kinds = tuple(kind for kind, names in whose.items() if names)
        shapes.append(_Shape(tuple(one.end is not None for one in ranges), kinds))
    return [_Sum(*row) for row in _query(tuple(shapes)).all(connection, values)]


@lru_cache(maxsize=256)
def _query(shapes: tuple[_Shape, ...]) -> Prepared:
    """The query for so many times of these shapes."""

    def made(dialect: str) -> CompoundSelect[Any]:
        parts: list[Select[Any]] = []
        for number, shape in enumerate(shapes):
            parts += [_of_spans(number, place, ends) for place, ends in enumerate(shape.bounded)]
            parts += [_of_open_rows(number, kind, dialect) for kind in shape.kinds]
        return union_all(*parts)

    return Prepared(made)


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
    columns = (table.c.subject, table.c.accelerator, func.sum(table.c.share_seconds))
    return select(_literal(number), *columns).where(*mine).group_by(table.c.subject, table.c.accelerator)


def _of_open_rows(number: int, kind: str, dialect: str) -> Select[Any]:
    whose = ledger.c.user_name if kind == "people" else ledger.c.account
    subject = (literal(_BY, Text) + whose if kind == "people" else whose).label("subject")
    since, end = bindparam(f"since{number}", type_=Float(53)), bindparam(f"end{number}", type_=Float(53))
    larger: Any = func.max if dialect == "sqlite" else func.greatest
    # A clock that was set back leaves heartbeats that are yet to come; before the time began is not in it.
    seconds = larger(0.0, end - larger(ledger.c.beat_at, since))
    columns = (subject, ledger.c.accelerator, func.sum(ledger.c.share * seconds))
    mine = whose.in_(bindparam(f"{kind}{number}", expanding=True))
    still_open = (ledger.c.folded.is_(False), ledger.c.closed_at.is_(None))
    return select(_literal(number), *columns).where(mine, *still_open).group_by(whose, ledger.c.accelerator)


def _literal(number: int) -> ColumnElement[int]:
    return literal_column(str(number), Integer).label("number")
