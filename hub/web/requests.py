"""The main door: ask for a server, and have it started, or get a place in the queue, or hear why not.

FastAPI reads the annotations of paths when they are made, and they name values of their surroundings: no
`from __future__ import annotations` here.
"""

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from sqlalchemy import Connection

from hub.admission import tickets
from hub.admission.doors import Starts, Waits, request
from hub.web.door import Door, Visitor
from hub.web.places import Places
from hub.web.problems import FieldProblem, answers, of_fields
from hub.web.queue import Queue, TicketModel
from profiles.syntax import shown
from spawner.refusal import Refusal

__all__ = ["CODES", "Outcome", "RequestBody", "ServerName", "router"]

CODES = ("bad-request", "login-needed", "not-allowed", "other-site", "hub-away", "refused", "database-away")

_MOST_OPTIONS = 50
_NEW_NAME = re.compile(r"(?=.{1,30}$)[a-z][a-z0-9]*(-[a-z0-9]+)*")
_NO_NAMES = (".", "..", "~")
"""Browsers and clients take the first two out of paths; the last stands for the server without a name."""


def _server_name(text: str) -> str:
    if "/" in text or not text.isprintable() or text != text.strip():
        raise ValueError("must be printable, without '/' and without spaces at its ends")
    if text in _NO_NAMES:
        raise ValueError(f"must not be one of {', '.join(_NO_NAMES)}, which mean something else in addresses")
    return text


ServerName = Annotated[str, Field(max_length=255), AfterValidator(_server_name)]


class RequestBody(BaseModel):
    """What is asked for."""

    model_config = ConfigDict(extra="forbid")

    options: dict[Annotated[str, Field(max_length=200)], JsonValue] = Field(
        {},
        max_length=_MOST_OPTIONS,
        description="As the hub's own API takes them in `user_options`: `profile`, and the profile's options. Whatever "
        "is left out has its default.",
    )
    account: Annotated[str, Field(max_length=300)] | None = Field(
        None, description="What is charged, `user:NAME` or `group:NAME`. Default: the first of your accounts."
    )
    notify: bool = Field(False, description="Whether to send an e-mail when the server is up.")


class _NewRequest(RequestBody):
    server: ServerName = Field("", description="Name of the server. Default: the default server.")
    may_wait: bool = Field(True, description="Whether to take a place in the queue where it is not free.")


class Outcome(BaseModel):
    """What became of a request that was not refused."""

    state: Literal["starting", "queued"] = Field(description="Whether the server is being started, or waits.")
    begun: bool = Field(
        description="Whether the hub has begun with it, so that its page of the start shows the progress. The answer "
        "waits for that for a moment."
    )
    ticket: TicketModel = Field(description="By which it can be followed, changed and left.")


async def _check_name(queue: Queue, user: str, server: str) -> frozenset[str] | None:
    """Refuse the name of a new server that the hub refuses (JupyterHub 6.1, `is_valid_safe_slug`), before it has waited
    in line. One that there is already keeps its name.

    Returns the names that there are, where this is a new one; None: it is none, or the hub is away and decides later.
    """
    names = await queue.hub.named(user) if server else None
    if names is None or server in names:
        return None
    if not _NEW_NAME.fullmatch(server):
        detail = (
            f"{shown(server)} cannot be the name of a new server: use up to 30 lower-case letters, digits and single "
            "'-', a letter first, and a letter or digit last"
        )
        raise of_fields([FieldProblem(field="body.server", detail=detail)])
    return names


def _check_number(connection: Connection, user: str, server: str, names: frozenset[str], limit: int) -> None:
    """Refuse one more server with a name than the hub lets a person have (`named_server_limit_per_user`), counting
    those that wait in line."""
    waiting = {one.server for one in tickets.of_user(connection, user)} - {"", server}
    have = len(names | waiting)
    if have < limit:
        return
    if limit == 0:
        raise Refusal("named-servers", "This site has no servers with names. Leave the name out.", status=409)
    raise Refusal(
        "named-servers",
        f"You have {have} servers with names, those that are stopped or in line included, and may have {limit}. Start "
        "one of them, or delete one on the hub's home page.",
        status=409,
    )


def router(door: Door, queue: Queue, places: Places, named_limit: int) -> APIRouter:
    """Return the path.

    Parameters
    ----------
    named_limit
        How many servers with names a person may have (the setting `servers.named_limit`).
    """
    found = APIRouter(tags=["queue"])
    visitor = Depends(door)

    @found.post(
        "/api/requests",
        status_code=202,
        responses=answers(*CODES),
        summary="Ask for a server",
        operation_id="request_server",
        response_description="It is being started, or has a place in the queue",
    )
    async def ask(who: Annotated[Visitor, visitor], body: _NewRequest, response: Response) -> Outcome:
        """Asking twice for the same is asking once. A refusal has the status and code of its cause."""
        more: dict[str, Any] = {"may_wait": body.may_wait, "notify": body.notify}
        wish = queue.wish(who, body.server, body.options, body.account, **more)
        user = wish.person.name
        names = await _check_name(queue, user, body.server)

        def work(connection: Connection) -> Starts | Waits:
            if names is not None:
                _check_number(connection, user, body.server, names, named_limit)
            return request(connection, queue.desk.store, wish)

        answer = await queue.decide(work)
        response.headers["Location"] = f"{queue.place.prefix}/api/tickets/{answer.ticket.id}"
        if isinstance(answer, Waits):
            now = await places.joined(answer.ticket)
            return Outcome(state="starting" if now.state == "starting" else "queued", begun=False, ticket=now)
        if answer.new:
            queue.starter.see_to(answer.ticket)
        begun = await queue.begun(answer.ticket)
        return Outcome(state="starting", begun=begun, ticket=queue.model(answer.ticket, None))

    return found
