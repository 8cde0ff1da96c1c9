"""A database whose clock is the test's: `hub.db.clock.Now` is what the test says, on SQLite and on PostgreSQL.

Nothing of the program knows: on SQLite the connection has a function `julianday` of its own, on PostgreSQL
`clock_timestamp` is found in a schema that is searched before the system's.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, event, text

from hub.db.engine import connect

__all__ = ["DatabaseClock", "connect_with"]

_JULIAN_1970 = 2440587.5


class DatabaseClock:
    """The moment that a database takes for now, in seconds since 1970."""

    def __init__(self, now: float) -> None:
        self.now = now

    def set(self, now: float) -> None:
        """Set it; backwards too."""
        self.now = now

    def advance(self, seconds: float) -> None:
        self.set(self.now + seconds)


def connect_with(clock: DatabaseClock, url: str) -> Engine:
    """An engine of this database whose clock is this one; for PostgreSQL the other processes' clock stays as it is."""
    engine = connect(url)
    if engine.dialect.name == "sqlite":
        _of_sqlite(engine, clock)
    else:
        _of_postgresql(engine, clock, url)
    return engine


def _of_sqlite(engine: Engine, clock: DatabaseClock) -> None:
    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, record: Any) -> None:
        connection.create_function("julianday", 1, lambda when: clock.now / 86_400.0 + _JULIAN_1970)


def _of_postgresql(engine: Engine, clock: DatabaseClock, url: str) -> None:
    setting = connect(url)  # commits beside the transactions of the test
    told = clock.now
    with setting.begin() as connection:
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS test_clock"))
        connection.execute(text("CREATE TABLE IF NOT EXISTS test_clock.now (epoch double precision NOT NULL)"))
        connection.execute(text("DELETE FROM test_clock.now"))
        connection.execute(text("INSERT INTO test_clock.now VALUES (:now)"), {"now": told})
        connection.execute(
            text(
                "CREATE OR REPLACE FUNCTION test_clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE "
                "AS 'SELECT to_timestamp(epoch) FROM test_clock.now'"
            )
        )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, record: Any) -> None:
        # Named in the path, the system's schema is no longer searched first (PostgreSQL, "The System Catalog Schema").
        with connection.cursor() as cursor:
            cursor.execute("SET search_path = public, test_clock, pg_catalog")
        connection.commit()

    @event.listens_for(engine, "checkout")
    def _tell(connection: Any, record: Any, proxy: Any) -> None:
        nonlocal told
        if told != clock.now:
            told = clock.now
            with setting.begin() as beside:
                beside.execute(text("UPDATE test_clock.now SET epoch = :now"), {"now": told})

    @event.listens_for(engine, "engine_disposed")
    def _end(engine: Engine) -> None:
        setting.dispose()
