"""`armillary service`: the REST API and pages beside the hub, and the controller with it where that is wished."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `service`."""
    text = "run the service: REST API and pages beside the hub's"
    parser = commands.add_parser("service", help=text, description=text)
    parser.set_defaults(do=_service)
    parser.add_argument(
        "--with-controller",
        action="store_true",
        help="run the controller in the same process, as `armillary run` does on one machine",
    )
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="the settings; default: armillary.yaml, if there is one"
    )


def _service(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.db.address import AddressError
    from hub.quotas.declared import QuotaFileError
    from hub.secret import ConfigError
    from hub.settings import SettingsError, load
    from hub.web.process import NotReady, run
    from hub.web.server import ListenError
    from profiles.loader import CatalogueError

    try:
        run(load(arguments.file, environ), with_controller=arguments.with_controller)
    except (
        SettingsError,
        AddressError,
        ConfigError,
        CatalogueError,
        QuotaFileError,
        ListenError,
        NotReady,
    ) as error:
        print(error)
        return 1
    return 0
