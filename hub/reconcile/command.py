"""`armillary reconcile`: compare what hub, engine, queue and ledger say, and repair, now."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `reconcile`."""
    text = "compare what hub, engine, queue and ledger say of the same sessions, and repair what cannot be"
    parser = commands.add_parser(
        "reconcile",
        help=text,
        description=f"{text}. The controller that leads does so each minute; its lease must be held.",
    )
    parser.set_defaults(do=_reconcile)
    parser.add_argument(
        "--dry-run", action="store_true", help="say what is found and what would be done; change nothing"
    )
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="the settings; default: armillary.yaml, if there is one"
    )


def _reconcile(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.controller.lease import StaleEpoch
    from hub.db.address import AddressError
    from hub.db.transaction import DatabaseAway
    from hub.reconcile.by_hand import run
    from hub.secret import ConfigError
    from hub.settings import SettingsError, load
    from profiles.loader import CatalogueError

    try:
        return run(load(arguments.file, environ), dry_run=arguments.dry_run)
    except StaleEpoch as error:
        print(f"nothing was repaired: {error}; repairs need a controller that leads")
    except (SettingsError, AddressError, CatalogueError, ConfigError, DatabaseAway, OSError) as error:
        print(error)
    return 1
