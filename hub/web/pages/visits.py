"""A visit of a page: who comes, what they may see, and how every page answers when something is wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from hub.settings.quotas import QuotaSettings
from hub.web.door import ACCESS, Door, Visitor
from hub.web.pages.forms import Form, read_form
from hub.web.pages.frame import Frame
from hub.web.pages.inner import Answer, Inner, Query, Refused
from hub.web.place import Place
from hub.web.problems import KINDS, Problem
from hub.web.usage import led_by

__all__ = ["Handler", "Pages", "Visit"]

_NO_FORM = Form({})


@dataclass(frozen=True)
class Visit:
    """One request for a page, by somebody who may come in. `form` has what they sent; empty for reading."""

    request: Request
    who: Visitor
    pages: Pages
    form: Form = _NO_FORM

    @property
    def name(self) -> str:
        """Whose pages these are."""
        return self.who.identity.name

    @property
    def admin(self) -> bool:
        """Whether the API lets them see everything."""
        return self.who.identity.admin

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups whose use they may see because they lead them."""
        return tuple(sorted(led_by(self.pages.quotas.leaders, self.who.identity.groups)))

    def query(self, name: str, default: str = "") -> str:
        """Return a value of the address."""
        return self.request.query_params.get(name, default).strip()

    async def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, query: Query | None = None, **more: Any
    ) -> Answer:
        """Ask the API as this visitor; raises Refused."""
        return await self.pages.inner(self.who, method, path, body, query=query, **more)

    async def get(self, path: str, query: Mapping[str, str | Sequence[str]] | None = None) -> Any:
        """Return what the API tells at a path; raises Refused."""
        return (await self.ask("GET", path, query=query)).said

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """Return a page for this visitor."""
        leads = bool(self.groups) or self.admin
        return self.pages.frame.page(template, self.who, status=status, leads=leads, **values)

    def away(self, path: str) -> Response:
        """Lead to a page of ours, as after every change."""
        return self.pages.frame.away(f"{self.pages.place.prefix}{path}")


Handler = Callable[[Visit], Awaitable[Response]]


class Pages:
    """Adds pages to the app.

    Parameters
    ----------
    quotas
        In which zone times are written without script, and who leads which groups.
    """

    def __init__(self, app: FastAPI, door: Door, place: Place, quotas: QuotaSettings) -> None:
        self.place = place
        self.quotas = quotas
        self.frame = Frame(place, quotas.zone, door.proof_for)
        self.inner = Inner(app, place.prefix)
        self._app = app
        self._door = door

    def add(self, path: str, read: Handler) -> None:
        """Add a page."""

        async def handle(request: Request) -> Response:
            return await self._answer(request, read)

        self._app.add_route(path, handle, methods=["GET"], include_in_schema=False)

    def add_post(self, path: str, act: Handler) -> None:
        """Add what a form of a page is sent to."""

        async def handle(request: Request) -> Response:
            return await self._answer(request, act)

        self._app.add_route(path, handle, methods=["POST"], include_in_schema=False)

    async def _answer(self, request: Request, handler: Handler) -> Response:
        who: Visitor | None = None
        try:
            form = await read_form(request) if request.method == "POST" else _NO_FORM
            who = await self._visitor(request, form)
            return await handler(Visit(request, who, self, form))
        except Refused as refused:
            return self._problem(who, refused.status, _title(refused), refused.text)
        except Problem as problem:
            if problem.code == "login-needed" and request.method == "GET":
                return self.frame.away(self.place.login(_wanted(request)))
            said = problem.detail
            if problem.code == "login-needed":
                said = "Your login here has ended, and nothing was done. Log in again, then fill in the form again."
            return self._problem(who, problem.status_code, KINDS[problem.kind][1], str(said))

    async def _visitor(self, request: Request, form: Form) -> Visitor:
        """Return who comes; a page shows what may be done with it, so only a person's own look at it may read it."""
        if request.headers.get("Sec-Fetch-Dest", "document") != "document":
            raise Problem("other-site", "This page is for people: open it in a window of its own.")
        return await self._door.visitor(request, ACCESS, csrf=form.token)

    def _problem(self, who: Visitor | None, status: int, title: str, text: str) -> Response:
        return self.frame.page("problem.html", who, status=status, title=title, text=text)


def _title(refused: Refused) -> str:
    return str(refused.said.get("title", "")) or "This did not work"


def _wanted(request: Request) -> str:
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")
