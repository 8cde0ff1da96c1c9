"""What was used on which days by whom, and the sessions themselves: for pages, exports and the command line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, tzinfo
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, func, select, tuple_

from hub.db.clock import Now
from hub.db.tables import ledger, usage_days
from hub.usage.rollup import pieces, unfolded

__all__ = ["BY", "By", "Scope", "Use", "by_days", "open_sessions", "sessions_closed", "total"]

By = Literal["day", "account", "user", "accelerator"]
"""By what use can be told apart."""

BY: tuple[By, ...] = get_args(By)

_COLUMNS = {
    "day": usage_days.c.day,
    "account": usage_days.c.account,
    "user": usage_days.c.user_name,
    "accelerator": usage_days.c.accelerator,
}
_SUMS = ("share_seconds", "card_seconds", "session_seconds", "cpu_seconds")


@dataclass(frozen=True)
class Scope:
    """Whose use: a person's, an account's, a person's on an account; with neither everybody's."""

    user: str | None = None
    account: str | None = None

    def of(self, table: Table) -> ColumnElement[bool]:
        """Return the condition on a table with the columns `user_name` and `account`."""
        found = []
        if self.user is not None:
            found.append(table.c.user_name == self.user)
        if self.account is not None:
            found.append(table.c.account == self.account)
        return and_(True, *found)


class Use(NamedTuple):
    """What was used, in seconds of a whole card (`share_s`), of cards, of sessions and of cores.

    `key` has what it is told apart by, in the order that was asked for. The accelerator "" is none.
    """

    key: tuple[str, ...]
    share_s: float
    card_s: float
    session_s: float
    core_s: float

    @property
    def sums(self) -> tuple[float, float, float, float]:
        """The four of them, in this order."""
        return self.share_s, self.card_s, self.session_s, self.core_s


def by_days(
    connection: Connection, scope: Scope, first: date, last: date, zone: tzinfo, by: Sequence[By] = BY
) -> list[Use]:
    """Return what was used from the first day to the last, both included, in the order of the keys.

    Sessions that run count up to now. An account's figures are those of its sessions, whoever used them.

    Parameters
    ----------
    zone
        In which days begin (`quotas.timezone`).
    by
        What it is told apart by; nothing gives one sum.
    """
    begin, end = first.isoformat(), last.isoformat()
    found: defaultdict[tuple[str, ...], list[float]] = defaultdict(lambda: [0.0] * 4)
    keys = [_COLUMNS[one] for one in by]
    query = select(*keys, *(func.sum(usage_days.c[name]) for name in _SUMS))
    days = query.where(scope.of(usage_days), usage_days.c.day.between(begin, end))
    for row in connection.execute(days.group_by(*keys) if keys else days):
        values: tuple[Any, ...] = tuple(row)
        _add(found[values[: len(keys)]], values[len(keys) :])
    now = float(connection.scalar(select(Now())) or 0.0)
    for piece in pieces(connection.execute(unfolded().where(scope.of(ledger))), zone, now):
        if begin <= piece.day <= end:
            _add(found[tuple(getattr(piece, one) for one in by)], piece.sums)
    return [Use(key, *found[key]) for key in sorted(found) if any(found[key])]


def total(uses: Iterable[Use]) -> Use:
    """Return the sum of these, told apart by nothing."""
    sums = [0.0] * 4
    for use in uses:
        _add(sums, use.sums)
    return Use((), *sums)


def _add(sums: list[float], more: Sequence[float | None]) -> None:
    for index, value in enumerate(more):
        sums[index] += value or 0.0


def sessions_closed(
    connection: Connection, scope: Scope, since: float, until: float, after: tuple[float, str] | None, limit: int
) -> list[Row[Any]]:
    """Return rows of the ledger that were closed since a moment and opened before another, the first to end first.

    Corrections are among them, as of the time that they correct.

    Parameters
    ----------
    after
        `closed_at` and `id` of the last row that was returned before; None: from the beginning.
    """
    place = ledger.c.closed_at, ledger.c.id
    query = select(ledger).where(scope.of(ledger), ledger.c.closed_at >= since, ledger.c.opened_at < until)
    if after is not None:
        query = query.where(ledger.c.closed_at >= after[0], tuple_(*place) > after)
    return list(connection.execute(query.order_by(*place).limit(limit)).all())


def open_sessions(connection: Connection, scope: Scope, until: float) -> Iterator[Row[Any]]:
    """Return the rows of the ledger that are open and were opened before a moment, the oldest first."""
    running = (ledger.c.folded.is_(False), ledger.c.closed_at.is_(None), ledger.c.opened_at < until)
    yield from connection.execute(
        select(ledger).where(scope.of(ledger), *running).order_by(ledger.c.opened_at, ledger.c.id)
    )
