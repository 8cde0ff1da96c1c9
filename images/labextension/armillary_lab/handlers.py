"""What the front end asks of the session's server, below `armillary/`; `src/state.ts` lists it."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any

from jupyter_server.base.handlers import APIHandler
from tornado import web

from armillary_lab.service import Refused, Service
from armillary_lab.session import SessionWatch, problem
from armillary_lab.state import Wanted, read, written

__all__ = ["KEY", "handlers"]

KEY = "armillary_session"
"""Of the session's watch among the server's settings; None there: Armillary did not start this session."""


class _Handler(APIHandler):
    @property
    def session(self) -> SessionWatch:
        """The session; 404 where Armillary did not start it."""
        found = self.settings.get(KEY)
        if not isinstance(found, SessionWatch):
            raise web.HTTPError(404, "This server was not started by Armillary.")
        return found

    @property
    def service(self) -> Service:
        return self.session.service

    def update_api_activity(self) -> None:
        """Looking at the clock is no sign of work."""

    def body(self) -> Any:
        """Return the request's body; 400 where it is no JSON."""
        try:
            return json.loads(self.request.body or b"{}")
        except ValueError:
            raise web.HTTPError(400, "The request's body is no JSON.") from None

    async def hand_on(self, asked: Awaitable[dict[str, Any]]) -> None:
        """Answer with what the service answers."""
        try:
            said = await asked
        except Refused as error:
            self.set_status(error.status)
            self.finish(problem(error))
            return
        finally:
            self.session.changed()
        self.finish(json.dumps(said))


class StateHandler(_Handler):
    """What is known of the session."""

    @web.authenticated
    async def get(self) -> None:
        """Return it."""
        self.finish(json.dumps(written(await self.session.state())))


class KeepHandler(_Handler):
    """*Keep my session*."""

    @web.authenticated
    async def post(self) -> None:
        """Ask for it."""
        await self.hand_on(self.service.keep())


class SwitchHandler(_Handler):
    """*Switch accelerator*."""

    @web.authenticated
    async def get(self) -> None:
        """Return the choices."""
        await self.hand_on(self.service.choices())

    @web.authenticated
    async def post(self) -> None:
        """Ask for one of them."""
        await self.hand_on(self.service.switch(written(read(Wanted, self.body()))))

    @web.authenticated
    async def delete(self) -> None:
        """Take the wish back."""
        await self.hand_on(self.service.leave())


class NoticeHandler(_Handler):
    """One notice."""

    @web.authenticated
    async def delete(self, notice: str) -> None:
        """Note that it was read."""
        try:
            await self.service.dismiss(notice)
        except Refused as error:
            self.set_status(error.status)
            self.finish(problem(error))
            return
        self.session.changed()
        self.set_status(204)
        self.finish()


def handlers() -> list[tuple[str, type[_Handler]]]:
    """Return the paths, below the server's own."""
    return [
        (r"armillary/state", StateHandler),
        (r"armillary/keep", KeepHandler),
        (r"armillary/switch", SwitchHandler),
        # jupyter_server hands a group over with its %XX undone, and ids have slashes
        (r"armillary/notices/(.+)", NoticeHandler),
    ]
