"""Use as files: days as CSV, sessions as Parquet. Written piece by piece, so that a year of them fits into memory.

All of it blocks: from an event loop call it in a thread.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import date, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, Engine, Row

from hub.db.transaction import read
from hub.usage.reports import BY, Scope, Use, by_days, open_sessions, sessions_closed

if TYPE_CHECKING:
    from arro3.core import RecordBatch, Schema

__all__ = ["COLUMNS", "CSV_COLUMNS", "cell", "write_days", "write_sessions"]

_DAYS_AT_ONCE = 7
_ROWS_AT_ONCE = 20_000

CSV_COLUMNS = (*BY, "accelerator_hours", "card_hours", "session_hours", "core_hours")
"""The columns of the days; an accelerator that is empty is none."""


class _Column(NamedTuple):
    """A column of the sessions: its name in the file and in the ledger, its type, whether it may be empty."""

    name: str
    of: str
    kind: str
    optional: bool = False


COLUMNS = (
    _Column("id", "id", "text"),
    _Column("user", "user_name", "text"),
    _Column("server", "server", "text"),
    _Column("account", "account", "text"),
    _Column("profile", "profile", "text"),
    _Column("accelerator", "accelerator", "text"),
    _Column("cards", "count", "integer"),
    _Column("share", "share", "number"),
    _Column("cpu_m", "cpu_m", "integer", optional=True),
    _Column("memory", "memory", "integer", optional=True),
    _Column("image", "image", "text"),
    _Column("digest", "digest", "text"),
    _Column("node", "node", "text"),
    _Column("opened_at", "opened_at", "moment"),
    _Column("beat_at", "beat_at", "moment"),
    _Column("closed_at", "closed_at", "moment", optional=True),
    _Column("ended_as", "ended_as", "text"),
    _Column("seconds", "seconds", "number"),
    _Column("corrects", "corrects", "text", optional=True),
    _Column("by", "by", "text"),
)
"""The columns of the sessions; what they mean is told by `hub.db.tables.ledger`."""


def write_days(engine: Engine, scope: Scope, first: date, last: date, zone: tzinfo, file: IO[str]) -> int:
    """Write a line for each day, account, person and accelerator (RFC 4180, with a head); return how many.

    Raises
    ------
    hub.db.transaction.DatabaseAway
        The database did not answer; what was written is not all.
    """
    lines = csv.writer(file)
    lines.writerow(CSV_COLUMNS)
    count = 0
    while first <= last:
        end = min(last, first + timedelta(days=_DAYS_AT_ONCE - 1))
        found = read(engine, partial(by_days, scope=scope, first=first, last=end, zone=zone))
        for use in found:
            lines.writerow(_line(use))
        count += len(found)
        first = end + timedelta(days=1)
    return count


def cell(text: str) -> str:
    """Return a text as a cell that no spreadsheet takes for a formula (OWASP, "CSV Injection")."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _line(use: Use) -> list[str]:
    return [*(cell(part) for part in use.key), *(f"{seconds / 3600:.6f}" for seconds in use.sums)]


def write_sessions(engine: Engine, scope: Scope, since: float, until: float, file: Path | IO[bytes]) -> int:
    """Write the rows of the ledger that overlap a time as a Parquet file; return how many.

    Times are in UTC. Needs the package arro3-io.

    Raises
    ------
    hub.db.transaction.DatabaseAway
        The database did not answer; the file is not to be used.
    """
    from arro3.core import RecordBatchReader
    from arro3.io import write_parquet

    schema = _schema()
    count = 0

    def batches() -> Iterator[RecordBatch]:
        nonlocal count
        for rows in _sessions(engine, scope, since, until):
            count += len(rows)
            yield _batch(rows, schema)

    # The library makes an Exception of no kind of whatever its source raises: so the source raises nothing, and we do.
    failed: list[BaseException] = []
    write_parquet(RecordBatchReader.from_batches(schema, _caught(batches(), failed)), file, compression="zstd(3)")
    if failed:
        raise failed[0]
    return count


def _caught(source: Iterator[RecordBatch], failed: list[BaseException]) -> Iterator[RecordBatch]:
    try:
        yield from source
    except Exception as error:  # noqa: BLE001  # raised on by `write_sessions`
        failed.append(error)


def _sessions(engine: Engine, scope: Scope, since: float, until: float) -> Iterator[list[Row[Any]]]:
    after: tuple[float, str] | None = None

    def page(connection: Connection) -> tuple[list[Row[Any]], bool]:
        rows = sessions_closed(connection, scope, since, until, after, _ROWS_AT_ONCE)
        # In the transaction that finds no more closed ones, so that one that is closed meanwhile is there, and once.
        return (rows, False) if rows else (list(open_sessions(connection, scope, until)), True)

    while True:
        rows, last = read(engine, page)
        if rows:
            yield rows
        if last:
            return
        after = (rows[-1].closed_at, rows[-1].id)


def _schema() -> Schema:
    from arro3.core import DataType, Field, Schema

    kinds = {
        "text": DataType.utf8(),
        "integer": DataType.int64(),
        "number": DataType.float64(),
        "moment": DataType.timestamp("us", tz="UTC"),
    }
    return Schema([Field(one.name, kinds[one.kind], nullable=one.optional) for one in COLUMNS])


def _batch(rows: list[Row[Any]], schema: Schema) -> RecordBatch:
    from arro3.core import Array, DataType, RecordBatch

    arrays = []
    for column in COLUMNS:
        values = [row._mapping[column.of] for row in rows]
        kind = schema.field(column.name).type
        if column.kind == "moment":
            whole = [None if value is None else round(value * 1_000_000) for value in values]
            arrays.append(Array(whole, DataType.int64()).cast(kind))
        else:
            arrays.append(Array(values, kind))
    return RecordBatch.from_arrays(arrays, schema=schema)
