"""`armillary controller`: counts what is free; any number may run, one of them acts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `controller`."""
    text = "run a controller: count what is free; any number may run, one of them acts"
    parser = commands.add_parser("controller", help=text, description=text)
    parser.set_defaults(do=_controller)
    parser.add_argument("--metrics-port", type=_port, metavar="PORT", help="where Prometheus may ask; default: nowhere")
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="the settings; default: armillary.yaml, if there is one"
    )


def _port(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: write a number from 1 to 65535")
    return int(text)


def _controller(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.controller.process import run
    from hub.db.address import AddressError
    from hub.quotas.declared import QuotaFileError
    from hub.settings import SettingsError, load
    from profiles.loader import CatalogueError

    try:
        run(load(arguments.file, environ), metrics_port=arguments.metrics_port)
    except (SettingsError, AddressError, CatalogueError, QuotaFileError, OSError) as error:
        print(error)
        return 1
    return 0
