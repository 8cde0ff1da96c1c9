"""The steps by which tables change from version to version, as Alembic reads them from a folder."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

__all__ = ["config", "is_known", "newest", "plan", "version"]


def config(scripts: Path) -> Config:
    """Return what Alembic wants to know of the steps in this folder."""
    made = Config()
    made.set_main_option("script_location", str(scripts).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    return made


def plan(scripts: Path) -> ScriptDirectory:
    """Return the steps in this folder."""
    return ScriptDirectory.from_config(config(scripts))


def newest(steps: ScriptDirectory) -> str:
    """Return the version after the last step.

    Raises
    ------
    RuntimeError
        There are none.
    """
    found = steps.get_current_head()
    if found is None:
        raise RuntimeError(f"there are no steps in {steps.dir}: the installation is broken")
    return found


def is_known(steps: ScriptDirectory, revision: str) -> bool:
    """Return whether one of the steps leads to this version."""
    return revision in {script.revision for script in steps.walk_revisions()}


def version(connection: Connection) -> str | None:
    """Return the version of the tables that are there; None: nobody has written one down."""
    return MigrationContext.configure(connection).get_current_revision()
