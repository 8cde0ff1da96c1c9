"""What ends a start: one clear line for the person at the terminal, never a traceback."""

import errno
from pathlib import Path


class Problem(Exception):
    """A reason why the launcher cannot go on; its text says what happened and what to do now."""


def of_oserror(error: OSError, *, state: Path) -> Problem:
    """Turn an operating system error met while starting into a line that names the file and the way out.

    The way out is nearly always another state folder: there alone the launcher writes.
    """
    where = error.filename or state
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return Problem(f"no space left for {where}; free some, or choose another folder with --state DIR")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return Problem(f"no permission to write {where}; choose another folder with --state DIR")
        case errno.ENOTDIR | errno.EEXIST:
            return Problem(f"{where} is in the way: it is not a folder; move it, or choose another with --state DIR")
        case _:
            return Problem(f"{where}: {error.strerror or error}; choose another folder with --state DIR?")
