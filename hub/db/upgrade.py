"""Bring the tables to what this version needs, and say in words whether they are.

All steps run in one write transaction, so that two who upgrade at once do it one after the other, the second finds
nothing to do, and a step that fails leaves everything as it was, on SQLite too.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from sqlalchemy import Connection, Engine, text

from hub.db import steps
from hub.db.engine import shown, sqlite_file
from hub.db.give_way import limits, until_free
from hub.db.transaction import DatabaseAway, read, write

__all__ = ["BACK", "SCRIPTS", "Upgrade", "UpgradeError", "copy_beside", "knows", "problem", "revision_of", "upgrade"]

SCRIPTS = Path(__file__).parent / "migrations"
"""The migrations of this version."""

BACK = (
    "Start that one again (in a cluster: `helm upgrade` or `helm rollback` to it), or stop everything and restore a "
    "backup from before it: `armillary backup restore`."
)
"""What to do where tables are newer than the program."""

_WAIT_S = 120.0
"""How long to wait for another one that upgrades, and for who uses the tables."""


class UpgradeError(RuntimeError):
    """The database cannot be brought to what this version needs; nothing was changed."""


@dataclass(frozen=True)
class Upgrade:
    """What was done: from which version of the tables (None: there were none) to which, and where the old file is."""

    before: str | None
    after: str
    backup: Path | None = None

    @property
    def changed(self) -> bool:
        """Whether there was anything to do."""
        return self.before != self.after


def upgrade(engine: Engine, *, scripts: Path = SCRIPTS) -> Upgrade:
    """Bring the tables to what this version needs; may be called at every start, by many at once. Blocks.

    A SQLite file that holds something is copied beside itself before it is changed.

    Raises
    ------
    UpgradeError
        A newer version made the tables, or PostgreSQL's database does not hold Unicode.
    hub.db.transaction.DatabaseAway
        The database did not answer, or a step failed.
    OSError
        The copy could not be written.
    """
    plan = steps.plan(scripts)

    def work(connection: Connection) -> Upgrade:
        before = steps.version(connection)
        after = steps.newest(plan)
        if before == after:
            return Upgrade(before, after)
        if before is not None and not steps.is_known(plan, before):
            raise UpgradeError(_newer(engine, before, after))
        _may_be_used(connection)
        backup = copy_beside(engine, before) if before is not None else None
        config = steps.config(scripts)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return Upgrade(before, after, backup)

    return until_free(lambda: write(engine, work, wait_s=_WAIT_S), _WAIT_S)


def problem(engine: Engine, *, scripts: Path = SCRIPTS) -> str | None:
    """Say in a sentence why the database cannot be used by this version; None: it can. Changes nothing. Blocks."""
    plan = steps.plan(scripts)
    after = steps.newest(plan)
    file = sqlite_file(engine)
    if file is not None and not file.exists():
        return f"There is no database yet at {file}. Make it with `armillary db upgrade`."
    try:
        before = read(engine, steps.version)
    except OSError as error:
        return f"The database cannot be used: {error}."
    if before == after:
        return None
    if before is None:
        return f"There are no tables yet in {shown(engine)}. Make them with `armillary db upgrade`."
    if not steps.is_known(plan, before):
        return _newer(engine, before, after)
    return (
        f"The tables in {shown(engine)} are of version {before}, and this program needs {after}. "
        "Run `armillary db upgrade`."
    )


def revision_of(engine: Engine) -> str | None:
    """Return the version of the tables; None: there are none. Blocks.

    Raises
    ------
    hub.db.transaction.DatabaseAway
        The database did not answer.
    """
    return read(engine, steps.version)


def knows(revision: str, *, scripts: Path = SCRIPTS) -> bool:
    """Return whether this program can use, or upgrade, tables of this version."""
    return steps.is_known(steps.plan(scripts), revision)


def _newer(engine: Engine, before: str, after: str) -> str:
    return (
        f"The tables in {shown(engine)} are of version {before}, which this program does not know (it knows them up to "
        f"{after}): a newer Armillary made them. {BACK}"
    )


def _may_be_used(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise UpgradeError(
            f"The PostgreSQL database has the encoding {encoding}, in which not every user's name can be written. "
            "Make it anew: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0."
        )
    # A step may take longer than a statement of daily work; the limits are back after the transaction.
    limits(connection)


def copy_beside(engine: Engine, revision: str) -> Path | None:
    """Copy a SQLite file beside itself as it was before a transaction that holds all other writers off.

    Returns the copy; None for PostgreSQL, of which `armillary backup` makes copies.

    Raises
    ------
    DatabaseAway, OSError
        It could not be written.
    """
    file = sqlite_file(engine)
    if file is None:
        return None
    backup = file.with_name(f"{file.name}.before-upgrade-from-{revision}")
    draft = backup.with_name(f"{backup.name}.partial")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(draft)) as target:
            source.backup(target)
        draft.replace(backup)
    except sqlite3.Error as error:
        raise DatabaseAway(f"{file} could not be copied to {backup}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return backup
