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
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from hub.db.engine import shown, sqlite_file
from hub.db.transaction import DatabaseAway, read, write

__all__ = ["SCRIPTS", "Upgrade", "UpgradeError", "knows", "problem", "revision_of", "upgrade"]

SCRIPTS = Path(__file__).parent / "migrations"
"""The migrations of this version."""

_WAIT_S = 120.0
"""How long to wait for another one that upgrades."""


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
    plan = _plan(scripts)

    def work(connection: Connection) -> Upgrade:
        before = _revision(connection)
        after = _head(plan)
        if before == after:
            return Upgrade(before, after)
        if before is not None and not _knows(plan, before):
            raise UpgradeError(_newer(engine, before, after))
        _may_be_used(connection)
        backup = _copy(engine, before) if before is not None else None
        config = _config(scripts)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return Upgrade(before, after, backup)

    return write(engine, work, wait_s=_WAIT_S)


def problem(engine: Engine, *, scripts: Path = SCRIPTS) -> str | None:
    """Say in a sentence why the database cannot be used by this version; None: it can. Changes nothing. Blocks."""
    plan = _plan(scripts)
    after = _head(plan)
    file = sqlite_file(engine)
    if file is not None and not file.exists():
        return f"There is no database yet at {file}. Make it with `armillary db upgrade`."
    try:
        before = read(engine, _revision)
    except OSError as error:
        return f"The database cannot be used: {error}."
    if before == after:
        return None
    if before is None:
        return f"There are no tables yet in {shown(engine)}. Make them with `armillary db upgrade`."
    if not _knows(plan, before):
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
    return read(engine, _revision)


def knows(revision: str, *, scripts: Path = SCRIPTS) -> bool:
    """Return whether this program can use, or upgrade, tables of this version."""
    return _knows(_plan(scripts), revision)


def _config(scripts: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _plan(scripts: Path) -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(scripts))


def _head(plan: ScriptDirectory) -> str:
    head = plan.get_current_head()
    if head is None:
        raise UpgradeError(f"there are no migrations in {plan.dir}: the installation is broken")
    return head


def _knows(plan: ScriptDirectory, revision: str) -> bool:
    return revision in {script.revision for script in plan.walk_revisions()}


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _newer(engine: Engine, before: str, after: str) -> str:
    return (
        f"The tables in {shown(engine)} are of version {before}, which this program does not know (it knows them up to "
        f"{after}): a newer Armillary made them. Start that one again, or restore a backup from before it."
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
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


def _copy(engine: Engine, revision: str) -> Path | None:
    """Copy a SQLite file beside itself as it was before this transaction, which holds all other writers off."""
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
