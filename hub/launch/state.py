"""The state folder: made with the right permissions, marked as ours, and removed on request."""

import os
import shutil
from pathlib import Path

from hub.launch.problem import Problem
from hub.launch.secrets import private_folder
from hub.settings.state import StatePaths

MARK = ".armillary-state"  # bootstrap.py has the same name: it must run before anything is installed
ENVIRONMENTS = "environments"  # made by bootstrap.py


def prepare(paths: StatePaths) -> None:
    """Make the folder and those in it that the launcher needs.

    As root, sessions run under other accounts and must get through to their homes (0711: no listing); otherwise
    nobody else needs to get in. Raises Problem if the folder holds other people's things.
    """
    root = paths.root
    root.mkdir(parents=True, exist_ok=True)
    mark = root / MARK
    if not mark.exists() and any(entry.name != ENVIRONMENTS for entry in root.iterdir()):
        raise Problem(f"{root} exists and is not Armillary's; choose an empty or new folder with --state DIR")
    root.chmod(0o711 if os.geteuid() == 0 else 0o700)
    mark.touch()
    # Wherever the folder lies, no version control should pick it up.
    (root / ".gitignore").write_text("*\n", encoding="ascii")
    for folder in (paths.secrets, paths.logs, paths.launches, root / "processes"):
        private_folder(folder)


def remove(root: Path) -> None:
    """Remove the folder's content, homes included, but not the environments: we may run from there."""
    if not (root / MARK).is_file():
        raise Problem(f"{root} is not a state folder of Armillary's: nothing was removed")
    for entry in sorted(root.iterdir()):
        if entry.name in (MARK, ENVIRONMENTS):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not (root / ENVIRONMENTS).exists():
        (root / MARK).unlink()
        root.rmdir()
