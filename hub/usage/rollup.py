"""Days: what each account, person and kind used on each day of the calendar, and the decayed use that is fair share.

The controller folds the ledger into them every few minutes; each row knows how much of it is in them already, in the
same transaction, so that it may die at any moment. What is not in them yet is added by whoever asks (`pieces`). A
change of the quotas' time zone, or of the half-life, counts from then on.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import tzinfo
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, select, update

from hub.db.clock import Now
from hub.db.tables import ledger, usage_days, usage_fair
from hub.usage.charges import add_up
from hub.usage.windows import days_of

__all__ = ["FOLD_EVERY_S", "Piece", "fold", "pieces", "unfolded"]

FOLD_EVERY_S = 300.0
"""How often the controller should fold, in seconds."""


class Piece(NamedTuple):
    """Use of one session on one day; `seconds` below zero correct what was charged."""

    day: str
    account: str
    user: str
    accelerator: str
    seconds: float
    share: float
    cards: int
    cores: float

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The key of its row in the sums of days."""
        return self.day, self.account, self.user, self.accelerator

    @property
    def sums(self) -> tuple[float, float, float, float]:
        """Seconds of share, of cards, of the session, and of cores."""
        return (self.share * self.seconds, self.cards * self.seconds, self.seconds, self.cores * self.seconds)


def unfolded() -> Select[Any]:
    """Return the query for the rows of which something may not be in the sums of days yet."""
    names = ("id", "account", "user_name", "accelerator", "share", "count", "cpu_m")
    times = ("beat_at", "closed_at", "seconds", "folded_s")
    return select(*(ledger.c[name] for name in (*names, *times))).where(ledger.c.folded.is_(False))


def pieces(rows: Iterable[Row[Any]], zone: tzinfo, now: float | None = None) -> Iterator[Piece]:
    """Cut what is not in the sums of days into days.

    Parameters
    ----------
    rows
        Of `unfolded`.
    now
        Open rows count up to this moment; None: up to their last heartbeat.
    """
    for row in rows:
        more = row.seconds - row.folded_s
        times = [(row.beat_at - abs(more), row.beat_at)]
        if now is not None and row.closed_at is None and row.beat_at < now:
            times.append((row.beat_at, now))
        for since, until in times:
            for day, begin, end in days_of(since, until, zone):
                seconds = math.copysign(end - begin, more)
                whose = (day.isoformat(), row.account, row.user_name, row.accelerator)
                yield Piece(*whose, seconds, row.share, row._mapping["count"], (row.cpu_m or 0) / 1000)


def fold(connection: Connection, zone: tzinfo, half_life_s: float) -> int:
    """Bring the sums of days, and the decayed use of the accounts, up to the last heartbeats; return how many rows.

    Parameters
    ----------
    zone
        In which days begin (`quotas.timezone`).
    half_life_s
        In which use comes to count half for the order of the queue.
    """
    rows = connection.execute(unfolded()).all()
    if not rows:
        return 0
    now = float(connection.scalar(select(Now())) or 0.0)
    days: defaultdict[tuple[str, str, str, str], list[float]] = defaultdict(lambda: [0.0] * 4)
    for piece in pieces(rows, zone):
        sums = days[piece.key]
        for index, value in enumerate(piece.sums):
            sums[index] += value
    add_up(connection, usage_days, days)
    _fade(connection, rows, now, half_life_s)
    done = update(ledger).where(ledger.c.folded.is_(False))
    connection.execute(done.values(folded_s=ledger.c.seconds, folded=ledger.c.closed_at.is_not(None)))
    return len(rows)


def _fade(connection: Connection, rows: Iterable[Row[Any]], now: float, half_life_s: float) -> None:
    more: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        length = row.seconds - row.folded_s
        if row.share and length:
            age = max(0.0, now - row.beat_at)
            more[row.account] += math.copysign(row.share * _weight(age, abs(length), half_life_s), length)
    if not more:
        return
    before = {row.account: row for row in connection.execute(select(usage_fair))}
    made, changed = [], []
    for account, value in sorted(more.items()):
        old = before.get(account)
        if old is None:
            made.append({"account": account, "decayed": max(0.0, value), "at": now})
        else:
            left = old.decayed * 0.5 ** (max(0.0, now - old.at) / half_life_s)
            changed.append({"account": account, "decayed": max(0.0, left + value), "at": now})
    if changed:
        connection.execute(usage_fair.delete().where(usage_fair.c.account.in_([one["account"] for one in changed])))
    connection.execute(usage_fair.insert(), made + changed)


def _weight(age: float, length: float, half_life_s: float) -> float:
    """Return what `length` seconds that ended `age` seconds ago count for: the integral of their decay."""
    rate = math.log(2) / half_life_s
    return math.exp(-rate * age) * -math.expm1(-rate * length) / rate
