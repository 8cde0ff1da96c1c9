"""Where people get mail: the address that their login gave, kept only where the site sends mail at all.

The hub stores it at each login, from the provider's claims; nobody types one in, and no page shows one. It is used for
mail that its owner asked for, ticket by ticket, and forgotten some time after the last login. The only module that
writes the table `addresses`. Functions of a connection, but for `AddressBook`, which is for the hub's event loop.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy import delete as delete_from

from hub.db.clock import Now
from hub.db.tables import addresses as table
from hub.db.transaction import write

__all__ = ["AddressBook", "address_in", "find", "forget", "remember", "sweep"]

_log = logging.getLogger(__name__)

_LONGEST = 254
"""RFC 5321, 4.5.3.1.3."""

# An `atom` and a host name (RFC 5321): no quotes, commas, brackets or line ends, so that it stays one address in a
# header whatever the provider sends.
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")


def address_in(*claims: Mapping[str, Any]) -> str | None:
    """Return the address that a login gave; None: none, one that is none, or one that the provider calls unverified.

    Parameters
    ----------
    claims
        User information, then the ID token's: the first that has `email` counts (OpenID Connect Core 5.1).
    """
    for found in claims:
        address = found.get("email")
        if not address:
            continue
        if str(found.get("email_verified", True)).lower() != "true":
            return None
        good = isinstance(address, str) and len(address) <= _LONGEST and _ADDRESS.fullmatch(address)
        return address if good else None
    return None


def remember(connection: Connection, user: str, address: str | None) -> None:
    """Note a person's address as their login gave it just now; None: there is none (any more)."""
    if address is None:
        forget(connection, user)
        return
    changed = update(table).where(table.c.user_name == user).values(address=address, changed_at=Now())
    if not connection.execute(changed).rowcount:
        connection.execute(insert(table).values(user_name=user, address=address, changed_at=Now()))


def find(connection: Connection, user: str) -> str | None:
    """Return a person's address; None: not known."""
    address = connection.scalar(select(table.c.address).where(table.c.user_name == user))
    return None if address is None else str(address)


def forget(connection: Connection, user: str) -> None:
    """Forget a person's address."""
    connection.execute(delete_from(table).where(table.c.user_name == user))


def sweep(connection: Connection, older_than_s: float) -> int:
    """Forget the addresses of those who have not logged in for so long; return how many."""
    return connection.execute(delete_from(table).where(table.c.changed_at < Now() - older_than_s)).rowcount


class AddressBook:
    """What the authenticator gives addresses to. A login never fails for want of it."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def __deepcopy__(self, memo: object) -> AddressBook:
        return self  # traitlets copies configuration

    async def remember(self, user: str, address: str | None) -> None:
        """Note a person's address."""
        try:
            await asyncio.to_thread(write, self._database, lambda connection: remember(connection, user, address))
        except OSError as error:
            _log.warning("The e-mail address of %r was not noted: %s", user, error)
