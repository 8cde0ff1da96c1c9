"""Errors of a database's driver as SQLAlchemy tells them, for what the driver is given without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

__all__ = ["told"]


@contextmanager
def told(connection: Connection, text: str) -> Iterator[None]:
    """Let the driver do what `text` says; a connection that has broken in it is not used again.

    Raises
    ------
    DBAPIError
        In place of the driver's own.
    """
    dbapi = connection.dialect.loaded_dbapi
    try:
        yield
    except dbapi.Error as error:
        bare: Any = connection.connection.dbapi_connection
        if connection.dialect.is_disconnect(error, bare, None):
            connection.invalidate(error)
        kinds = ((dbapi.IntegrityError, IntegrityError), (dbapi.OperationalError, OperationalError))
        kind = next((kind for of, kind in kinds if isinstance(error, of)), DBAPIError)
        raise kind(text, None, error) from error
    except BaseException:
        if getattr(connection.connection.dbapi_connection, "closed", False):  # it was interrupted in the middle
            connection.invalidate()
        raise
