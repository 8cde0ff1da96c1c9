"""The database of one installation, made ready at its start: what the launcher and `armillary db upgrade` do."""

from __future__ import annotations

from sqlalchemy import Engine

from hub.db.address import database_url
from hub.db.engine import connect, shown
from hub.db.upgrade import upgrade
from hub.settings import Settings
from hub.uids import import_old

__all__ = ["bring_up_to_date"]


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
