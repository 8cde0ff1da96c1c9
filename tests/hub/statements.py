"""What is sent to a database, heard where it leaves the driver: not all of it passes SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Engine, event

__all__ = ["statements"]


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """Yield what is sent meanwhile, one for each set of values; on SQLite with the values in it."""
    heard: list[str] = []

    class Heard(psycopg.Cursor[Any]):
        def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
            heard.append(str(query))
            return super().execute(query, *arguments, **options)

        def executemany(self, query: Any, values: Any, **options: Any) -> None:
            values = list(values)
            heard.extend([str(query)] * len(values))
            super().executemany(query, values, **options)

    def listen(connection: Any, *_: Any) -> None:
        if engine.dialect.name == "sqlite":
            connection.set_trace_callback(lambda text: None if text.startswith("--") else heard.append(text))
        else:
            connection.cursor_factory = Heard

    def stop(connection: Any, *_: Any) -> None:
        if engine.dialect.name == "sqlite":
            connection.set_trace_callback(None)
        else:
            connection.cursor_factory = psycopg.Cursor

    event.listen(engine, "checkout", listen)
    event.listen(engine, "checkin", stop)
    try:
        yield heard
    finally:
        event.remove(engine, "checkout", listen)
        event.remove(engine, "checkin", stop)
