"""Which Unix uid belongs to whom: a small SQLite file, until the product's database exists.

A uid is given once and never again, also after its person is gone: files that it owns may still lie somewhere.
SQLite runs in a thread, so the hub's loop is never held; BEGIN IMMEDIATE makes it right for several processes at once.
"""

from __future__ import annotations

import asyncio
import grp
import logging
import pwd
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

__all__ = ["SqliteUidRegistry", "UidError"]

_log = logging.getLogger(__name__)
_BUSY_S = 30.0
_HIGHEST = 2**31 - 1
# Some programs still read a uid as a signed number.
_SUBORDINATE = (Path("/etc/subuid"), Path("/etc/subgid"))
_TABLE = """
CREATE TABLE IF NOT EXISTS uids (
    uid INTEGER PRIMARY KEY,
    user_name TEXT NOT NULL UNIQUE,
    given_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
)
"""


class UidError(LookupError):
    """A person cannot get, or keep, a uid; the text is for the operator."""


class SqliteUidRegistry:
    """Gives each person a uid of their own; implements `spawner.protocols.UidRegistry`.

    Parameters
    ----------
    path
        The file; made with mode 0600 at the first use.
    first_uid
        Where counting begins. Uids and gids of this machine's own accounts, and those set aside for containers in
        /etc/subuid and /etc/subgid, are passed over.
    """

    def __init__(self, path: Path, *, first_uid: int = 200_000) -> None:
        if not 1 <= first_uid <= _HIGHEST:
            raise ValueError(f"first_uid {first_uid} is not between 1 and {_HIGHEST}")
        self.path = path.absolute()
        self.first_uid = first_uid
        self._known: dict[str, int] = {}

    def __deepcopy__(self, memo: object) -> SqliteUidRegistry:
        return self  # traitlets copies configuration; there must be one registry

    async def uid_of(self, user_name: str) -> int:
        """Return the uid of this person, making one on the first call; never the same for two names.

        Names are compared as they are: no case folding, no Unicode normalisation, so two names are two people.

        Raises
        ------
        UidError
            There is no uid left, or the one that was given belongs to an account of this machine by now.
        """
        if not user_name:
            raise UidError("a person without a name gets no uid")
        uid = self._known.get(user_name)
        if uid is None:
            try:
                uid = await asyncio.to_thread(self._find_or_give, user_name)
            except sqlite3.Error as error:
                raise UidError(f"the table of uids {self.path} cannot be used: {error}") from error
            self._known[user_name] = uid
        return uid

    async def people(self) -> Mapping[str, int]:
        """Return everybody who ever got a uid."""
        return MappingProxyType(await asyncio.to_thread(self._all))

    def _find_or_give(self, user_name: str) -> int:
        with self._transaction() as database:
            row = database.execute("SELECT uid FROM uids WHERE user_name = ?", (user_name,)).fetchone()
            if row is not None:
                return self._still_free(int(row[0]), user_name)
            highest = database.execute("SELECT max(uid) FROM uids").fetchone()[0]
            uid = _first_free(max(self.first_uid, (highest or 0) + 1))
            database.execute("INSERT INTO uids (uid, user_name) VALUES (?, ?)", (uid, user_name))
            _log.info("uid %i is %r from now on", uid, user_name)
            return uid

    def _still_free(self, uid: int, user_name: str) -> int:
        account = _account(uid)
        if account is not None:
            raise UidError(
                f"uid {uid} was given to {user_name!r}, but this machine has an account {account!r} with it by now; "
                "they would be one. Give that account another uid."
            )
        return uid

    def _all(self) -> dict[str, int]:
        with self._transaction() as database:
            return dict(database.execute("SELECT user_name, uid FROM uids ORDER BY uid").fetchall())

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection of this thread's own, in a transaction that nobody else can write beside."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.touch(mode=0o600)
        database = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(
                "PRAGMA synchronous = FULL"
            )  # a uid that was given must not be given again after a power cut
            database.execute("BEGIN IMMEDIATE")
            try:
                database.execute(_TABLE)
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")
        finally:
            database.close()


def _account(uid: int) -> str | None:
    """Return the name of this machine's account or group with this number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        pass
    try:
        return grp.getgrgid(uid).gr_name  # a session's gid is its uid
    except KeyError:
        return None


def _first_free(uid: int) -> int:
    """Return the first number from `uid` on that neither an account, a group nor a container's range has."""
    ranges = sorted(_subordinate_ranges())
    while uid <= _HIGHEST:
        beyond = next((start + count for start, count in ranges if start <= uid < start + count), None)
        if beyond is not None:
            uid = beyond
        elif _account(uid) is not None:
            uid += 1
        else:
            return uid
    raise UidError(f"there is no uid left below {_HIGHEST}")


def _subordinate_ranges() -> Iterator[tuple[int, int]]:
    """Yield the ranges set aside for containers (subuid(5): name:start:count)."""
    for path in _SUBORDINATE:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            _, _, numbers = line.strip().partition(":")
            start, _, count = numbers.partition(":")
            if start.isdigit() and count.isdigit():
                yield int(start), int(count)
