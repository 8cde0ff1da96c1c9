"""What a piece of time costs, and adding it to the sums that budgets are checked by.

Each piece is added twice, for the account and for the person, and for each of them to a quarter of an hour and to a day
of UTC.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table

from hub.db.tables import usage_spans as table
from hub.usage.windows import quarters_of

__all__ = ["DAY", "QUARTER", "Charge", "add_up", "add_up_spans", "by_user"]

QUARTER, DAY = 1, 96
"""Sizes of the spans, in quarters of an hour."""

_ROWS = 500
"""Rows of one statement: SQLite takes 32,766 values, PostgreSQL 65,535."""


class Charge(NamedTuple):
    """A piece of time for which somebody held something; `sign` -1 takes it back. Moments in seconds since 1970."""

    account: str
    user: str
    accelerator: str
    cards: int
    share: float
    since: float
    until: float
    sign: int = 1


def by_user(user: str) -> str:
    """Return the subject of all that a person used, whatever was charged."""
    return f"by:{user}"


def add_up_spans(connection: Connection, charges: Iterable[Charge]) -> None:
    """Add these to the sums of quarters and of UTC's days."""
    found: defaultdict[tuple[str, int, int, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for charge in charges:
        subjects = (charge.account, by_user(charge.user))
        for quarter, length in quarters_of(charge.since, charge.until):
            seconds = charge.sign * length
            for size, first in ((QUARTER, quarter), (DAY, quarter - quarter % DAY)):
                for subject in subjects:
                    sums = found[subject, size, first, charge.accelerator]
                    sums[0] += charge.share * seconds
                    sums[1] += charge.cards * seconds
                    sums[2] += seconds
    add_up(connection, table, found)


def add_up(connection: Connection, sums: Table, found: Mapping[tuple[Any, ...], list[float]]) -> None:
    """Add to the rows of a table of sums, which are named by its key; those that are not there are made.

    Parameters
    ----------
    found
        For each key, in the order of the key's columns, what is added to the other columns.
    """
    if not found:
        return
    keys = [column.name for column in sums.primary_key]
    values = [column.name for column in sums.columns if not column.primary_key]
    # In the order of the index, which both databases write faster.
    rows = [(*key, *found[key]) for key in sorted(found)]
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    one = f"({', '.join([mark] * (len(keys) + len(values)))})"
    # SQLAlchemy's own executemany sends a statement for each row; here hundreds go at once.
    added = ", ".join(f"{name} = {sums.name}.{name} + excluded.{name}" for name in values)
    head = f"INSERT INTO {sums.name} ({', '.join(keys + values)}) VALUES "  # noqa: S608  # names of ours only
    tail = f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {added}"
    for start in range(0, len(rows), _ROWS):
        batch = rows[start : start + _ROWS]
        flat = tuple(value for row in batch for value in row)
        connection.exec_driver_sql(head + ", ".join([one] * len(batch)) + tail, flat)
