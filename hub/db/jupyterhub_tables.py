"""Bring the tables of JupyterHub's own database to what its version needs, before its hub is started.

JupyterHub does so itself when it starts. In an upgrade that is too late: a step that fails should be known while the
hub of before still runs. Its steps are run here as it runs them, each in a transaction of its own, because some look
at what the one before has left through another connection. So one that was killed has done some of them whole and none
by half, on SQLite too, and the next one goes on from there.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from hub.db import steps
from hub.db.engine import WRITES, connect, shown, sqlite_file
from hub.db.give_way import limits, until_free
from hub.db.transaction import DatabaseAway, read, translated, write
from hub.db.upgrade import BACK, Upgrade, UpgradeError, copy_beside
from hub.secret import secret
from hub.settings import Settings

__all__ = ["address", "newer", "problem", "upgrade"]

T = TypeVar("T")

_WAIT_S = 120.0
"""How long to wait for another one that upgrades, and for who uses the tables."""


def address(settings: Settings) -> str | None:
    """Return the URL of JupyterHub's database, a secret; None: it is of a kind that only JupyterHub itself can use.

    Raises
    ------
    hub.secret.ConfigError
        The file that holds it cannot be read.
    """
    own = settings.hub
    given = secret(own.database_url, own.database_url_file, "hub.database_url")
    if not given:
        return f"sqlite:///{settings.paths.hub_database.absolute()}"
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        return None
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        return f"sqlite:///{Path(str(url.database)).absolute()}"
    return None


def upgrade(url: str, *, scripts: Path | None = None, wait_s: float = _WAIT_S) -> Upgrade | None:
    """Bring the tables to what the installed JupyterHub needs; None: its first start makes them. Blocks.

    May be called again, and by many at once. A SQLite file is copied beside itself before it is changed. `scripts` is
    the folder of the steps.

    Raises
    ------
    hub.db.upgrade.UpgradeError
        A newer JupyterHub made the tables; nothing was changed.
    hub.db.transaction.DatabaseAway
        The database did not answer, somebody used the tables all the time, or a step failed; those before it are done.
    OSError
        The copy could not be written.
    """
    plan = _plan(scripts)
    with _engine(url) as engine:
        if _is_absent(engine):
            return None
        return _alone(engine, lambda: _upgraded(engine, plan, wait_s), wait_s)


def _upgraded(engine: Engine, plan: ScriptDirectory, wait_s: float) -> Upgrade | None:
    before, after = read(engine, steps.version), steps.newest(plan)
    if before is None:
        return None
    if before == after:
        return Upgrade(before, after)
    if not steps.is_known(plan, before):
        raise UpgradeError(_newer(engine, before))
    backup = copy_beside(engine, before)
    until_free(lambda: _run(engine, plan), wait_s)
    return Upgrade(before, after, backup)


def problem(url: str, *, scripts: Path | None = None) -> str | None:
    """Say in a sentence what is to be done before these tables can be used; None: nothing. Changes nothing. Blocks."""
    plan = _plan(scripts)
    with _engine(url) as engine:
        try:
            before = None if _is_absent(engine) else read(engine, steps.version)
        except OSError as error:
            return f"JupyterHub's database cannot be used: {error}."
        if before is None or before == steps.newest(plan):
            return None
        if not steps.is_known(plan, before):
            return _newer(engine, before)
        return (
            f"JupyterHub's tables in {shown(engine)} are of version {before}, and the one that is installed needs "
            f"{steps.newest(plan)}. Run `armillary db upgrade`."
        )


def newer(url: str, *, scripts: Path | None = None) -> str | None:
    """Say in a sentence that a newer JupyterHub made these tables; None: none did. Changes nothing. Blocks.

    Raises
    ------
    hub.db.transaction.DatabaseAway
        The database did not answer.
    """
    with _engine(url) as engine:
        before = None if _is_absent(engine) else read(engine, steps.version)
        return None if before is None or steps.is_known(_plan(scripts), before) else _newer(engine, before)


@contextmanager
def _engine(url: str) -> Iterator[Engine]:
    engine = connect(url)
    if engine.dialect.name == "sqlite":
        # A step that makes a table anew drops the old one; with foreign keys the rows that point to it would go, too.
        @event.listens_for(engine, "connect")
        def _prepare(connection: Any, record: Any) -> None:
            connection.execute("PRAGMA foreign_keys = OFF")

    try:
        yield engine
    finally:
        engine.dispose()


def _is_absent(engine: Engine) -> bool:
    file = sqlite_file(engine)
    return file is not None and not file.exists()


def _alone(engine: Engine, work: Callable[[], T], wait_s: float) -> T:
    """Let one upgrade at a time work, however the others end."""
    file = sqlite_file(engine)
    if file is not None:
        with _locked(file.parent, wait_s):
            return work()

    def held(connection: Connection) -> T:
        # This transaction does nothing but keep others waiting, for as long as the steps take on another connection.
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        return work()

    return write(engine, held, wait_s=wait_s)


@contextmanager
def _locked(folder: Path, wait_s: float) -> Iterator[None]:
    deadline = time.monotonic() + wait_s
    opened = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DatabaseAway(f"another one has been upgrading in {folder} for {wait_s:g} s") from None
                time.sleep(0.1)
        yield
    finally:
        os.close(opened)


def _run(engine: Engine, plan: ScriptDirectory) -> None:
    """Run the steps that are missing, as JupyterHub's own `env.py` does, which would also configure all logging."""
    from jupyterhub import orm

    def missing(revision: Any, context: Any) -> Any:
        return plan._upgrade_revs("head", revision)

    try:
        with engine.connect() as connection:
            connection.execution_options(**{WRITES: True})
            limits(connection, "SESSION")
            connection.commit()
            with EnvironmentContext(steps.config(Path(plan.dir)), plan, fn=missing, destination_rev="head") as run:
                run.configure(
                    connection=connection,
                    target_metadata=orm.Base.metadata,
                    transaction_per_migration=True,
                    transactional_ddl=True,  # on SQLite, too: hub.db.engine says BEGIN
                )
                with run.begin_transaction():
                    run.run_migrations()
    except SQLAlchemyError as error:
        said = translated(engine, error)
        raise (said if isinstance(said, OSError) else DatabaseAway(f"{shown(engine)}: {error}")) from error
    except CommandError as error:
        raise UpgradeError(f"JupyterHub's tables in {shown(engine)}: {error}") from error


def _plan(scripts: Path | None) -> ScriptDirectory:
    from jupyterhub.dbutil import ALEMBIC_DIR

    return steps.plan(scripts or Path(ALEMBIC_DIR))


def _newer(engine: Engine, before: str) -> str:
    return (
        f"JupyterHub's tables in {shown(engine)} are of version {before}, which JupyterHub "
        f"{metadata.version('jupyterhub')} does not know: a newer one made them. {BACK}"
    )
