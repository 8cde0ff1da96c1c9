"""The databases of one installation, made ready: what the launcher, the hub and `armillary db upgrade` do."""

from __future__ import annotations

from sqlalchemy import Engine

from hub.db import jupyterhub_tables
from hub.db.address import database_url
from hub.db.engine import connect, shown
from hub.db.upgrade import UpgradeError, upgrade
from hub.settings import Settings
from hub.uids import import_old

__all__ = ["bring_jupyterhub_up_to_date", "bring_up_to_date", "refuse_newer_jupyterhub"]


def bring_up_to_date(settings: Settings) -> tuple[Engine, list[str]]:
    """Bring the tables to what this version needs and take over what older versions kept elsewhere. Blocks.

    May be called at every start, by many at once.

    Returns
    -------
    tuple
        The database, and sentences about what was done, for the log or the terminal.

    Raises
    ------
    hub.db.address.AddressError, hub.db.upgrade.UpgradeError, hub.uids.UidError, OSError
        It cannot be; each says in words why.
    """
    engine = connect(database_url(settings))
    done = upgrade(engine)
    said = [f"The old file was kept as {done.backup}."] if done.backup is not None else []
    if done.before is None:
        said.append(f"Made the tables in {shown(engine)} (version {done.after}).")
    elif done.changed:
        said.append(f"Brought the tables in {shown(engine)} from version {done.before} to {done.after}.")
    else:
        said.append(f"The tables in {shown(engine)} are what this version needs ({done.after}).")
    taken = import_old(settings.paths.uids_database, engine)
    if taken:
        said.append(f"Took over {taken} uids from {settings.paths.uids_database}.")
    return engine, said


def refuse_newer_jupyterhub(settings: Settings) -> None:
    """Raise where a newer JupyterHub made the tables of its database, of which it would say less. Blocks.

    Raises
    ------
    hub.db.upgrade.UpgradeError, hub.secret.ConfigError, OSError
        It did; or it could not be found out.
    """
    url = jupyterhub_tables.address(settings)
    said = jupyterhub_tables.newer(url) if url is not None else None
    if said is not None:
        raise UpgradeError(said)


def bring_jupyterhub_up_to_date(settings: Settings) -> list[str]:
    """Bring JupyterHub's tables to what the installed one needs; return sentences about what was done. Blocks.

    May be called again, and by many at once. What is not there is left to JupyterHub's first start.

    Raises
    ------
    hub.db.upgrade.UpgradeError, hub.secret.ConfigError, OSError
        It cannot be; each says in words why.
    """
    url = jupyterhub_tables.address(settings)
    if url is None:
        return ["JupyterHub's database is of a kind that it brings up to date by itself, when it starts."]
    done = jupyterhub_tables.upgrade(url)
    if done is None:
        return ["There are no tables of JupyterHub yet; it makes them when it starts."]
    said = [f"JupyterHub's old file was kept as {done.backup}."] if done.backup is not None else []
    if done.changed:
        return [*said, f"Brought JupyterHub's tables from version {done.before} to {done.after}."]
    return [f"JupyterHub's tables are what it needs ({done.after})."]
