"""Change tables that others use: a step waits for them only shortly, gives way, and is tried again.

On PostgreSQL a step that takes a table for itself waits until nobody reads it, and whoever wants to read it meanwhile
waits behind the step (PostgreSQL 15, "Explicit Locking"). The hub of before runs on while its tables are changed, and
may keep a transaction open for long; it must not stand still for that.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Literal, TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from hub.db.transaction import DatabaseAway

__all__ = ["LOCK_S", "limits", "until_free"]

T = TypeVar("T")

LOCK_S = 2.0
"""How long a step waits for a table, and so how long others wait behind it, in seconds."""

_PAUSE_S = (0.2, 1.0)
# PostgreSQL (Appendix A, error codes): lock_not_available.
_IN_USE = "55P03"


def limits(connection: Connection, scope: Literal["LOCAL", "SESSION"] = "LOCAL") -> None:
    """Let steps of this transaction, or connection, take as long as they need, and wait for a table only shortly."""
    if connection.dialect.name != "postgresql":
        return
    connection.execute(text(f"SET {scope} statement_timeout = 0"))
    connection.execute(text(f"SET {scope} idle_in_transaction_session_timeout = 0"))
    connection.execute(text(f"SET {scope} lock_timeout = {int(LOCK_S * 1000)}"))


def until_free(work: Callable[[], T], wait_s: float) -> T:
    """Do it, again and again for this long while others use the tables, in seconds.

    Raises
    ------
    DatabaseAway
        As `work` does; after that time also because somebody still uses a table.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return work()
        except DatabaseAway as error:
            if not _in_use(error):
                raise
            if time.monotonic() > deadline:
                raise DatabaseAway(
                    f"{error}. Somebody has used the tables for {wait_s:g} s without a pause. Stop the hub "
                    "(sessions go on), or wait until a copy is made, and try again"
                ) from error
        time.sleep(random.uniform(*_PAUSE_S))  # noqa: S311


def _in_use(error: DatabaseAway) -> bool:
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and getattr(cause.orig, "sqlstate", None) == _IN_USE
