"""A month of an institute in Armillary's database: what a site has that is asked for one session more.

A million rows of the ledger, and the sums, days and decayed use that the program would have made of them: those of each
row's own times, so that every sum can be checked against the rows. Written past the program, in bulk, in a minute.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, Table, select, text

from hub.db.clock import Now
from hub.db.tables import ledger, usage_days, usage_fair, usage_spans
from hub.db.transaction import write
from hub.usage.charges import DAY, QUARTER
from hub.usage.windows import days_of, quarters_of

__all__ = ["KINDS", "History", "fill", "group_of", "user_name"]

KINDS: tuple[tuple[str, float], ...] = (
    ("a100", 1.0),
    ("a100-1g.5gb", 1 / 7),
    ("a100-2g.10gb", 2 / 7),
    ("a100-3g.20gb", 3 / 7),
    ("t4", 1.0),
    ("u55c", 1.0),
    ("", 0.0),
)
"""Accelerators and their shares; the last is none."""

_DAY_S = 86_400.0
_LONGEST_S = 12 * 3600.0


@dataclass(frozen=True)
class History:
    """How much there is.

    Parameters
    ----------
    rows
        Of the ledger; the last `running` of them are open.
    users, groups
        Who used it; each is in one group, and charges it four times out of five, else themselves.
    days
        Over which the sessions are spread, up to now.
    """

    rows: int = 1_000_000
    users: int = 10_000
    groups: int = 20
    days: int = 30
    running: int = 500
    zone: str = "Europe/Rome"
    half_life_s: float = 7 * _DAY_S
    seed: int = 1


class _Session(NamedTuple):
    opened: float
    end: float
    user: int
    kind: int
    by_group: bool


def user_name(number: int) -> str:
    """The name of a user."""
    return f"u{number:05}"


def group_of(number: int, groups: int = History.groups) -> str:
    """The account of the group that a user is in."""
    return f"group:g{number % groups:02}"


def fill(engine: Engine, history: History = History()) -> float:  # noqa: B008  # frozen
    """Write it into a database whose tables are made, and empty; return the moment that it ends at."""

    def work(connection: Connection) -> float:
        if connection.dialect.name == "postgresql":
            for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                connection.execute(text(f"SET LOCAL {limit} = 0"))
        now = float(connection.scalar(select(Now())) or 0.0)
        sessions = _sessions(history, now)
        _insert(connection, ledger, _ledger_rows(history, sessions, now))
        _insert(connection, usage_spans, _span_rows(history, sessions))
        _insert(connection, usage_days, _day_rows(history, sessions))
        _insert(connection, usage_fair, _fair_rows(history, sessions, now))
        return now

    now = write(engine, work)
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))  # as its autovacuum does by itself, some time
    return now


def _sessions(history: History, now: float) -> list[_Session]:
    """In the order of their beginnings; the open ones last, and beaten some seconds ago."""
    chance = random.Random(history.seed)
    closed = history.rows - history.running
    length = history.running * history.days * _DAY_S / max(1, history.rows)
    begin = now - history.days * _DAY_S
    found = []
    for number in range(history.rows):
        kind = min(int(chance.random() * len(KINDS)), len(KINDS) - 1)
        user, by_group = chance.randrange(history.users), chance.random() < 0.8
        if number < closed:
            lasts = min(chance.expovariate(1 / length), _LONGEST_S)
            opened = begin + chance.random() * (now - lasts - begin)
            found.append(_Session(opened, opened + lasts, user, kind, by_group))
        else:
            beaten = now - chance.random() * 15
            found.append(_Session(beaten - chance.random() * _LONGEST_S / 2, beaten, user, kind, by_group))
    found[:closed] = sorted(found[:closed])
    return found


def _account(history: History, session: _Session) -> str:
    return group_of(session.user, history.groups) if session.by_group else f"user:{user_name(session.user)}"


def _ledger_rows(history: History, sessions: list[_Session], now: float) -> Iterator[tuple[Any, ...]]:
    closed = history.rows - history.running
    for number, session in enumerate(sessions):
        kind, share = KINDS[session.kind]
        seconds, over = session.end - session.opened, number < closed
        row = {
            "id": f"h{number:07}",
            "user_name": user_name(session.user),
            "server": "",
            "account": _account(history, session),
            "profile": "lab",
            "accelerator": kind,
            "count": 1 if kind else 0,
            "share": share,
            "cpu_m": 4000,
            "memory": 16 << 30,
            "image": "registry.example/lab:2026.11",
            "digest": "sha256:" + "0" * 64,
            "node": f"node-{session.user % 40}",
            "opened_at": session.opened,
            "beat_at": session.end,
            "closed_at": session.end if over else None,
            "ended_as": "stopped" if over else "",
            "corrects": None,
            "seconds": seconds,
            "by": "",
            "folded_s": seconds,
            "folded": over,
        }
        yield tuple(row[column.name] for column in ledger.columns)


def _span_rows(history: History, sessions: list[_Session]) -> Iterator[tuple[Any, ...]]:
    """In the order of the key, one subject after the other, so that only one subject's sums are held at a time."""
    by_user: defaultdict[int, list[_Session]] = defaultdict(list)
    by_group: defaultdict[str, list[_Session]] = defaultdict(list)
    for session in sessions:
        by_user[session.user].append(session)
        if session.by_group:
            by_group[_account(history, session)].append(session)
    for user in sorted(by_user):
        yield from _spans_of(f"by:{user_name(user)}", by_user[user])
    for account in sorted(by_group):
        yield from _spans_of(account, by_group[account])
    for user in sorted(by_user):
        yield from _spans_of(f"user:{user_name(user)}", (one for one in by_user[user] if not one.by_group))


