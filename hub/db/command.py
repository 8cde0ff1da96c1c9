"""`armillary db upgrade` and `armillary db check`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `db`."""
    parser = commands.add_parser("db", help="bring Armillary's database and JupyterHub's up to date, or check them")
    actions = parser.add_subparsers(required=True, metavar="ACTION", help="upgrade or check")
    for name, do, text in (
        ("upgrade", _upgrade, "make the tables, or bring them to what this version needs; may be run again"),
        ("check", _check, "say whether the databases can be used by this version; changes nothing"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.set_defaults(do=do)
        action.add_argument(
            "file", nargs="?", type=Path, metavar="FILE", help="the settings; default: armillary.yaml, if there is one"
        )


def _upgrade(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.db.installation import bring_jupyterhub_up_to_date, bring_up_to_date, refuse_newer_jupyterhub
    from hub.db.upgrade import UpgradeError
    from hub.settings import SettingsError, load
    from hub.uids import UidError

    try:
        settings = load(arguments.file, environ)
        refuse_newer_jupyterhub(settings)  # before anything is changed
        engine, said = bring_up_to_date(settings)
        engine.dispose()
        _print(said)
        _print(bring_jupyterhub_up_to_date(settings))
    except (SettingsError, UpgradeError, UidError, ValueError, OSError) as error:
        print(error)
        return 1
    return 0


def _check(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.db import jupyterhub_tables
    from hub.db.address import AddressError, database_url
    from hub.db.engine import connect, shown
    from hub.db.upgrade import problem
    from hub.secret import ConfigError
    from hub.settings import SettingsError, load

    try:
        settings = load(arguments.file, environ)
        engine = connect(database_url(settings))
        hubs = jupyterhub_tables.address(settings)
    except (SettingsError, AddressError, ConfigError) as error:
        print(error)
        return 1
    found = [said for said in (problem(engine), jupyterhub_tables.problem(hubs) if hubs else None) if said]
    _print(found or [f"{shown(engine)} is what this version needs"])
    engine.dispose()
    return 1 if found else 0


def _print(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        print(sentence, flush=True)
