"""What people should read: warnings of a running session, why the last one was stopped, maintenance.

The only module that writes the table `notices`. Functions of a connection: call them inside
`hub.db.transaction.write` or `read`. A notice about something that may be found again (a budget at 80 %, a stop) has
an id made from what it is about, so that it is made once however often it is found.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, and_, case, exists, or_, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into

from hub.db.clock import Now
from hub.db.tables import notices as table

__all__ = [
    "EVERYBODY",
    "Kind",
    "Level",
    "Notice",
    "add",
    "dismiss",
    "find",
    "ids",
    "of_user",
    "present",
    "sweep",
    "withdraw",
]

Kind = Literal["idle", "budget", "limit", "stopped", "queue", "maintenance"]
Level = Literal["info", "warning", "danger"]

EVERYBODY = ""
"""In the place of a user's name."""

_DISMISSAL = "dismissal"
"""Kind of a row that says: this person has read what was for everybody."""

_KEPT_S = 30 * 86400.0
_UNREAD_S = 90 * 86_400.0
_MOST = 50


@dataclass(frozen=True)
class Notice:
    """One of them. `user` empty: for everybody. `until` None: until it is dismissed."""

    id: str
    user: str
    kind: str
    level: str
    text: str
    made_at: float
    until: float | None = None
    spawn_id: str | None = None


def add(
    connection: Connection,
    user: str,
    kind: Kind,
    level: Level,
    text: str,
    *,
    id: str = "",
    spawn_id: str | None = None,
    until: float | None = None,
    for_s: float | None = None,
) -> str | None:
    """Make a notice and return its id; None if there is one of this id already, dismissed or not.

    Parameters
    ----------
    user
        Who shall read it; `EVERYBODY`.
    text
        Plain text; pages escape it.
    id
        Names what it is about; default: a new one each time.
    spawn_id
        Of the session that it is about; default: it is about none.
    until
        Not shown from this moment of the database's clock on; `for_s` says the same in seconds from now.
    """
    name = id or uuid.uuid4().hex
    if id and connection.scalar(select(table.c.id).where(table.c.id == id)) is not None:
        return None
    ends = until if for_s is None else Now() + for_s
    connection.execute(
        insert_into(table).values(
            id=name, user_name=user, spawn_id=spawn_id, kind=kind, level=level, text=text, made_at=Now(), until=ends
        )
    )
    return name


def of_user(connection: Connection, user: str, *, spawn_id: str | None = None) -> tuple[Notice, ...]:
    """Return what this person has not dismissed, the newest first; 50 at most.

    Parameters
    ----------
    spawn_id
        Leave out what is about other sessions that still run; default: all.
    """
    read = table.alias()
    dismissed = exists().where(read.c.user_name == user, read.c.kind == _DISMISSAL, read.c.spawn_id == table.c.id)
    wanted = select(table).where(
        table.c.user_name.in_([user, EVERYBODY]),
        table.c.kind != _DISMISSAL,
        table.c.dismissed_at.is_(None),
        or_(table.c.until.is_(None), table.c.until > Now()),
        ~and_(table.c.user_name == EVERYBODY, dismissed),
    )
    if spawn_id is not None:
        mine = (table.c.spawn_id.is_(None), table.c.spawn_id == spawn_id, table.c.kind == "stopped")
        wanted = wanted.where(or_(*mine))
    newest = wanted.order_by(table.c.made_at.desc(), table.c.id).limit(_MOST)
    return tuple(_notice(row) for row in connection.execute(newest))


def ids(connection: Connection, prefix: str) -> frozenset[str]:
    """Return the ids that begin like this, of notices dismissed or not."""
    return frozenset(connection.scalars(select(table.c.id).where(table.c.id.startswith(prefix, autoescape=True))))


def find(connection: Connection, id: str) -> Notice | None:
    """Return the notice of this id, dismissed or not."""
    row = connection.execute(select(table).where(table.c.id == id, table.c.kind != _DISMISSAL)).one_or_none()
    return None if row is None else _notice(row)


def dismiss(connection: Connection, user: str, id: str) -> bool:
    """Note that this person has read it; False: there is none of this id for them."""
    row = connection.execute(
        select(table).where(table.c.id == id, table.c.user_name.in_([user, EVERYBODY]), table.c.kind != _DISMISSAL)
    ).one_or_none()
    if row is None:
        return False
    if row.user_name != EVERYBODY:
        unread = and_(table.c.id == id, table.c.dismissed_at.is_(None))
        connection.execute(update(table).where(unread).values(dismissed_at=Now()))
        return True
    mine = f"{_DISMISSAL}/{user}/{id}"
    if connection.scalar(select(table.c.id).where(table.c.id == mine)) is None:
        connection.execute(
            insert_into(table).values(
                id=mine,
                user_name=user,
                spawn_id=id,
                kind=_DISMISSAL,
                level="info",
                text="",
                made_at=Now(),
                until=row.until,
                dismissed_at=Now(),
            )
        )
    return True


def present(connection: Connection, ids: Collection[str]) -> frozenset[str]:
    """Return those of these ids that there are, dismissed or not."""
    return frozenset(connection.scalars(select(table.c.id).where(table.c.id.in_(sorted(ids))))) if ids else frozenset()


def withdraw(connection: Connection, ids: Collection[str]) -> None:
    """Remove notices that are not true any more; ids of which there is none are passed over."""
    if ids:
        connection.execute(delete_from(table).where(table.c.id.in_(sorted(ids))))


def sweep(connection: Connection) -> int:
    """Remove what has been dismissed, or was not to be shown any more, for 30 days, and what was told to one person 90
    days ago; return how many there were. That a message to everybody was dismissed is known as long as there is one."""
    over = case((table.c.dismissed_at.is_not(None), table.c.dismissed_at), else_=table.c.until)
    message = table.alias()
    still_there = exists().where(message.c.id == table.c.spawn_id)
    old = over < Now() - _KEPT_S
    unread = and_(
        table.c.user_name != EVERYBODY,
        table.c.dismissed_at.is_(None),
        table.c.until.is_(None),
        table.c.made_at < Now() - _UNREAD_S,
    )
    kept = and_(table.c.kind == _DISMISSAL, still_there)
    return connection.execute(delete_from(table).where(or_(old, unread), ~kept)).rowcount


def _notice(row: Row[Any]) -> Notice:
    return Notice(
        row.id, row.user_name, row.kind, row.level, row.text, row.made_at, until=row.until, spawn_id=row.spawn_id
    )
