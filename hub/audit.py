"""The audit trail: who changed what, when, and what it was before and after. Only this module writes its table.

Functions of a connection: what is recorded is written in the same transaction as the change, so that neither is there
without the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from hub.db.clock import Now
from hub.db.tables import audit as table

__all__ = ["MOST", "Entry", "recent", "record"]

MOST = 500
"""Entries that are read at once."""

_LONGEST = 8_192
"""Characters of a value that are kept: it is told to people, it is no backup."""


@dataclass(frozen=True)
class Entry:
    """One change. `at` in seconds since 1970 by the database's clock; `before` and `after` as they were recorded."""

    id: int
    at: float
    actor: str
    action: str
    subject: str
    before: Any = None
    after: Any = None


def record(
    connection: Connection,
    actor: str,
    action: str,
    subject: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Record a change that this transaction makes.

    Parameters
    ----------
    actor
        `user:NAME`, or the process that acted: `controller`, `file quotas.yaml`.
    action
        What was done, short and stable: `quota.set`, `ticket.move`, `session.stop`.
    subject
        What it was done to: an account, a ticket, a session.
    before, after
        What was, and what is now; None: nothing. No secrets: administrators read it. What JSON does not know (Decimal,
        dates) becomes text.
    """
    connection.execute(
        insert(table).values(
            at=Now(), actor=actor, action=action, subject=subject, before=_written(before), after=_written(after)
        )
    )


def recent(
    connection: Connection,
    *,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    older_than: int | None = None,
    limit: int = 100,
) -> tuple[Entry, ...]:
    """Return what was recorded, the newest first.

    Parameters
    ----------
    actor, action, subject
        Only these; an action that ends with a point stands for all that begin so (`quota.`).
    older_than
        Only entries with a smaller id: for the next page.
    limit
        How many at most; never more than MOST.
    """
    wanted = select(table).order_by(table.c.id.desc()).limit(max(1, min(limit, MOST)))
    if actor is not None:
        wanted = wanted.where(table.c.actor == actor)
    if action is not None:
        begins = table.c.action.startswith(action, autoescape=True)
        wanted = wanted.where(begins if action.endswith(".") else table.c.action == action)
    if subject is not None:
        wanted = wanted.where(table.c.subject == subject)
    if older_than is not None:
        wanted = wanted.where(table.c.id < older_than)
    return tuple(_entry(row) for row in connection.execute(wanted))


def _written(value: Mapping[str, Any] | None) -> str | None:
    if value is None:
        return None
    text = json.dumps(dict(value), default=str, sort_keys=True)
    return text if len(text) <= _LONGEST else json.dumps({"cut": text[:_LONGEST]})


def _entry(row: Row[Any]) -> Entry:
    before, after = (None if text is None else json.loads(text) for text in (row.before, row.after))
    return Entry(row.id, row.at, row.actor, row.action, row.subject, before, after)
