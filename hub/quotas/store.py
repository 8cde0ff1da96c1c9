"""The table of limits. Functions of a connection: whoever calls them has the transaction. Only this module writes it.

Every change is recorded in the audit trail, in the same transaction, with what was before.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from hub.audit import record
from hub.db.clock import Now
from hub.db.tables import quotas as table
from hub.quotas.amounts import from_store, written
from hub.quotas.model import Field, QuotaRow, Quotas, in_order

__all__ = [
    "ABSENT",
    "PRESENT",
    "Changed",
    "Declared",
    "Difference",
    "declare",
    "etag",
    "load",
    "put",
    "remove",
    "stored",
]

PRESENT = "*"
"""As what is expected: there is such a limit, whichever it is."""

ABSENT = ""
"""As what is expected: there is no such limit yet."""

_BATCH = 500

# Every decision asks this: a statement that is made once is not put together each time.
_OF_SUBJECTS = select(table).where(table.c.subject.in_(bindparam("mine", expanding=True)))


class Changed(RuntimeError):
    """The limit is not what the writer has seen: somebody else was quicker. `now` is what it is; None: not set."""

    def __init__(self, now: QuotaRow | None) -> None:
        super().__init__("the limit was changed meanwhile")
        self.now = now


class Declared(RuntimeError):
    """The limit comes from the file of quotas, and the writer did not say that this is known."""

    def __init__(self, row: QuotaRow) -> None:
        super().__init__(f"{row.subject} {row.field} is declared by {row.changed_by}")
        self.row = row


class Difference(NamedTuple):
    """How many limits a file has set or changed, and how many it no longer has."""

    set: int
    removed: int


def load(connection: Connection, subjects: Collection[str] | None = None) -> Quotas:
    """Return the limits that are set.

    Parameters
    ----------
    subjects
        Only of these: `hub.quotas.resolve.subjects_of` a person, so that a decision reads some rows and not those of
        ten thousand people. None: all.
    """
    if subjects is None:
        return Quotas(_row(row) for row in connection.execute(select(table)))
    wanted = sorted(set(subjects))
    found: list[QuotaRow] = []
    for start in range(0, len(wanted), _BATCH):
        found += [_row(row) for row in connection.execute(_OF_SUBJECTS, {"mine": wanted[start : start + _BATCH]})]
    return Quotas(found)


def etag(row: QuotaRow) -> str:
    """Return a mark of this state of a limit: another one after every change."""
    state = f"{row.subject}\n{row.field}\n{row.value}\n{row.declared}\n{row.changed_at!r}\n{row.changed_by}"
    return hashlib.sha256(state.encode()).hexdigest()[:24]


def put(
    connection: Connection,
    subject: str,
    field: Field,
    value: Decimal | None,
    actor: str,
    *,
    expected: str | None = None,
    although_declared: bool = False,
) -> QuotaRow:
    """Set a limit, and return it as it is stored.

    Parameters
    ----------
    value
        In the field's unit; None: expressly no limit.
    actor
        Who does it, for the audit trail.
    expected
        The `etag` of what the writer has seen, PRESENT or ABSENT; None: whatever is there.
    although_declared
        The writer knows that the file of quotas says otherwise, and will again when it is changed, or at the next
        start.

    Raises
    ------
    Changed
        It is not what is expected.
    Declared
        The file of quotas sets it.
    """
    before = _find(connection, subject, field)
    _check(before, expected, although_declared)
    after = _write(connection, QuotaRow(subject, field, value, changed_by=actor), before)
    if before is None or before.value != value or before.declared:
        record(connection, actor, "quota.set", subject, _told(before), _told(after))
    return after


def remove(
    connection: Connection,
    subject: str,
    field: Field,
    actor: str,
    *,
    expected: str | None = None,
    although_declared: bool = False,
) -> QuotaRow | None:
    """Remove a limit, and return what it was; None: there was none. Parameters and errors as of `put`."""
    before = _find(connection, subject, field)
    if before is None and expected is None:
        return None
    _check(before, expected, although_declared)
    if before is not None:
        connection.execute(delete(table).where(table.c.subject == subject, table.c.field == field))
        record(connection, actor, "quota.remove", subject, _told(before))
    return before


def declare(connection: Connection, declared: Quotas, actor: str) -> Difference:
    """Take over what the file of quotas says: set what it has, remove what an earlier one had; leave the rest alone.

    Where the file and an administrator set the same, the file wins. Doing it twice is doing it once.

    Parameters
    ----------
    declared
        All that the file says; nothing, if there is no file any more.
    actor
        The file, for the audit trail: `file quotas.yaml`.
    """
    stored = load(connection)
    changed, removed = 0, 0
    for subject in declared.subjects:
        for field in in_order(declared.of(subject)):
            before, wanted = stored.row(subject, field), declared.of(subject)[field]
            if before is not None and before.declared and before.value == wanted.value:
                continue
            after = _write(connection, replace(wanted, declared=True, changed_by=actor), before)
            record(connection, actor, "quota.declare", subject, _told(before), _told(after))
            changed += 1
    for row in stored.rows:
        if row.declared and declared.row(row.subject, row.field) is None:
            connection.execute(delete(table).where(table.c.subject == row.subject, table.c.field == row.field))
            record(connection, actor, "quota.undeclare", row.subject, _told(row))
            removed += 1
    return Difference(changed, removed)


def _check(before: QuotaRow | None, expected: str | None, although_declared: bool) -> None:
    if expected == ABSENT:
        fits = before is None
    else:
        fits = expected is None or (before is not None and expected in (PRESENT, etag(before)))
    if not fits:
        raise Changed(before)
    if before is not None and before.declared and not although_declared:
        raise Declared(before)


def _find(connection: Connection, subject: str, field: Field) -> QuotaRow | None:
    wanted = select(table).where(table.c.subject == subject, table.c.field == field)
    row = connection.execute(wanted).one_or_none()
    return None if row is None else _row(row)


def _write(connection: Connection, row: QuotaRow, before: QuotaRow | None) -> QuotaRow:
    """Store a limit and return it with the moment at which that was."""
    now = float(connection.scalar(select(Now())) or 0.0)
    value = math.inf if row.value is None else float(row.value)
    values: dict[str, Any] = {
        "value": value,
        "declared": row.declared,
        "changed_at": now,
        "changed_by": row.changed_by,
    }
    if before is None:
        connection.execute(insert(table).values(subject=row.subject, field=row.field, **values))
    else:
        same = (table.c.subject == row.subject, table.c.field == row.field)
        connection.execute(update(table).where(*same).values(**values))
    return replace(row, value=from_store(value), changed_at=now)


def stored(subject: str, field: str, value: float, declared: bool, changed_at: float, changed_by: str) -> QuotaRow:
    """Return a limit from the columns of its row."""
    return QuotaRow(subject, Field(field), from_store(value), declared, changed_at, changed_by)


def _row(row: Row[Any]) -> QuotaRow:
    return stored(row.subject, row.field, row.value, row.declared, row.changed_at, row.changed_by)


def _told(row: QuotaRow | None) -> Mapping[str, Any] | None:
    """What the audit trail keeps of a limit, as people write it."""
    if row is None:
        return None
    return {"field": row.field, "value": written(row.field, row.value), "declared": row.declared}