def _spans_of(subject: str, sessions: Iterable[_Session]) -> Iterator[tuple[Any, ...]]:
    found: defaultdict[tuple[int, int, int], float] = defaultdict(float)
    for session in sessions:
        for quarter, seconds in quarters_of(session.opened, session.end):
            found[QUARTER, quarter, session.kind] += seconds
            found[DAY, quarter - quarter % DAY, session.kind] += seconds
    for (size, quarter, number), seconds in sorted(found.items()):
        kind, share = KINDS[number]
        yield (subject, size, quarter, kind, share * seconds, seconds if kind else 0.0, seconds)


def _day_rows(history: History, sessions: list[_Session]) -> Iterator[tuple[Any, ...]]:
    zone = ZoneInfo(history.zone)
    days = list(days_of(sessions[0].opened, sessions[-1].end + _DAY_S, zone)) if sessions else []
    found: defaultdict[tuple[str, str, int, int], float] = defaultdict(float)
    first = 0
    for session in sorted(sessions):
        while days[first][2] <= session.opened:
            first += 1
        index = first
        while index < len(days) and days[index][1] < session.end:
            day, begin, end = days[index]
            key = (day.isoformat(), _account(history, session), session.user, session.kind)
            found[key] += min(end, session.end) - max(begin, session.opened)
            index += 1
    for (day_name, account, user, number), seconds in sorted(found.items()):
        kind, share = KINDS[number]
        sums = (share * seconds, seconds if kind else 0.0, seconds, 4 * seconds)
        yield (day_name, account, user_name(user), kind, *sums)


def _fair_rows(history: History, sessions: list[_Session], now: float) -> Iterator[tuple[Any, ...]]:
    rate = math.log(2) / history.half_life_s
    found: defaultdict[str, float] = defaultdict(float)
    for session in sessions:
        share = KINDS[session.kind][1]
        weight = (math.exp(-rate * (now - session.end)) - math.exp(-rate * (now - session.opened))) / rate
        found[_account(history, session)] += share * weight
    yield from ((account, value, now) for account, value in sorted(found.items()) if value)


def _insert(connection: Connection, table: Table, rows: Iterator[tuple[Any, ...]]) -> None:
    """Write rows in bulk; the indexes are made when all are there, which takes a fraction of the time."""
    indexes = sorted(table.indexes, key=lambda index: str(index.name))
    for index in indexes:
        index.drop(connection)
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    bare: Any = connection.connection.dbapi_connection
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" for _ in table.columns)
        bare.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", rows)
    else:
        with bare.cursor() as cursor, cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    for index in indexes:
        index.create(connection)
