"""The ledger: one row for each session, from the moment it is granted what it wants until that is given back.

A row has the id of its reservation and is made in the same transaction, so that no second is charged twice: there
cannot be two. While the session runs the controller moves `beat_at`, up to which it is charged; every second is added
to the sums in the same transaction. Rows are never changed once they are closed; what was wrong is corrected by further
rows.

Time is the database's. Where its clock was set meanwhile, the seconds that a clock which nobody sets has counted are
charged, or, where none was running, none: never a second below zero, never one twice. Functions of a connection.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Row, bindparam, func, select, update

from hub.db.clock import Now
from hub.db.insert import insert_unless_there
from hub.db.prepared import Prepared, Step
from hub.db.tables import ledger as table
from hub.usage.charges import Charge, add_up_spans
from spawner.reservation import Reservation

__all__ = [
    "HEARTBEAT_S",
    "LAST_BEAT",
    "NOTICED",
    "LedgerProblem",
    "OpenRow",
    "Ran",
    "beat",
    "begun",
    "close",
    "correct",
    "open",
    "opened",
    "opening",
]

T = TypeVar("T")

HEARTBEAT_S = 30.0
"""What a crash may lose of each session, in seconds, at most."""

LAST_BEAT = 0.0
"""As the moment of a close: when it was last known to run."""

NOTICED = -1.0
"""As the moment of a close: it is found out now that it has ended, and nobody saw when. Now, unless that is more than a
heartbeat after it was last known to run: then a heartbeat after that."""

_JUMP_S = 60.0
"""By how much the database's clock and one that nobody sets may differ between two heartbeats. Waiting for the lock of
writers takes 10 s at most, a clock that is brought into step some milliseconds."""

_BATCH = 500


class LedgerProblem(ValueError):
    """A correction that cannot be made; the text says why."""


class Ran(NamedTuple):
    """What is known of a session that runs.

    `lasted_s` is how long ago it was last beaten, by a clock that nobody sets; None: not known.
    """

    node: str = ""
    image: str = ""
    digest: str = ""
    lasted_s: float | None = None


class OpenRow(NamedTuple):
    """A row that is not closed; moments in seconds since 1970."""

    id: str
    user: str
    server: str
    account: str
    opened_at: float
    beat_at: float


def open(connection: Connection, held: Reservation, image: str = "") -> bool:
    """Begin to charge for what is held; return whether there was no such row yet. Opening twice is opening once.

    Parameters
    ----------
    image
        Reference of the image that it will run.
    """
    statement, values = opening(held, image, _now(connection))
    return statement.run(connection, values) == 1


def opening(held: Reservation, image: str, now: float) -> Step:
    """Return what begins to charge for what is held.

    Parameters
    ----------
    image
        Reference of the image that it will run.
    now
        The present moment by the database's clock.
    """
    values = {
        "id": held.id,
        "user_name": held.user,
        "server": held.server,
        "account": held.account or f"user:{held.user}",
        "profile": held.profile,
        "accelerator": held.accelerator or "",
        "count": held.count,
        "share": held.share,
        "cpu_m": held.cpu_m,
        "memory": held.memory,
        "image": image,
        "digest": "",
        "node": "",
        "opened_at": now,
        "beat_at": now,
        "closed_at": None,
        "ended_as": "",
        "corrects": None,
        "seconds": 0.0,
        "by": "",
        "folded_s": 0.0,
        "folded": False,
    }
    return _OPENS, values


def begun(connection: Connection, held: Reservation) -> None:
    """Note cpu and memory of a start that has begun: of what was granted before, its spawner has told them only now."""
    mine = update(table).where(table.c.id == held.id, table.c.closed_at.is_(None))
    connection.execute(mine.values(cpu_m=held.cpu_m, memory=held.memory))


def opened(connection: Connection) -> tuple[OpenRow, ...]:
    """Return the rows that are open, the oldest first."""
    columns = (table.c.id, table.c.user_name, table.c.server, table.c.account, table.c.opened_at, table.c.beat_at)
    rows = connection.execute(select(*columns).where(*_OPEN).order_by(table.c.opened_at, table.c.id))
    return tuple(OpenRow(*tuple[Any, ...](row)) for row in rows)


def beat(connection: Connection, running: Mapping[str, Ran]) -> int:
    """Charge the sessions that run up to now, and note where and what they run; return how many there were.

    Ids of which no row is open are passed over. What is not in it is not charged: should it turn out to run, its next
    heartbeat catches up. Some few statements, however many run.
    """
    rows = [row for row in connection.execute(select(*_CHARGED).where(*_OPEN)) if row.id in running]
    if not rows:
        return 0
    now = _now(connection)
    charges: list[Charge] = []
    steady: list[str] = []
    others: list[dict[str, Any]] = []
    for row in rows:
        ran = running[row.id]
        since = _since(row.beat_at, now, ran.lasted_s)
        if since < now:
            charges.append(_charge(row, since, now))
        known = {name: getattr(ran, name) or getattr(row, name) for name in ("node", "image", "digest")}
        if since == row.beat_at and all(getattr(row, name) == value for name, value in known.items()):
            steady.append(row.id)
        else:
            others.append({"of": row.id, "to": now, "more": now - since, **{f"new_{k}": v for k, v in known.items()}})
    for ids in _batches(steady):
        passed = table.c.seconds + (now - table.c.beat_at)
        connection.execute(update(table).where(table.c.id.in_(ids)).values(beat_at=now, seconds=passed))
    if others:
        connection.execute(_MOVE, others)
    add_up_spans(connection, charges)
    return len(rows)


def close(connection: Connection, ids: Collection[str], ended_as: str, at: float | None = None) -> int:
    """End these, for good; return how many were open. Those that are not, or never were, are passed over.

    Parameters
    ----------
    ended_as
        Why, as a code.
    at
        When they ended, in seconds since 1970; None: now; or `LAST_BEAT`, or `NOTICED`. What was charged is never
        taken back, so before the last heartbeat is at the last heartbeat; later than now is now.
    """
    rows = [
        row
        for some in _batches(sorted(set(ids)))
        for row in connection.execute(select(*_CHARGED).where(table.c.id.in_(some), table.c.closed_at.is_(None)))
    ]
    if not rows:
        return 0
    now = _now(connection)
    ends = [(row, max(row.beat_at, _end(row.beat_at, now, at))) for row in rows]
    changes = [{"of": row.id, "to": end, "more": end - row.beat_at} for row, end in ends]
    connection.execute(_END.values(ended_as=ended_as), changes)
    add_up_spans(connection, [_charge(row, row.beat_at, end) for row, end in ends])
    return len(rows)


def correct(connection: Connection, row_id: str, seconds: float, by: str, *, since: float | None = None) -> str:
    """Add seconds to a closed row, or with a minus take them off, by a row of its own; return that row's id.

    Taken off is the end of the session's time, and added is what would have come then, so that days and budgets come
    right too.

    Parameters
    ----------
    by
        Who, and why, for people.
    since
        When what is added began; default: as above.

    Raises
    ------
    LedgerProblem
        There is no such row, it is open or itself a correction, or less would be left than nothing (by a second or
        more: by less is all that is left).
    """
    row = connection.execute(select(table).where(table.c.id == row_id)).one_or_none()
    if row is None:
        raise LedgerProblem(f"the ledger has no row {row_id!r}")
    if row.corrects is not None:
        raise LedgerProblem(f"row {row_id!r} is a correction of {row.corrects!r}: correct that one again")
    if row.closed_at is None:
        raise LedgerProblem(f"row {row_id!r} is still open: it can be corrected when its session has ended")
    if not seconds or not isfinite(seconds) or not by.strip():
        raise LedgerProblem("a correction needs a number of seconds other than 0, and who makes it and why")
    so_far = connection.scalar(select(func.sum(table.c.seconds)).where(table.c.corrects == row_id)) or 0.0
    left = row.seconds + so_far
    if -1.0 < left + seconds < 0:
        seconds = -left  # people take off whole seconds, and clocks do not count them
    if left + seconds < 0:
        raise LedgerProblem(f"row {row_id!r} has {left:.0f} s; {-seconds:.0f} s cannot be taken off")
    placed, since = since, row.opened_at + left + min(0.0, seconds)
    if placed is not None:
        since = placed
    elif seconds > 0:
        since = max(row.opened_at, min(since, _now(connection) - seconds))
    until = since + abs(seconds)
    made = uuid.uuid4().hex
    values = dict(row._mapping)
    values.update(id=made, corrects=row_id, seconds=seconds, by=by, ended_as="correction")
    values.update(opened_at=since, beat_at=until, closed_at=until, folded_s=0.0, folded=False)
    connection.execute(table.insert(), values)
    add_up_spans(connection, [_charge(row, since, until)._replace(sign=1 if seconds > 0 else -1)])
    return made


# `folded` is what the small index of these rows is of.
_OPEN = (table.c.folded.is_(False), table.c.closed_at.is_(None))
_OPENS = Prepared(partial(insert_unless_there, table))

_CHARGED = tuple(
    table.c[name]
    for name in (
        *("id", "user_name", "account", "accelerator", "count", "share"),
        *("beat_at", "node", "image", "digest"),
    )
)

_MOVE = (
    update(table)
    .where(table.c.id == bindparam("of"))
    .values(
        beat_at=bindparam("to"),
        seconds=table.c.seconds + bindparam("more"),
        **{name: bindparam(f"new_{name}") for name in ("node", "image", "digest")},
    )
)

_END = (
    update(table)
    .where(table.c.id == bindparam("of"))
    .values(beat_at=bindparam("to"), closed_at=bindparam("to"), seconds=table.c.seconds + bindparam("more"))
)


def _since(beat_at: float, now: float, lasted_s: float | None) -> float:
    """Return since when a heartbeat charges; `now` where nothing can be told."""
    passed = now - beat_at
    if lasted_s is not None and abs(passed - lasted_s) > _JUMP_S:
        return now - max(0.0, lasted_s)  # the database's clock was set
    return now if passed < 0 else beat_at


def _end(beat_at: float, now: float, at: float | None) -> float:
    """Return when a session ended; before `beat_at` where it is not charged any more."""
    if at == NOTICED:
        return min(now, beat_at + HEARTBEAT_S)
    return now if at is None else min(at, now)


def _charge(row: Row[Any], since: float, until: float) -> Charge:
    return Charge(row.account, row.user_name, row.accelerator, row._mapping["count"], row.share, since, until)


def _now(connection: Connection) -> float:
    return float(connection.scalar(select(Now())) or 0.0)


def _batches(found: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(found), _BATCH):
        yield found[start : start + _BATCH]
