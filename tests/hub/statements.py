"""What is sent to a database, heard where it leaves the driver: not all of it passes SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import psycopg
from sqlalchemy import Engine, event

from hub.db import plans

__all__ = ["statements"]


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """Yield what is sent meanwhile, one for each set of values; on SQLite with the values in it."""
    heard: list[str] = []
    here: set[int] = set()
    execute, executemany, planned = psycopg.Cursor.execute, psycopg.Cursor.executemany, plans._planned

    def one(cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        if id(cursor.connection) in here and query:
            heard.append(str(query))
        return execute(cursor, query, *arguments, **options)

    def many(cursor: Any, query: Any, values: Any, **options: Any) -> None:
        values = list(values)
        if id(cursor.connection) in here:
            heard.extend([str(query)] * len(values))
        executemany(cursor, query, values, **options)

    def by_name(connection: Any, bare: Any, text: str, values: Any) -> Any:
        if id(bare) in here:
            heard.append(text)
        return planned(connection, bare, text, values)

    def listen(connection: Any, *_: Any) -> None:
        here.add(id(connection))
        if engine.dialect.name == "sqlite":
            connection.set_trace_callback(lambda text: None if text.startswith("--") else heard.append(text))

    def stop(connection: Any, *_: Any) -> None:
        here.discard(id(connection))
        if engine.dialect.name == "sqlite":
            connection.set_trace_callback(None)

    event.listen(engine, "checkout", listen)
    event.listen(engine, "checkin", stop)
    try:
        with patch.multiple(psycopg.Cursor, execute=one, executemany=many), patch.object(plans, "_planned", by_name):
            yield heard
    finally:
        event.remove(engine, "checkout", listen)
        event.remove(engine, "checkin", stop)
