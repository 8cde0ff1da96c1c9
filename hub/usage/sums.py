"""How much was used in a time: cheap enough to be asked before every start, however long the history is.

Read are the sums of quarters of an hour up to the first midnight (UTC) of the time, those of UTC's days from there on,
and what the open rows have used since their last heartbeat. Everything is in share-seconds: seconds of a whole card.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import tzinfo
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Float,
    Integer,
    Select,
    bindparam,
    func,
    literal_column,
    select,
    union_all,
)

from hub.db.clock import Now
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
    return used_by_each(connection, [subject], windows, zone, now=now)[subject]


def used_by_each(
    connection: Connection,
    subjects: Sequence[str],
    windows: Collection[Window],
    zone: tzinfo,
    *,
    now: float | None = None,
) -> Mapping[str, Mapping[tuple[Window, str], float]]:
    """Return the same for several subjects at once: one statement, however many."""
    found: dict[str, defaultdict[tuple[Window, str], float]] = {each: defaultdict(float) for each in subjects}
    if not found or not windows:
        return {each: {} for each in found}
    if now is None:
        now = float(connection.scalar(select(Now())) or 0.0)
    asked = [(window, bounds(window, now, zone).since) for window in dict.fromkeys(windows)]
    parts = [(number, part) for number, (_, since) in enumerate(asked) for part in _ranges(since, None)]
    summed, open_rows = _asked(connection, sorted(found), [part for _, part in parts])
    for number, subject, accelerator, seconds in summed:
        _add(found[subject], asked[parts[number][0]][0], accelerator, seconds)
    for row in open_rows:
        for window, since in asked:
            _add(found[row.subject], window, row.accelerator, row.share * max(0.0, now - max(row.beat_at, since)))
    return {subject: dict(sums) for subject, sums in found.items()}


def share_seconds(connection: Connection, subject: str, since: float, until: float) -> Mapping[str, float]:
    """Return what a subject used from one moment to another, by accelerator; "" stands for all together.

    The moments, in seconds since 1970, count as the quarters of an hour that they lie in.
    """
    end = min(until, float(connection.scalar(select(Now())) or 0.0))
    summed, open_rows = _asked(connection, [subject], _ranges(since, until))
    pieces = [(row.accelerator, row.share_seconds) for row in summed]
    pieces += [(row.accelerator, row.share * max(0.0, end - max(row.beat_at, since))) for row in open_rows]
    found: defaultdict[str, float] = defaultdict(float)
    for accelerator, seconds in pieces:
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


class _Sum(NamedTuple):
    number: int
    subject: str
    accelerator: str
    share_seconds: float


class _Open(NamedTuple):
    subject: str
    accelerator: str
    share: float
    beat_at: float


def _add(found: defaultdict[tuple[Window, str], float], window: Window, accelerator: str, seconds: float) -> None:
    for each in {accelerator, ""}:
        found[window, each] += seconds


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


def _asked(connection: Connection, subjects: Sequence[str], ranges: Sequence[_Range]) -> tuple[list[_Sum], list[_Open]]:
    """Return the sums of all ranges, each with the number of its range; and the open rows of the same subjects: what
    they have used since their last heartbeat is in no sum yet."""
    values: dict[str, Any] = {
        "subjects": subjects,
        "people": [subject.removeprefix(_BY) for subject in subjects if subject.startswith(_BY)],
        "accounts": [subject for subject in subjects if not subject.startswith(_BY)],
    }
    for number, one in enumerate(ranges):
        values |= {f"size{number}": one.size, f"first{number}": one.first}
        if one.end is not None:
            values[f"end{number}"] = one.end
    kinds = tuple(kind for kind in ("accounts", "people") if values[kind])
    rows = connection.execute(_of_all(tuple(one.end is not None for one in ranges), kinds), values).all()
    summed = [_Sum(*row[:4]) for row in rows if row[0] >= 0]
    open_rows = [_Open(f"{_BY}{row[1]}" if row[0] == _OF_PERSON else row[1], *row[2:]) for row in rows if row[0] < 0]
    return summed, open_rows


_OF_ACCOUNT, _OF_PERSON = -1, -2
"""Numbers of open rows, where sums have that of their range."""


@lru_cache(maxsize=256)
def _of_all(bounded: tuple[bool, ...], kinds: tuple[str, ...]) -> CompoundSelect[Any]:
    """The query for so many ranges, each with an end or without, and for the open rows of accounts, people or both."""
    return union_all(*_of_spans(bounded), *(_of_open_rows(kind) for kind in kinds))


def _of_spans(bounded: tuple[bool, ...]) -> Iterator[Select[Any]]:
    table = usage_spans
    whose = table.c.subject.in_(bindparam("subjects", expanding=True))
    for number, ends in enumerate(bounded):
        columns = (table.c.subject, table.c.accelerator, func.sum(table.c.share_seconds), literal_column("0.0", Float))
        since = table.c.quarter >= bindparam(f"first{number}")
        query = select(literal_column(str(number), Integer), *columns).where(
            whose, table.c.size == bindparam(f"size{number}"), since
        )
        if ends:
            query = query.where(table.c.quarter < bindparam(f"end{number}"))
        yield query.group_by(table.c.subject, table.c.accelerator)


def _of_open_rows(kind: str) -> Select[Any]:
    column, number = (ledger.c.user_name, _OF_PERSON) if kind == "people" else (ledger.c.account, _OF_ACCOUNT)
    columns = (column, ledger.c.accelerator, ledger.c.share, ledger.c.beat_at)
    mine = column.in_(bindparam(kind, expanding=True))
    return select(literal_column(str(number), Integer), *columns).where(
        mine, ledger.c.folded.is_(False), ledger.c.closed_at.is_(None)
    )
