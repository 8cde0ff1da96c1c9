"""What takes long to make is made once and kept outside the checkout.

One folder per tool and version. A folder is complete or absent: it is made under another name on the same
file system and renamed, under a lock, so that two runs at once do the work once.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def root() -> Path:
    """The cache folder: $ARMILLARY_CACHE, else armillary/ in the user's cache folder."""
    if named := os.environ.get("ARMILLARY_CACHE"):
        return Path(named).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "armillary"


def run_folder() -> Path:
    """Where a running lab keeps its state (etcd's data, containerd's root, logs, process ids)."""
    if named := os.environ.get("ARMILLARY_LAB_RUN"):
        return Path(named).expanduser().absolute()
    return root() / "run"


def say(text: str) -> None:
    """Tells the person who waits; on standard error, so that standard output stays for results."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def _lock_file(name: str) -> Path:
    folder = root() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.lock"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Holds the lock `name` of the cache; waits for another run that holds it, and says so."""
    # Opened close-on-exec (Python's default), so that a daemon started under the lock does not keep it.
    with open(_lock_file(name), "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that holds '{name}'")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def shared(name: str) -> Iterator[Callable[[], bool]]:
    """Marks `name` as in use by this process, as any number may at once.

    Yields:
        A function that gives the mark up and tells whether nobody else holds one.
    """
    with open(_lock_file(name), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)

        def last() -> bool:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        yield last


def entry(name: str, make: Callable[[Path], None], notice: str) -> Path:
    """The cached folder `name`, made by `make(empty folder)` when it is not there yet.

    Args:
        name: folder's name; carries every version that matters.
        make: fills the folder; what it raises is passed on, and nothing is kept then.
        notice: printed before a build, with the time it takes.
    """
    final = root() / name
    if final.is_dir():
        return final
    with locked(name):
        if final.is_dir():
            return final
        say(notice)
        making = Path(tempfile.mkdtemp(prefix=f".making-{name}-", dir=root()))
        try:
            make(making)
            making.chmod(0o755)
            making.rename(final)
        finally:
            if making.exists():
                shutil.rmtree(making)
    return final
