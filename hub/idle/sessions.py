"""What is known of running sessions: when they worked, how often they were kept, when they end and why.

The only module that writes the table `sessions`. Functions of a connection: call them inside
`hub.db.transaction.write` or `read`. A row is there from the first time that a session was seen or measured itself
until its reservation is given back; what gives it back asks `why` first.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, Row, bindparam, case, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into

from hub.db.clock import Now
from hub.db.tables import reservations
from hub.db.tables import sessions as table
from hub.idle.activity import Measures, picture, quiet_s
from hub.settings.idle import IdleSettings

__all__ = [
    "Arrived",
    "Kept",
    "Known",
    "all",
    "announce",
    "begin",
    "ends",
    "forget",
    "keep",
    "measured",
    "of",
    "of_server",
    "ready",
    "set_end",
    "why",
    "withdraw",
    "works",
]

_BATCH = 500

# Every decision asks this: a statement that is made once is not put together each time.
_SURE = table.c.stop_because.in_(["budget", "limit", "admin", "switch"])
_ENDS = select(table.c.id, table.c.ends_at, case((_SURE, table.c.stop_at), else_=None).label("stop_at"))


@dataclass(frozen=True)
class Known:
    """One row; moments by the database's clock."""

    id: str
    user: str
    server: str
    active_at: float
    ready_at: float | None = None
    keeps: int = 0
    ends_at: float | None = None
    stop_at: float | None = None
    stop_because: str = ""
    measures: Mapping[str, Any] = field(default_factory=dict)
    """As `hub.idle.activity.picture` made it; empty: it never measured itself."""
    measured_at: float | None = None


@dataclass(frozen=True)
class Kept:
    """What came of *Keep my session*."""

    outcome: Literal["kept", "not-needed", "used-up", "not-idle", "no-session"]
    known: Known | None = None


def begin(connection: Connection, sessions: Iterable[tuple[str, str, str]]) -> None:
    """Know of these, each id, user and server; those that are known already stay as they are."""
    wanted = {id: (user, server) for id, user, server in sessions}
    there: set[str] = set()
    for batch in _batches(wanted):
        there.update(connection.scalars(select(table.c.id).where(table.c.id.in_(batch))))
    for id, (user, server) in wanted.items():
        if id not in there:
            connection.execute(
                insert_into(table).values(
                    id=id, user_name=user, server=server, active_at=Now(), keeps=0, stop_because="", measures="{}"
                )
            )


def all(connection: Connection) -> dict[str, Known]:
    """Return every session that is known, by its id."""
    return {row.id: _known(row) for row in connection.execute(select(table))}


def of(connection: Connection, id: str) -> Known | None:
    """Return one session."""
    row = connection.execute(select(table).where(table.c.id == id)).one_or_none()
    return None if row is None else _known(row)


def of_server(connection: Connection, user: str, server: str) -> Known | None:
    """Return the session of this server of this person; None: nothing is held for it, or nothing known of it yet."""
    newest = _newest(connection, [user]).get((user, server))
    return None if newest is None else of(connection, newest[0])


def ready(connection: Connection, ids: Collection[str]) -> None:
    """Note that these run, from now on unless it was noted before."""
    for batch in _batches(ids):
        first = table.c.id.in_(batch) & table.c.ready_at.is_(None)
        connection.execute(update(table).where(first).values(ready_at=Now(), active_at=Now()))


def works(connection: Connection, ids: Collection[str]) -> None:
    """Note that these work now, as somebody else than they themselves tells."""
    for batch in _batches(ids):
        connection.execute(update(table).where(table.c.id.in_(batch)).values(active_at=Now()))


@dataclass(frozen=True)
class Arrived:
    """What a session of this server sent of itself."""

    user: str
    server: str
    measures: Measures


def measured(connection: Connection, arrived: Sequence[Arrived], settings: IdleSettings) -> list[str | None]:
    """Take over what sessions measured of themselves; return their ids, None where nothing is held for that server.

    A session is known and ready from then on. A few statements, however many have arrived.
    """
    newest = _newest(connection, {one.user for one in arrived})
    held = {key: id for key, (id, _) in newest.items()}
    found = {(one.user, one.server): one.measures for one in arrived if (one.user, one.server) in held}
    begin(connection, [(held[key], *key) for key in found])
    now = float(connection.scalar(select(Now())) or 0.0)
    before = {id: known for batch in _batches([held[key] for key in found]) for id, known in _some(connection, batch)}
    changes = []
    for key, measures in found.items():
        known, quiet = before[held[key]], quiet_s(measures, settings, shares=newest[key][1])
        changes.append(
            {
                "of": known.id,
                "said": json.dumps(picture(known.measures, measures, now)),
                "now": now,
                "ready": known.ready_at if known.ready_at is not None else now,
                "active": known.active_at if quiet is None else max(known.active_at, now - quiet),
            }
        )
    if changes:
        connection.execute(_MEASURED, changes)
    return [held.get((one.user, one.server)) for one in arrived]


