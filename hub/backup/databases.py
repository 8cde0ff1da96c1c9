"""One database as one file, and back: SQLite by its own backup function, PostgreSQL by pg_dump and pg_restore.

Both take one state of the database, while everything runs.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import URL

from hub.backup.contents import Database
from hub.backup.problem import BackupError

__all__ = ["copy_sqlite", "is_sqlite", "put_back", "save"]

_SQLITE = b"SQLite format 3\x00"
_WAIT_S = 30.0


def is_sqlite(file: Path) -> bool:
    """Return whether this file is a SQLite database; False also for one that nothing was written to yet."""
    with file.open("rb") as opened:
        return opened.read(len(_SQLITE)) == _SQLITE


def copy_sqlite(file: Path, target: Path) -> None:
    """Copy a SQLite database as it is at one moment, with what is still in its log.

    Raises
    ------
    BackupError
        It is damaged, or held by a writer for too long.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(_opened(file)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, whatever the original was
            found = copy.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.Error as error:
        raise BackupError(f"{file} cannot be copied: {error}") from error
    if found != "ok":
        raise BackupError(f"{file} is damaged: {found}")


def save(database: Database, target: Path) -> None:
    """Write the database into a new file.

    Raises
    ------
    BackupError
        It does not answer, it is not there, or the programs of PostgreSQL are missing.
    """
    if database.file is not None:
        if not database.file.is_file():
            raise BackupError(f"there is no database at {database.file}; make it with `armillary db upgrade`")
        copy_sqlite(database.file, target)
        return
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    words = ["--format=custom", "--no-owner", "--no-privileges", f"--file={target}"]
    _postgresql("pg_dump", [*words, f"--dbname={_address(database.url)}"], database)


def put_back(database: Database, source: Path) -> None:
    """Replace what is in the database by what is in a file that `save` wrote; all of it or nothing.

    Nobody else may use the database meanwhile.

    Raises
    ------
    BackupError
        As of `save`; the database is as it was.
    """
    if database.file is None:
        words = ["--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error"]
        _postgresql("pg_restore", [*words, f"--dbname={_address(database.url)}", str(source)], database)
        return
    file = database.file
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.restored")
    draft.unlink(missing_ok=True)
    copy_sqlite(source, draft)
    if file.exists():
        _empty_log(file)
    with draft.open("rb") as written:
        os.fsync(written.fileno())
    draft.replace(file)


def _opened(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT_S)


def _empty_log(file: Path) -> None:
    """Take away what lies beside the old file, so that it is not read as belonging to the new one."""
    try:
        with closing(sqlite3.connect(file, timeout=_WAIT_S)) as old:
            old.execute("PRAGMA locking_mode = EXCLUSIVE")
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            old.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise BackupError(f"{file} cannot be replaced, something uses it or it is damaged: {error}") from error
    for beside in ("-wal", "-shm", "-journal"):
        file.with_name(file.name + beside).unlink(missing_ok=True)


def _address(url: URL) -> str:
    """The address as PostgreSQL's programs take it. Without the password: others see a program's arguments."""
    url = url.difference_update_query(["prepare_threshold"])  # ours, not libpq's
    named = {"user": url.username, "host": url.host, "port": url.port, "dbname": url.database}
    more = {key: value if isinstance(value, str) else ",".join(value) for key, value in url.query.items()}
    return make_conninfo("", **{key: str(value) for key, value in {**named, **more}.items() if value is not None})


def _postgresql(program: str, words: Sequence[str], database: Database) -> None:
    found = shutil.which(program)
    if found is None:
        raise BackupError(f"the program {program} is missing; install PostgreSQL's client (Debian: postgresql-client)")
    password = database.url.password
    given = {**os.environ, "PGCONNECT_TIMEOUT": "10", **({"PGPASSWORD": str(password)} if password else {})}
    done = subprocess.run([found, *words], env=given, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split()[-60:]) or f"exit status {done.returncode}"
        raise BackupError(f"{program} of {database.shown}: {said}")
