"""Which Unix uid belongs to whom: a table of Armillary's database.

A uid is given once and never again, also after its person is gone: files that it owns may still lie somewhere.
The database runs in a thread, so the hub's loop is never held; its one writer at a time makes it right for several
processes at once.
"""

from __future__ import annotations

import asyncio
import grp
import logging
import pwd
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

from sqlalchemy import Connection, Engine, func, insert, select

from hub.db.clock import Now
from hub.db.tables import uids as table
from hub.db.transaction import read, write

__all__ = ["SqlUidRegistry", "UidError", "import_old"]

_log = logging.getLogger(__name__)
_HIGHEST = 2**31 - 1
# Some programs still read a uid as a signed number.
_SUBORDINATE = (Path("/etc/subuid"), Path("/etc/subgid"))


class UidError(LookupError):
    """A person cannot get, or keep, a uid; the text is for the operator."""


class SqlUidRegistry:
    """Gives each person a uid of their own; implements `spawner.protocols.UidRegistry`.

    Parameters
    ----------
    engine
        Armillary's database, upgraded.
    first_uid
        Where counting begins. Uids and gids of this machine's own accounts, and those set aside for containers in
        /etc/subuid and /etc/subgid, are passed over.
    """

    def __init__(self, engine: Engine, *, first_uid: int = 200_000) -> None:
        if not 1 <= first_uid <= _HIGHEST:
            raise ValueError(f"first_uid {first_uid} is not between 1 and {_HIGHEST}")
        self.engine = engine
        self.first_uid = first_uid
        self._known: dict[str, int] = {}

    def __deepcopy__(self, memo: object) -> SqlUidRegistry:
        return self  # traitlets copies configuration; there must be one registry

    async def uid_of(self, user_name: str) -> int:
        """Return the uid of this person, making one on the first call; never the same for two names.

        Names are compared as they are: no case folding, no Unicode normalisation, so two names are two people.

        Raises
        ------
        UidError
            There is no uid left, the one that was given belongs to an account of this machine by now, or the database
            did not answer.
        """
        if not user_name:
            raise UidError("a person without a name gets no uid")
        uid = self._known.get(user_name)
        if uid is None:
            try:
                uid = await asyncio.to_thread(self._find_or_give, user_name)
            except (OSError, UnicodeEncodeError) as error:
                raise UidError(f"the table of uids cannot be used: {error}") from error
            self._known[user_name] = uid
        return uid

    async def people(self) -> Mapping[str, int]:
        """Return everybody who ever got a uid."""
        return MappingProxyType(await asyncio.to_thread(read, self.engine, _everybody))

    def _find_or_give(self, user_name: str) -> int:
        def work(connection: Connection) -> tuple[int, bool]:
            known = connection.scalar(select(table.c.uid).where(table.c.user_name == user_name))
            if known is not None:
                return int(known), False
            highest = connection.scalar(select(func.max(table.c.uid)))
            uid = _first_free(max(self.first_uid, (highest or 0) + 1))
            connection.execute(insert(table).values(uid=uid, user_name=user_name, given_at=Now()))
            return uid, True

        uid, new = write(self.engine, work)
        if new:
            _log.info("uid %i is %r from now on", uid, user_name)
            return uid
        return _still_free(uid, user_name)


def import_old(path: Path, engine: Engine) -> int:
    """Take over the uids of an installation before 0.2, which kept them in a SQLite file of their own; return how many.

    May be called at every start: what was taken over already is passed over, and the file is left as it is, because an
    older version that is started again would otherwise give the same numbers to other people. Blocks.

    Raises
    ------
    UidError
        The file cannot be read, or it and the database give one person two uids or two persons the same one: an older
        version has been giving out uids beside this one.
    hub.db.transaction.DatabaseAway
        The database did not answer.
    """
    if not path.exists() or path.stat().st_size == 0:
        return 0
    old = _old(path)

    def work(connection: Connection) -> int:
        mine = _everybody(connection)
        owners = {uid: name for name, uid in mine.items()}
        for name, uid in old.items():
            if mine.get(name, uid) != uid or owners.get(uid, name) != name:
                raise UidError(
                    f"{path} says that uid {uid} is {name!r}, but in the database it is {owners.get(uid)!r}, and "
                    f"{name!r} is {mine.get(name)}. Decide whose files those of uid {uid} are, correct one of the two "
                    "tables, and start again."
                )
        new = [{"uid": uid, "user_name": name} for name, uid in old.items() if name not in mine]
        if new:
            connection.execute(insert(table).values(given_at=Now()), new)
        return len(new)

    return write(engine, work)


def _old(path: Path) -> dict[str, int]:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as database:
            return dict(database.execute("SELECT user_name, uid FROM uids ORDER BY uid").fetchall())
    except sqlite3.Error as error:
        raise UidError(f"the old table of uids {path} cannot be read: {error}") from error


def _everybody(connection: Connection) -> dict[str, int]:
    rows = connection.execute(select(table.c.user_name, table.c.uid).order_by(table.c.uid))
    return {row.user_name: row.uid for row in rows}


def _still_free(uid: int, user_name: str) -> int:
    account = _account(uid)
    if account is not None:
        raise UidError(
            f"uid {uid} was given to {user_name!r}, but this machine has an account {account!r} with it by now; "
            "they would be one. Give that account another uid."
        )
    return uid


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
