"""Statements that every decision asks: put together once, and given to the driver as they are.

SQLAlchemy puts a statement's text, its values and its result together each time; in a decision this would take as much
time as the database does. What is written with its tables and columns is compiled by it here, once for each kind of
database, and then needs only its values. On PostgreSQL the server keeps the plan as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Executable

from hub.db import writing
from hub.db.errors import told

__all__ = ["Prepared", "Step", "run_together"]

Values = Mapping[str, Any]
_PLACE = re.compile(r"\$(\d+)")


class _Text(NamedTuple):
    """What the driver is given: the text, and what makes its values, by place, of those of a call."""

    text: str
    values: Callable[[Values], list[Any]]


class Prepared:
    """A statement of SQLAlchemy's, whose parameters are all named; those of an `IN` are expanding.

    What comes back are plain tuples, as the driver makes them: on SQLite truth is 0 or 1. The same rules hold as for
    `Connection.execute`: it runs in the connection's transaction, and raises SQLAlchemy's errors.

    Parameters
    ----------
    statement
        Or, where it is not the same for each kind of database, what makes it of the dialect's name.
    """

    def __init__(self, statement: Executable | Callable[[str], Executable]) -> None:
        self._statement = statement
        self._texts: dict[tuple[object, ...], _Text] = {}

    def all(self, connection: Connection, values: Values) -> Sequence[tuple[Any, ...]]:
        """Return the rows that are found."""
        found: Sequence[tuple[Any, ...]] = _done(
            connection, *self._given(connection, values), lambda cursor: cursor.fetchall()
        )
        return found

    def run(self, connection: Connection, values: Values) -> int:
        """Do it, and return how many rows it has made or changed."""
        return int(_done(connection, *self._given(connection, values), lambda cursor: cursor.rowcount))

    def _given(self, connection: Connection, values: Values) -> tuple[str, list[Any]]:
        """Return what the driver is given: the text, and the values as it has places for them."""
        values = {name: _padded(value) if isinstance(value, list | tuple) else value for name, value in values.items()}
        sizes = tuple(len(value) for value in values.values() if isinstance(value, list))
        key = (connection.dialect.name, sizes)
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = self._compiled(connection, values)
        return text.text, text.values(values)

    def _compiled(self, connection: Connection, example: Values) -> _Text:
        statement = self._statement
        if not isinstance(statement, Executable):
            statement = statement(connection.dialect.name)
        dialect: Any = connection.dialect
        if dialect.name == "postgresql":
            # Values as the server counts them ($1): for the driver's own way of naming them it takes the text apart,
            # a long one each time.
            dialect = type(dialect)(paramstyle="numeric_dollar")
        compiled: Any = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        # With values, because the text has a place for each of a list's.
        state = compiled.construct_expanded_state(example)
        expanded = state.parameter_expansion.items()
        whence = {name: (of, number) for of, names in expanded for number, name in enumerate(names)}
        fixed = {name: value for name, value in state.parameters.items() if name not in {*example, *whence}}
        return _Text(state.statement, _maker(state.positiontup, fixed, whence))


Step = tuple[Prepared, Values]
"""A statement and its values."""


def run_together(connection: Connection, steps: Sequence[Step]) -> None:
    """Do these, none of which returns rows or depends on another: on PostgreSQL as one statement, which is one way to
    the server and back (its documentation, "Data-Modifying Statements in WITH"), and in a transaction of
    `hub.db.transaction.write` not before the next statement or the commit, whose errors are those of these then."""
    if connection.dialect.name != "postgresql":
        for statement, values in steps:
            statement.run(connection, values)
        return
    if not steps:
        return
    given = [statement._given(connection, values) for statement, values in steps]
    flat = [value for _, values in given for value in values]
    text = _joined(tuple((text, len(values)) for text, values in given))
    with told(connection, text):
        if not writing.last(connection, text, flat):
            writing.executed(connection, text, flat)


@lru_cache(maxsize=64)
def _joined(texts: tuple[tuple[str, int], ...]) -> str:
    """Return one statement of several, each of which has so many values."""
    joined, before = [], 0
    for text, many in texts:
        joined.append(_PLACE.sub(lambda found, before=before: f"${int(found[1]) + before}", text))  # type: ignore[misc]
        before += many
    *first, last = joined
    if not first:
        return last
    return f"WITH {', '.join(f'step{number} AS ({text})' for number, text in enumerate(first))} {last}"


def _done(connection: Connection, text: str, values: Sequence[Any], result: Callable[[Any], Any]) -> Any:
    """Let the driver do this, and return what that takes from its cursor."""
    with told(connection, text):
        if connection.dialect.name == "postgresql":
            return result(writing.executed(connection, text, values))
        bare: Any = connection.connection.driver_connection
        cursor = bare.cursor()
        cursor.execute(text, values)
        return result(cursor)  # SQLite works out a row when it is fetched, and may fail there


def _padded(values: Sequence[Any]) -> list[Any]:
    """Return these with the last one some times more, which says the same: texts are kept for a few lengths only."""
    if not values:
        return []
    more = (1 << (len(values) - 1).bit_length()) - len(values)
    return [*values, *[values[-1]] * more]


def _maker(names: Sequence[str], fixed: Values, whence: Mapping[str, tuple[str, int]]) -> Callable[[Values], list[Any]]:
    """Return what puts the values of a call into these places."""

    def given(values: Values) -> list[Any]:
        known = {**fixed, **values}
        for name, (of, number) in whence.items():
            known[name] = values[of][number]
        return [known[name] for name in names]

    return given
