"""Home directories on one machine: one directory per person, below one folder.

Names that people choose never become paths as they are: they are escaped so that two names are never one
directory, whatever they contain. All functions block on the disk: call them in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import string
from pathlib import Path

from escapism import escape

__all__ = ["HomeError", "directory_name", "make_home"]

_SAFE = string.ascii_letters + string.digits + "-"
_LONGEST = 120
# Bytes; file systems allow 255, and the name appears in longer paths (sockets: 108).


class HomeError(Exception):
    """A home cannot be used; the text is for the operator."""


def directory_name(name: str) -> str:
    """Return a file name for a user's or server's name; different names never give the same one."""
    escaped: str = escape(name, safe=_SAFE, escape_char="_")
    if escaped.startswith("-"):  # would look like an option to a program
        escaped = "_2D" + escaped[1:]
    if len(escaped) > _LONGEST:  # "." never comes out of escape(), so this cannot meet a short name
        escaped = f"{escaped[: _LONGEST - 33]}.{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    return escaped


def make_home(homes: Path, user_name: str, uid: int | None) -> Path:
    """Make, or find, the home of a person: mode 0700, owned by `uid` (None: by whoever runs the hub).

    Raises
    ------
    HomeError
        What is there belongs to another account. It is never taken over: two people would become one.
    """
    if not user_name:
        raise HomeError("a person without a name has no home")
    with contextlib.suppress(FileExistsError):
        homes.mkdir(mode=0o700, parents=True)
        if uid is not None:  # others may pass through to their own homes, but not list them; mkdir would obey the umask
            homes.chmod(0o711)
    home = homes / directory_name(user_name)
    with contextlib.suppress(FileExistsError):
        _make_owned(home, uid)
    found = os.lstat(home)
    owner = os.geteuid() if uid is None else uid
    if not stat.S_ISDIR(found.st_mode):
        raise HomeError(f"{home} should be the home of {user_name!r}, but it is not a directory")
    if found.st_uid != owner:
        raise HomeError(
            f"the home {home} of {user_name!r} belongs to uid {found.st_uid}, but this person has uid {owner}. "
            "If it is theirs (restored from a backup, or the table of uids was lost), change its owner by hand."
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        os.chmod(home, 0o700)
    return home


def _make_owned(home: Path, uid: int | None) -> None:
    """Give the directory its name only once it has its owner: a kill in between leaves no half-made home."""
    if uid is None:
        home.mkdir(mode=0o700)
        return
    if os.path.lexists(home):
        raise FileExistsError(home)
    draft = home.with_name(f".{hashlib.sha256(os.urandom(16)).hexdigest()[:16]}.draft")
    draft.mkdir(mode=0o700)
    os.chown(draft, uid, uid)
    try:
        os.rename(draft, home)  # an empty directory that came first would be replaced: it belongs to the same uid
    except OSError as error:
        draft.rmdir()
        raise FileExistsError(home) from error
