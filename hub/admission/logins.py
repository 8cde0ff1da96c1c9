"""Takes up the places of those who have logged in again."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import Engine

from hub.admission.outcome import logged_in
from hub.db.transaction import write

__all__ = ["Logins"]

_log = logging.getLogger(__name__)


class Logins:
    """What the authenticator tells of logins. A login never fails for want of it.

    Only a real login counts: JupyterHub goes on taking cookies and tokens of somebody whose login has lapsed at the
    provider (`auth_refresh_strict`), so a page or a program that asks again proves nothing.
    """

    def __init__(self, database: Engine) -> None:
        self._database = database

    def __deepcopy__(self, memo: object) -> Logins:
        return self  # traitlets copies configuration

    async def happened(self, user: str) -> None:
        """Let this person's tickets that wait for a login go on."""
        try:
            await asyncio.to_thread(write, self._database, lambda connection: logged_in(connection, user))
        except OSError as error:
            _log.warning("The places of %r in the queue still wait for a login: %s", user, error)
