"""The command `armillary`."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path

from hub.settings import Settings, SettingsError, load_with_origins
from hub.settings.show import as_yaml
from profiles.loader import CatalogueError, Problem, load
from profiles.schema import json_schema

# Commands of the launcher; everything after the name is its own affair.
LAUNCHER = {
    "run": "start everything on this machine: proxy, hub and, unless there is one, an OpenID provider",
    "clean": "remove everything that `run` keeps: homes, accounts, secrets, logs",
}

# Modules with commands of their own; each has `add(commands)`, and imports what is slow only when it is run.
PARTS: tuple[str, ...] = (
    "hub.db.command",
    "hub.discover.command",
    "hub.mig.command",
    "hub.web.command",
    "hub.controller.command",
    "hub.usage.command",
    "hub.quotas.command",
    "hub.reconcile.command",
    "hub.backup.command",
    "hub.z2jh.command",
    "hub.doctor.command",
)


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run one command; returns the exit status: 0 good, 1 problems found, 2 wrongly called."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in LAUNCHER:
        from hub.launch import main as launch

        return launch(words)
    arguments = _parser().parse_args(words)
    try:
        return int(arguments.do(arguments, environ))
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; Python must not complain while it closes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="armillary", description="A JupyterHub for many kinds of accelerator.")
    parser.add_argument("--version", action="version", version=f"armillary {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text in LAUNCHER.items():
        commands.add_parser(name, help=text, add_help=False)
    check = commands.add_parser("check", help="check catalogues and say every problem in them")
    check.set_defaults(do=_check)
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a catalogue (YAML)")
    check.add_argument(
        "--allow-weaker-security",
        action="store_true",
        help="accept overrides that weaken a pod's security, as the setting of that name does",
    )
    schema = commands.add_parser("schema", help="print the JSON Schema of catalogues, so that editors complete them")
    schema.set_defaults(do=_schema)
    schema.add_argument("--settings", action="store_true", help="that of armillary.yaml instead")
    settings = commands.add_parser("settings", help="print the settings in effect and where each comes from")
    settings.set_defaults(do=_settings)
    settings.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: armillary.yaml, if there is one")
    for part in PARTS:
        import_module(part).add(commands)
    return parser


def _version() -> str:
    try:
        return metadata.version("armillary")
    except metadata.PackageNotFoundError:
        return "of this checkout (not installed)"


def _check(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    problems: list[Problem] = []
    for file in arguments.files:
        try:
            load(file, allow_weaker_security=arguments.allow_weaker_security)
        except CatalogueError as error:
            problems += error.problems
    for problem in problems:
        print(problem)
    if not problems:
        print("no problems")
    return 1 if problems else 0


def _schema(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    print(json.dumps(Settings.model_json_schema() if arguments.settings else json_schema(), indent=2))
    return 0


def _settings(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    try:
        loaded = load_with_origins(arguments.file, environ)
    except SettingsError as error:
        print(error)
        return 1
    print(as_yaml(loaded), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
