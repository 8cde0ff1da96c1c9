"""The database's own clock, for what several machines must agree on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["Now"]


class Now(FunctionElement[float]):
    """The present moment in seconds since 1970 (UTC), with a fraction, as an SQL expression.

    On PostgreSQL the clock itself, not the beginning of the transaction: a writer may have waited for its turn.
    """

    type = Float(53)
    inherit_cache = True
    name = "armillary_now"


@compiles(Now, "sqlite")
def _sqlite(element: Now, compiler: Any, **options: Any) -> str:
    # unixepoch('now', 'subsec') needs SQLite 3.42; Debian 12 has 3.40. 2440587.5 is 1970-01-01 as a Julian day.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(Now, "postgresql")
def _postgresql(element: Now, compiler: Any, **options: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"
