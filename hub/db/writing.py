"""The two ends of a transaction that writes on PostgreSQL, each in one way to the server and back.

Its writers take turns: one holds an advisory lock until its transaction ends, and the others wait for it. That is asked
for with the first statement, and nothing is done before it is held. What is written last goes with the commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg import errors
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, event

from hub.db import plans
from hub.db.errors import told

__all__ = ["begin", "end", "executed", "last", "see_to"]

_TURN_WITHIN_S = "armillary_turn_within_s"
_LAST = "armillary_last"
_WRITERS = 0x41524D49

_Written = tuple[str, Sequence[Any]]


@contextmanager
def begin(connection: Connection, wait_s: float) -> Iterator[None]:
    """Let the first statement wait for the other writers, for so long at most; their turn is when the transaction ends.

    Only in this context anything is left for the end.
    """
    try:
        connection.info.update({_TURN_WITHIN_S: wait_s, _LAST: ()})
        yield
    finally:
        if not connection.invalidated:
            connection.info.pop(_TURN_WITHIN_S, None)
            connection.info.pop(_LAST, None)


def end(connection: Connection) -> None:
    """Write what was left for the end, and commit; where nothing was, that is left to the caller.

    Raises
    ------
    DBAPIError
        As for any statement; and if one has failed before, and was passed over: the server commits nothing then.
    """
    bare: Any = connection.connection.driver_connection
    if bare.pgconn.transaction_status == TransactionStatus.INERROR:
        with told(connection, "COMMIT"):
            raise errors.InFailedSqlTransaction("a statement of this transaction has failed, so nothing is committed")
    found: tuple[_Written, ...] = connection.info.pop(_LAST, ())
    for text, values in found:
        with told(connection, text):
            plans.committed(connection, text, values)


def see_to(engine: Engine) -> None:
    """See that on this engine nothing is run by a writer before its turn, or before what it has left for the end."""

    def first(connection: Connection, *_: Any) -> None:
        if _TURN_WITHIN_S in connection.info or connection.info.get(_LAST):
            with told(connection, "what comes before"):
                _catch_up(connection)

    event.listen(engine, "before_cursor_execute", first)


def executed(connection: Connection, text: str, values: Sequence[Any]) -> Any:
    """Do this and return what has the rows and their number, as a cursor.

    Raises
    ------
    psycopg.Error
        The driver's own.
    """
    if not plans.kept(connection):
        _catch_up(connection)
        bare: Any = connection.connection.driver_connection
        cursor: Any = connection.dialect.loaded_dbapi.RawCursor(bare)
        cursor.execute(text, values)
        return cursor
    wait_s = connection.info.get(_TURN_WITHIN_S)
    if wait_s is not None:
        found = plans.begun(connection, _turn(wait_s), text, values)
        del connection.info[_TURN_WITHIN_S]
        return found
    _catch_up(connection)
    return plans.done(connection, text, values)


def last(connection: Connection, text: str, values: Sequence[Any]) -> bool:
    """Leave this for the end, or for the next statement before it; False: it has to be done now."""
    if _LAST not in connection.info or connection.in_nested_transaction() or not plans.kept(connection):
        return False
    _catch_up(connection)
    connection.info[_LAST] = ((text, values),)
    return True


def _catch_up(connection: Connection) -> None:
    wait_s = connection.info.pop(_TURN_WITHIN_S, None)
    if wait_s is not None:
        bare: Any = connection.connection.driver_connection
        bare.execute("; ".join(_turn(wait_s)), prepare=False)
    for text, values in connection.info.get(_LAST, ()):
        connection.info[_LAST] = ()
        plans.done(connection, text, values)


def _turn(wait_s: float) -> tuple[str, str]:
    """Return two statements: the limit holds for the second."""
    ms = max(1, int(wait_s * 1000))
    return f"SET LOCAL lock_timeout = {ms}", f"SELECT pg_advisory_xact_lock({_WRITERS})"
