"""`armillary db upgrade` and `armillary db check`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `db`."""
    parser = commands.add_parser("db", help="bring Armillary's own database up to date, or check it")
    actions = parser.add_subparsers(required=True, metavar="ACTION", help="upgrade or check")
    for name, do, text in (
        ("upgrade", _upgrade, "make the tables, or bring them to what this version needs; may be run again"),
        ("check", _check, "say whether the database can be used by this version; changes nothing"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.set_defaults(do=do)
        action.add_argument(
            "file", nargs="?", type=Path, metavar="FILE", help="the settings; default: armillary.yaml, if there is one"
        )


def _upgrade(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.db.installation import bring_up_to_date
    from hub.db.upgrade import UpgradeError
    from hub.settings import SettingsError, load
    from hub.uids import UidError

    try:
        engine, said = bring_up_to_date(load(arguments.file, environ))
    except (SettingsError, UpgradeError, UidError, ValueError, OSError) as error:
        print(error)
        return 1
    engine.dispose()
    for sentence in said:
        print(sentence)
    return 0


def _check(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.db.address import AddressError, database_url
    from hub.db.engine import connect, shown
    from hub.db.upgrade import problem
    from hub.settings import SettingsError, load

    try:
        engine = connect(database_url(load(arguments.file, environ)))
    except (SettingsError, AddressError) as error:
        print(error)
        return 1
    found = problem(engine)
    print(found or f"{shown(engine)} is what this version needs")
    engine.dispose()
    return 1 if found else 0