_MEASURED = (
    update(table)
    .where(table.c.id == bindparam("of"))
    .values(
        measures=bindparam("said"),
        measured_at=bindparam("now"),
        ready_at=bindparam("ready"),
        active_at=bindparam("active"),
    )
)


def _newest(connection: Connection, users: Collection[str]) -> dict[tuple[str, str], tuple[str, bool]]:
    """Return the newest session of each server of these people, and whether it has parts of cards only."""
    found = {}
    for batch in _batches(users):
        mine = select(reservations).where(reservations.c.user_name.in_(batch), reservations.c.state == "begun")
        for row in connection.execute(mine.order_by(reservations.c.reserved_at)):
            found[row.user_name, row.server] = row.id, 0 < row.share < row._mapping["count"]
    return found


def _some(connection: Connection, ids: Collection[str]) -> list[tuple[str, Known]]:
    return [(row.id, _known(row)) for row in connection.execute(select(table).where(table.c.id.in_(ids)))]


def set_end(connection: Connection, id: str, ends_at: float | None) -> None:
    """Note when a session ends by the limit of its length."""
    connection.execute(update(table).where(table.c.id == id).values(ends_at=ends_at))


def announce(connection: Connection, id: str, stop_at: float, because: str) -> None:
    """Note that a session will be stopped then, and why."""
    connection.execute(update(table).where(table.c.id == id).values(stop_at=stop_at, stop_because=because))


def withdraw(connection: Connection, id: str, because: str | None = None) -> None:
    """Note that a session will not be stopped after all.

    Parameters
    ----------
    because
        Only if this was why; default: whatever was.
    """
    announced = update(table).where(table.c.id == id)
    if because is not None:
        announced = announced.where(table.c.stop_because == because)
    connection.execute(announced.values(stop_at=None, stop_because=""))


def keep(connection: Connection, user: str, server: str, allowed: int) -> Kept:
    """Let an idle session of which a stop is announced go on for its whole limit again.

    Parameters
    ----------
    allowed
        How often that may be asked for in one session.
    """
    known = of_server(connection, user, server)
    if known is None:
        return Kept("no-session")
    if not known.stop_because:
        return Kept("not-needed", known)
    if known.stop_because != "idle":
        return Kept("not-idle", known)
    if known.keeps >= allowed:
        return Kept("used-up", known)
    mine = table.c.id == known.id
    connection.execute(
        update(table).where(mine).values(keeps=table.c.keeps + 1, active_at=Now(), stop_at=None, stop_because="")
    )
    return Kept("kept", of(connection, known.id))


def why(connection: Connection, id: str) -> str:
    """Return why a session that is over was stopped: idle, limit, budget, switch, admin; empty: its owner ended it.

    To be asked by what closes its row in the ledger, before the row here is gone. A stop that was announced for later
    is no reason: the session ended before.
    """
    due = select(table.c.stop_because).where(table.c.id == id, table.c.stop_at.is_not(None), table.c.stop_at <= Now())
    return str(connection.scalar(due) or "")


def ends(connection: Connection, ids: Collection[str] | None = None) -> dict[str, float]:
    """Return when sessions end for sure, by their ids: by their length's limit, or because a stop is announced that
    nothing its owner does puts off.

    Parameters
    ----------
    ids
        Only of these; None: of all.
    """
    queries = [_ENDS] if ids is None else [_ENDS.where(table.c.id.in_(batch)) for batch in _batches(ids)]
    found = {}
    for row in [row for query in queries for row in connection.execute(query).all()]:
        moments = [moment for moment in (row.ends_at, row.stop_at) if moment is not None]
        if moments:
            found[row.id] = min(moments)
    return found


def forget(connection: Connection, ids: Collection[str]) -> None:
    """Remove the rows of sessions that hold nothing any more."""
    for batch in _batches(ids):
        connection.execute(delete_from(table).where(table.c.id.in_(batch)))


def _batches(ids: Collection[str]) -> list[list[str]]:
    ordered = sorted(ids)
    return [ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH)]


def _known(row: Row[Any]) -> Known:
    measures = json.loads(row.measures or "{}")
    return Known(
        id=row.id,
        user=row.user_name,
        server=row.server,
        active_at=row.active_at,
        ready_at=row.ready_at,
        keeps=row.keeps,
        ends_at=row.ends_at,
        stop_at=row.stop_at,
        stop_because=row.stop_because,
        measures=measures if isinstance(measures, dict) else {},
        measured_at=row.measured_at,
    )
