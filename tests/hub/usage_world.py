"""Ledgers for tests: a database with a clock of the test's own, and sums that are counted in the plainest way."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row, func, select

from hub.db.tables import ledger as table
from hub.db.tables import usage_days, usage_spans
from hub.db.transaction import read, write
from hub.db.upgrade import upgrade
from hub.usage import ledger
from hub.usage.ledger import Ran
from hub.usage.rollup import fold
from hub.usage.sums import used
from hub.usage.windows import Window
from spawner.reservation import Reservation
from tests.database_clock import DatabaseClock, connect_with

T = TypeVar("T")
ROME = ZoneInfo("Europe/Rome")
WEEK_S = 7 * 86_400.0


def at(text: str, zone: ZoneInfo = ROME) -> float:
    """The moment of a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def held(key: str, user: str = "ann", account: str = "group:cms", **more: Any) -> Reservation:
    """What a start holds: half a T4, unless said otherwise."""
    given: dict[str, Any] = {
        "server": "",
        "profile": "lab",
        "accelerator": "t4",
        "count": 1,
        "cpu_m": 2000,
        "memory": 1 << 30,
        "share": 0.5,
    }
    return Reservation(key, user, account=account, **{**given, **more})


class Books:
    """A ledger and its clock."""

    def __init__(self, url: str, now: float) -> None:
        self.clock = DatabaseClock(now)
        self.engine = connect_with(self.clock, url)
        upgrade(self.engine)

    def write(self, work: Callable[[Connection], T]) -> T:
        return write(self.engine, work)

    def read(self, work: Callable[[Connection], T]) -> T:
        return read(self.engine, work)

    def open(self, *more: Reservation) -> None:
        self.write(lambda c: [ledger.open(c, one) for one in more])

    def beat(self, *keys: str, lasted_s: float | None = None) -> int:
        return self.write(lambda c: ledger.beat(c, {key: Ran(lasted_s=lasted_s) for key in keys}))

    def close(self, *keys: str, ended_as: str = "stopped", end: float | None = None) -> int:
        return self.write(lambda c: ledger.close(c, keys, ended_as, end))

    def fold(self, zone: ZoneInfo = ROME) -> int:
        return self.write(lambda c: fold(c, zone, WEEK_S))

    def row(self, key: str) -> Row[Any]:
        return self.read(lambda c: c.execute(select(table).where(table.c.id == key)).one())

    def used(self, subject: str, *windows: Window) -> dict[tuple[str, str], float]:
        return dict(self.read(lambda c: used(c, subject, windows, ROME)))

    def totals(self) -> tuple[float, float, float]:
        """Session-seconds of the ledger, of the sums of accounts, and of the days."""

        def work(connection: Connection) -> tuple[float, float, float]:
            spans = usage_spans.c.subject.not_like("by:%"), usage_spans.c.size == 1
            return (
                connection.scalar(select(func.sum(table.c.seconds))) or 0.0,
                connection.scalar(select(func.sum(usage_spans.c.session_seconds)).where(*spans)) or 0.0,
                connection.scalar(select(func.sum(usage_days.c.session_seconds))) or 0.0,
            )

        return self.read(work)

    def days(self) -> dict[tuple[str, str], float]:
        """Session-seconds by day and account."""
        rows = self.read(lambda c: c.execute(select(usage_days)).all())
        return {(row.day, row.account): row.session_seconds for row in rows}

    def close_engine(self) -> None:
        self.engine.dispose()


def overlap(intervals: Collection[tuple[float, float]], since: float, until: float) -> float:
    """How much of these times lies between two moments."""
    return sum(max(0.0, min(end, until) - max(begin, since)) for begin, end in intervals)
