"""How much was used in a time, in share-seconds: cheap enough to be asked before every start, however long the history
is. `hub.usage.time_query` has the query."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import tzinfo
from functools import lru_cache

from sqlalchemy import Connection, bindparam, select, union_all

from hub.db.clock import Now
from hub.db.prepared import Prepared
from hub.db.tables import usage_fair
from hub.usage.time_query import Shape, Sum, Time, asked, parts
from hub.usage.windows import Window, bounds

__all__ = ["by_window", "decayed", "share_seconds", "times_of", "used", "used_by_each"]

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
    if not any(windows.values()):
        return {subject: {} for subject in windows}
    if now is None:
        now = float(connection.scalar(select(Now())) or 0.0)
    named, times = times_of(windows, zone, now)
    return by_window(windows, named, _sums(connection, [time._replace(end=now) for time in times]))


def times_of(
    windows: Mapping[str, Collection[Window]], zone: tzinfo, now: float
) -> tuple[tuple[Window, ...], tuple[Time, ...]]:
    """Return the windows of all of these subjects, each once, and of each the time up to now, with its subjects."""
    subjects: defaultdict[Window, list[str]] = defaultdict(list)
    for subject in sorted(windows):
        for window in dict.fromkeys(windows[subject]):
            subjects[window].append(subject)
    times = (Time(tuple(theirs), bounds(window, now, zone).since) for window, theirs in subjects.items())
    return tuple(subjects), tuple(times)


def by_window(
    subjects: Iterable[str], named: Sequence[Window], sums: Iterable[Sum]
) -> Mapping[str, Mapping[tuple[Window, str], float]]:
    """Return what each of these subjects used, by window and accelerator, "" standing for all together; the sums' times
    are those of the windows that are named."""
    found: dict[str, defaultdict[tuple[Window, str], float]] = {subject: defaultdict(float) for subject in subjects}
    for number, subject, accelerator, seconds in sums:
        theirs, window = found[subject], named[number]
        theirs[window, ""] += seconds
        if accelerator:
            theirs[window, accelerator] += seconds
    return {subject: dict(theirs) for subject, theirs in found.items()}


def share_seconds(connection: Connection, subject: str, since: float, until: float) -> Mapping[str, float]:
    """Return what a subject used from one moment to another, by accelerator; "" stands for all together.

    The moments, in seconds since 1970, count as the quarters of an hour that they lie in.
    """
    end = min(until, float(connection.scalar(select(Now())) or 0.0))
    found: defaultdict[str, float] = defaultdict(float)
    for _, _, accelerator, seconds in _sums(connection, [Time((subject,), since, until, end)]):
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


def _sums(connection: Connection, times: Sequence[Time]) -> list[Sum]:
    """Return what was used in each of these times, in parts."""
    shapes, values = asked(times)
    return [Sum(*row) for row in _query(shapes).all(connection, values)]


@lru_cache(maxsize=256)
def _query(shapes: tuple[Shape, ...]) -> Prepared:
    return Prepared(lambda dialect: union_all(*parts(shapes, dialect)))
