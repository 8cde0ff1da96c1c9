"""How often which refusal was given, by day and door: counted in memory, and written every few seconds.

It is a statistic: a crash loses some seconds of it, and a database that is away is waited for. A refusal itself never
waits, and a storm of them costs the database no more than one.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from datetime import date, tzinfo
from typing import NamedTuple

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy import update as update_of

from hub.db.clock import Now
from hub.db.insert import insert_unless_there
from hub.db.tables import refusals as table
from hub.db.transaction import write
from hub.usage.windows import day_of

__all__ = ["Refusals", "Refused", "by_code"]

_log = logging.getLogger(__name__)

EVERY_S = 5.0
_MOST_KINDS = 1000
"""Different ones that are kept until the database is there again."""


class Refused(NamedTuple):
    """How often a code was answered at a door: `hub` or `service`."""

    code: str
    door: str
    number: int


class Refusals:
    """Counts for one process.

    Parameters
    ----------
    zone
        In which days begin.
    every_s
        How long is gathered before it is written.
    """

    def __init__(self, database: Engine, zone: tzinfo, *, every_s: float = EVERY_S) -> None:
        self._database = database
        self._zone = zone
        self._every_s = every_s
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._planned: threading.Timer | None = None

    def add(self, door: str, code: str) -> None:
        """Count one; returns at once."""
        with self._lock:
            if len(self._counts) < _MOST_KINDS or (door, code) in self._counts:
                self._counts[door, code] += 1
            if self._planned is None:
                self._planned = threading.Timer(self._every_s, self.flush)
                self._planned.daemon = True  # a statistic keeps no process
                self._planned.start()

    def flush(self) -> None:
        """Write what was counted since the last time. Blocks; never raises for a database that is away."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            if self._planned is not None:
                self._planned.cancel()
            self._planned = None
        if not counts:
            return
        try:
            write(self._database, lambda connection: _store(connection, counts, self._zone))
        except OSError as error:
            _log.warning("Refusals could not be counted, and will be later: %s", error)
            with self._lock:
                self._counts.update(counts)


def by_code(connection: Connection, first: date, last: date) -> list[Refused]:
    """Return how often each code was answered on these days, both included, the most frequent first."""
    number = func.sum(table.c.number)
    query = select(table.c.code, table.c.door, number).where(table.c.day.between(first.isoformat(), last.isoformat()))
    rows = connection.execute(query.group_by(table.c.code, table.c.door)).all()
    found = [Refused(str(row[0]), str(row[1]), int(row[2])) for row in rows]
    return sorted(found, key=lambda one: (-one.number, one.code, one.door))


def _store(connection: Connection, counts: Mapping[tuple[str, str], int], zone: tzinfo) -> None:
    day = day_of(float(connection.scalar(select(Now())) or 0.0), zone).isoformat()
    for (door, code), number in sorted(counts.items()):
        row = {"day": day, "door": door, "code": code}
        connection.execute(insert_unless_there(table, connection.dialect.name).values(**row, number=0))
        here = [table.c[name] == value for name, value in row.items()]
        connection.execute(update_of(table).where(*here).values(number=table.c.number + number))
