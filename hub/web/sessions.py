"""The paths about running sessions: what they measure of themselves, what they are told, and *Keep my session*.

A session speaks with its server's own token, which the hub gave the scope `access:servers!server=USER/SERVER`: by that
it is known which server sends, and the token is good for nothing else here. Its owner may ask the same with a token or
a login of their own.

FastAPI reads the annotations of paths when they are made, and they name values of their surroundings: no
`from __future__ import annotations` here.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import Connection
from sqlalchemy import Engine as Database

from hub import audit, notices
from hub.admission import reservations
from hub.db.transaction import DatabaseAway, read, write
from hub.idle import sessions, words
from hub.idle.activity import Measures
from hub.idle.clerk import named, stopped_id, warning_id
from hub.idle.intake import Intake
from hub.idle.limits import idle_s
from hub.idle.sessions import Arrived, Kept
from hub.settings.idle import IdleSettings
from hub.web.door import ACCESS, Door, Visitor
from hub.web.hub_access import Identity
from hub.web.problems import Problem, answers
from hub.web.session_documents import LiveSession, StateSaid, Teller
from profiles.model import Catalogue, Engine

__all__ = ["DEFAULT_SERVER", "Owner", "Said", "find_owner", "in_database", "router"]

T = TypeVar("T")

DEFAULT_SERVER = "~"
"""Stands in paths for the server without a name."""

_SERVER_SCOPE = "access:servers!server="

_KEPT_S = 600.0
"""How old what the hub said of a session's token may be: it comes every 30 s, and knowing it only tells whose it is."""

_CODES = ("bad-request", "login-needed", "not-allowed", "other-site", "hub-away", "database-away")

Server = Annotated[str, Path(max_length=255, description="Name of the server; `~`: the one without a name.")]


class Said(BaseModel):
    """What came of it."""

    text: str = Field(description="One sentence for the person.")


@dataclass(frozen=True)
class Owner:
    """Whose session it is, and whether the session itself asks."""

    user: str
    server: str
    itself: bool
    visitor: Visitor


async def find_owner(door: Door, request: Request, server: str, *, kept_s: float | None = None) -> Owner:
    """Return whose session a request is about: of whoever asks.

    Raises
    ------
    Problem
        `login-needed`, `not-allowed`, `other-site` or `hub-away`.
    """
    visitor = await door.anyone(request, kept_s=kept_s)
    identity = visitor.identity
    name = "" if server == DEFAULT_SERVER else server
    if is_session(identity, name):
        return Owner(identity.name, name, True, visitor)
    if identity.kind != "user" or not identity.may(ACCESS):
        shown = name or "without a name"
        raise Problem(
            "not-allowed",
            f"This needs the token of the session itself (server {shown} of {identity.name}), or one of its owner with "
            f"the scope {ACCESS}!service=armillary.",
        )
    return Owner(identity.name, name, False, visitor)


def is_session(identity: Identity, server: str) -> bool:
    """Whether a token is that of this server of its owner.

    The owner is compared too: a token of somebody with whom a server was shared has the same scope.
    """
    return identity.kind == "user" and f"{_SERVER_SCOPE}{identity.name}/{server}" in identity.scopes


async def in_database(work: Callable[[], T]) -> T:
    """Run work that blocks on the database in a thread.

    Raises
    ------
    Problem
        `database-away`.
    """
    try:
        return await asyncio.to_thread(work)
    except OSError:  # DatabaseAway, or the folder of SQLite's file
        raise Problem(
            "database-away",
            "The database does not answer. Running sessions go on. Try again soon.",
            headers={"Retry-After": "5"},
        ) from None


