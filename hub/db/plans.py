"""Plans that a PostgreSQL server keeps: each statement is made once on a connection, and then used by name.

The driver could do it too, but forgets all of them when a transaction is rolled back, as each refusal is; and it needs
a way to the server and back for each of the begin, the lock and the first statement, for which here one is enough.
This uses the driver's own wrapper of libpq (psycopg's documentation, "psycopg.pq") and its pipeline mode (PostgreSQL's
documentation, "Pipeline Mode"): values travel beside the text, so that they are in none of the server's logs.
"""

from __future__ import annotations

import hashlib
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import errors
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, TransactionStatus
from sqlalchemy import Connection

__all__ = ["AGAIN", "Result", "begun", "committed", "done", "kept"]

AGAIN = ("26000", "42P05", "0A000")
"""PostgreSQL's Appendix A: no such plan, there is one of this name already, its rows would be others by now (all of
feature_not_supported). What is known of the connection's plans is wrong, and the whole transaction has to be done
anew."""

_NAMES = "armillary_plans"
_ROUND = "armillary_plans_round"
_MOST = 100
"""Plans of one connection. There are some dozens of statements, in a few lengths each."""

_GOOD = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)

_Step = tuple[Callable[[Any], None], Callable[[], None] | None]
"""Gives one statement to a connection of libpq's; and what is true of the plans once it is done."""


class Result:
    """What came of a statement: its rows, and how many it has made or changed."""

    def __init__(self, bare: Any, result: Any) -> None:
        self._bare = bare
        self._result = result

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows, as the driver would make them."""
        maker = Transformer(self._bare)
        maker.set_pgresult(self._result)
        return maker.load_rows(0, self._result.ntuples, tuple)

    @property
    def rowcount(self) -> int:
        """How many rows there are, or were made or changed."""
        return self._result.command_tuples or 0


def kept(connection: Connection) -> bool:
    """Return whether the server may keep plans; the database's URL can say that it may not."""
    bare: Any = connection.connection.driver_connection
    return bare.prepare_threshold is not None


def done(connection: Connection, text: str, values: Sequence[Any]) -> Result:
    """Do this in the transaction, which begins with it if it has not yet.

    Raises
    ------
    psycopg.Error
        As the driver's own cursor; one of `AGAIN`.
    """
    bare: Any = connection.connection.driver_connection
    if bare.pgconn.transaction_status == TransactionStatus.IDLE:
        bare.execute("")  # the driver begins it, as this transaction was asked for
    return _sent(connection, bare, _planned(connection, bare, text, values))


def begun(connection: Connection, before: Sequence[str], text: str, values: Sequence[Any]) -> Result:
    """Begin the transaction and do this, all in one way to the server and back.

    Parameters
    ----------
    before
        What else is done, after the begin and before the statement. Each sees what had been committed when it began.

    Raises
    ------
    psycopg.Error
        As of `done`.
    """
    bare: Any = connection.connection.driver_connection
    first = [_plain(one) for one in ("BEGIN", *before)]
    return _sent(connection, bare, [*first, *_planned(connection, bare, text, values)])


def committed(connection: Connection, text: str, values: Sequence[Any]) -> None:
    """Do this in the transaction, and commit it, both in one way to the server and back.

    Raises
    ------
    psycopg.Error
        As of `done`.
    """
    bare: Any = connection.connection.driver_connection
    if bare.pgconn.transaction_status == TransactionStatus.IDLE:
        raise psycopg.InterfaceError("the transaction has ended before what was to be written at its end")
    _sent(connection, bare, [*_planned(connection, bare, text, values), _plain("COMMIT")])


def _plain(text: str) -> _Step:
    return lambda libpq: libpq.send_query_params(text.encode(), None), None


def _planned(connection: Connection, bare: Any, text: str, values: Sequence[Any]) -> list[_Step]:
    """Return what does this by its plan, and before that makes it, if this connection has none."""
    encoding = bare.info.encoding
    given = [_written(value, encoding) for value in values]
    steps: list[_Step] = []
    if len(connection.info.setdefault(_NAMES, set())) >= _MOST:
        _anew(connection)
        steps.append(_plain("DEALLOCATE ALL"))
    names: set[bytes] = connection.info[_NAMES]
    name = b"%s_%d" % (_name(text), connection.info.get(_ROUND, 0))
    if name not in names:
        steps.append((lambda libpq: libpq.send_prepare(name, text.encode(encoding)), lambda: names.add(name)))
    return [*steps, (lambda libpq: libpq.send_query_prepared(name, given), None)]


def _anew(connection: Connection) -> None:
    """See that every plan is made anew, and under a name that this connection never had: a pooler refuses it twice."""
    connection.info.update({_NAMES: set(), _ROUND: connection.info.get(_ROUND, 0) + 1})


@lru_cache(maxsize=512)
def _name(text: str) -> bytes:
    return b"armillary_" + hashlib.blake2s(text.encode(), digest_size=12).hexdigest().encode()


def _written(value: object, encoding: str) -> bytes | None:
    """Return a value as PostgreSQL reads it, whatever type it has there."""
    match value:
        case None:
            return None
        case bool():
            return b"true" if value else b"false"
        case str():
            if "\0" in value:
                raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
            return value.encode(encoding)
        case int() | float():
            return repr(value).encode()
    raise TypeError(f"a value of type {type(value).__name__} cannot be given to a statement")


def _sent(connection: Connection, bare: Any, steps: Sequence[_Step]) -> Result:
    """Send these, and return what came of the last.

    What is interrupted in the middle leaves a connection of which nobody knows what it still hears.
    """
    libpq = bare.pgconn
    try:
        libpq.enter_pipeline_mode()
        for send, _ in steps:
            send(libpq)
        libpq.pipeline_sync()
        results = list(_heard(libpq))
        if libpq.status == ConnStatus.OK:
            libpq.exit_pipeline_mode()
    except BaseException:
        bare.close()
        raise
    for (_, then), result in zip(steps, results, strict=False):
        if result.status not in _GOOD:
            raise _told(connection, bare, result)
        if then is not None:
            then()
    if len(results) < len(steps):
        raise psycopg.OperationalError(libpq.get_error_message(bare.info.encoding).strip())
    return Result(bare, results[-1])


def _heard(libpq: Any) -> Iterator[Any]:
    """Yield one result for each statement; fewer, where the connection breaks. It waits without Python's lock."""
    waiting = select.poll()
    waiting.register(libpq.socket, select.POLLIN | select.POLLOUT)
    # Of a connection that has broken the results say why, as far as they have come.
    with suppress(psycopg.OperationalError):
        while libpq.flush():
            waiting.poll()
            libpq.consume_input()
    waiting.modify(libpq.socket, select.POLLIN)
    while True:
        with suppress(psycopg.OperationalError):
            while libpq.status == ConnStatus.OK and libpq.is_busy():
                waiting.poll()
                libpq.consume_input()
        result = libpq.get_result()
        if result is not None and result.status != ExecStatus.PIPELINE_SYNC:
            yield result
        elif result is not None or libpq.status != ConnStatus.OK:
            return


def _told(connection: Connection, bare: Any, result: Any) -> psycopg.Error:
    """Return the error that a result is. What it says of the plans is heeded."""
    state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
    if state in AGAIN:
        _anew(connection)
    try:
        kind = errors.lookup(state)
    except KeyError:
        kind = psycopg.OperationalError
    return kind(result.get_error_message(bare.info.encoding).strip())
