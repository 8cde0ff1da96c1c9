"""`armillary backup create`, `list` and `restore`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub.settings import Loaded, Settings

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `backup`."""
    parser = commands.add_parser("backup", help="copy the whole installation into one file, or put such a copy back")
    actions = parser.add_subparsers(required=True, metavar="ACTION", help="create, list or restore")
    text = "copy both databases, secrets and configuration into one file, while everything runs"
    create = _action(actions, "create", _create, text)
    create.add_argument("--keep", type=_number, metavar="N", help="remove older copies than the newest N afterwards")
    listed = _action(actions, "list", _list, "say which copies there are, and of what; finds damaged beginnings only")
    for one in (create, listed):
        one.add_argument("--folder", type=Path, help="where copies lie; default: backups in state_dir")
    text = "replace databases and secrets by those of a copy; hub, service and controller are stopped before"
    restore = _action(actions, "restore", _restore, text, before=("archive",))
    restore.add_argument("--yes", action="store_true", help="do it; without it only check, and say what would be done")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    do: Callable[[argparse.Namespace, Mapping[str, str]], int],
    text: str,
    before: tuple[str, ...] = (),
) -> argparse.ArgumentParser:
    action = actions.add_parser(name, help=text, description=text)
    action.set_defaults(do=lambda arguments, environ: _told(do, arguments, environ))
    for argument in before:
        action.add_argument(argument, type=Path, metavar=argument.upper())
    action.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="the settings; default: armillary.yaml, if there is one"
    )
    return action


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of copies: 1 or more")
    return int(text)


def _told(
    do: Callable[[argparse.Namespace, Mapping[str, str]], int],
    arguments: argparse.Namespace,
    environ: Mapping[str, str],
) -> int:
    from hub.backup.problem import BackupError
    from hub.db.address import AddressError
    from hub.db.upgrade import UpgradeError
    from hub.secret import ConfigError
    from hub.settings import SettingsError

    try:
        return do(arguments, environ)
    except (SettingsError, AddressError, ConfigError, BackupError, UpgradeError, OSError) as error:
        print(error)
    return 1


def _loaded(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Loaded:
    from hub.settings import load_with_origins

    return load_with_origins(arguments.file, environ)


def _noted(settings: Settings, made: Path) -> str:
    from hub.backup.note import note
    from hub.db.address import database_url
    from hub.db.engine import connect

    database = connect(database_url(settings))
    try:
        return note(database, made, made.stat().st_size)
    finally:
        database.dispose()


def _create(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.backup.contents import contents
    from hub.backup.create import create, folder_of

    loaded = _loaded(arguments, environ)
    folder = arguments.folder or folder_of(loaded.settings)
    made = create(loaded.settings, loaded.file, folder, keep=arguments.keep)
    print(f"Made {made} ({_size(made.stat().st_size)}). It holds secrets: keep it as you keep them.")
    if why := _noted(loaded.settings, made):
        print(f"That it was made could not be written into the audit trail: {why}")
    for sentence in contents(loaded.settings, loaded.file).absent:
        print(sentence)
    return 0


def _list(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.backup.create import every, folder_of

    folder = arguments.folder or folder_of(_loaded(arguments, environ).settings)
    found = every(folder)
    if not found:
        print(f"There is no copy in {folder}.")
    for one in found:
        if one.manifest is None:
            print(f"{one.file}  cannot be used: {one.problem}")
            continue
        said = one.manifest
        kinds = ", ".join(sorted(set(said.databases.values())))
        print(f"{one.file}  {said.made_at}  Armillary {said.version}  {kinds}  {_size(one.size)}  {said.public_url}")
    return 1 if any(one.manifest is None for one in found) else 0


def _restore(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from hub.backup.restore import plan, restore

    loaded = _loaded(arguments, environ)
    found = plan(arguments.archive, loaded.settings, loaded.file)
    if not arguments.yes:
        print(f"{arguments.archive} is whole: of {found.manifest.made_at}, Armillary {found.manifest.version}.")
        for sentence in found.says:
            print(f"It would {sentence}.")
        print("Nothing was changed. Stop hub, service and controller, and add --yes to do it.")
        return 1
    restore(arguments.archive, loaded.settings, loaded.file, say=print)
    print("Done. Start Armillary; what ended or began since the copy is mended by the reconciler within a minute.")
    return 0


def _size(number: int) -> str:
    from profiles.quantities import say_memory

    return say_memory(number)