def router(
    door: Door, database: Database, catalogue: Catalogue, engine: Engine, settings: IdleSettings, teller: Teller
) -> APIRouter:
    """Return the paths."""
    made = APIRouter(prefix="/api/sessions", tags=["sessions"])
    intake = Intake(database, settings)

    async def state_of(owner: Owner) -> StateSaid:
        said = await in_database(lambda: read(database, lambda found: teller.state(found, owner.user, owner.server)))
        if said is None:
            raise _none_there(owner)
        return said

    @made.get(
        "",
        responses=answers(*_CODES),
        summary="Your sessions that run",
        operation_id="sessions",
        response_description="They, with what they measured of themselves",
    )
    async def live(request: Request) -> list[LiveSession]:
        """What holds something for you now, from the moment that its start has begun."""
        visitor = await door(request)
        name = visitor.identity.person.name
        return await in_database(lambda: read(database, lambda found: teller.live(found, name)))

    @made.get(
        "/{server}",
        responses=answers(*_CODES, "no-such-session"),
        summary="What a session is told of itself",
        operation_id="session",
    )
    async def state(request: Request, server: Server) -> StateSaid:
        """How long it may go on, its budgets, and what is to be read there."""
        return await state_of(await find_owner(door, request, server))

    @made.post(
        "/{server}/measures",
        responses=answers(*_CODES, "no-such-session"),
        summary="What a session measured of itself",
        operation_id="session_measures",
    )
    async def measures(request: Request, server: Server, measured: Measures) -> StateSaid:
        """By the session's own token only; sent every 30 s, answered with what the session is told of itself."""
        owner = await find_owner(door, request, server, kept_s=_KEPT_S)
        if not owner.itself:
            raise Problem("not-allowed", "Only a session itself, by its own token, may say what it measures.")
        try:
            id = await intake.put(Arrived(owner.user, owner.server, measured))
        except DatabaseAway:
            raise Problem("database-away", "The database does not answer.", headers={"Retry-After": "30"}) from None
        if id is None:
            raise _none_there(owner)
        return await state_of(owner)

    @made.post(
        "/{server}/keep",
        responses=answers(*_CODES, "no-such-session", "cannot-keep"),
        summary="Keep my session",
        operation_id="session_keep",
    )
    async def keep(request: Request, server: Server) -> Said:
        """Let an idle session that is about to be stopped go on; a number of times, as `idle.keeps` says."""
        owner = await find_owner(door, request, server)
        return Said(
            text=await in_database(
                lambda: write(database, lambda found: _keep(found, owner, catalogue, engine, settings))
            )
        )

    @made.delete(
        "/{server}/notices/{id:path}",
        status_code=204,
        response_class=Response,
        responses=answers(*_CODES, "no-such-notice"),
        summary="Dismiss a notice",
        operation_id="session_dismiss",
    )
    async def dismiss(
        request: Request, server: Server, id: Annotated[str, Path(max_length=500, description="Id of the notice.")]
    ) -> Response:
        """As `DELETE /api/notices/{id}`, by the session's own token."""
        owner = await find_owner(door, request, server)
        if not await in_database(lambda: write(database, lambda found: notices.dismiss(found, owner.user, id))):
            raise Problem("no-such-notice", "There is no such notice for you; it may have been withdrawn.")
        return Response(status_code=204)

    return made


def _keep(connection: Connection, owner: Owner, catalogue: Catalogue, engine: Engine, settings: IdleSettings) -> str:
    """Keep a session, with its audit; return what is said."""
    known = sessions.of_server(connection, owner.user, owner.server)
    if known is not None and notices.present(connection, [stopped_id(known.id)]):
        raise Problem("cannot-keep", "It is too late: the session is being stopped.")
    kept = sessions.keep(connection, owner.user, owner.server, settings.keeps)
    held = None if kept.known is None else reservations.find(connection, kept.known.id)
    if kept.known is None or held is None:
        raise _none_there(owner)
    if kept.outcome != "kept":
        raise Problem("cannot-keep", _why_not(kept, settings))
    notices.withdraw(connection, [warning_id(held.id, "idle")])
    left = max(0, settings.keeps - kept.known.keeps)
    what = {"user": owner.user, "server": owner.server, "left": left}
    audit.record(connection, f"user:{owner.user}", "session.keep", f"session:{held.id}", None, what)
    return words.kept(named(held, catalogue, engine), idle_s(settings, held), left)


def _why_not(kept: Kept, settings: IdleSettings) -> str:
    if kept.outcome == "used-up":
        return (
            f"A session can be kept {settings.keeps} times, and this one was. Run something, and it goes on; or save "
            "your work."
        )
    if kept.outcome == "not-idle":
        return "This session is not stopped because nobody uses it, so it cannot be kept this way. Save your work."
    return "Nothing is about to stop this session."


def _none_there(owner: Owner) -> Problem:
    name = f"server {owner.server!r}" if owner.server else "server"
    return Problem("no-such-session", f"Your {name} does not run, or holds nothing that Armillary knows of.")
