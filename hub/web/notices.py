"""The paths about notices: what somebody should read, dismissing it, and an administrator's message to everybody.

FastAPI reads the annotations of paths when they are made, and they name values of their surroundings: no
`from __future__ import annotations` here.
"""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import Connection
from sqlalchemy import Engine as Database

from hub import audit, notices
from hub.db.transaction import read, write
from hub.web.door import Door, Visitor
from hub.web.problems import Problem, answers
from hub.web.session_documents import NoticeSaid, said_notice
from hub.web.sessions import in_database
from profiles.syntax import check_plain_text

__all__ = ["NewNotice", "router"]

_CODES = ("bad-request", "login-needed", "not-allowed", "other-site", "hub-away", "database-away")
_LONGEST_HOURS = 24 * 90
_NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def _text(text: str) -> str:
    if not text.strip() or _NO_TEXT.search(text):
        raise ValueError("must be text, without control characters")
    return text


def _name(name: str) -> str:
    return check_plain_text(name) if name else name


class NewNotice(BaseModel):
    """A message of an administrator."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_text)] = Field(description="Plain text.")
    user: Annotated[str, Field(max_length=255), AfterValidator(_name)] = Field(
        "", description="Who shall read it; empty: everybody."
    )
    level: Literal["info", "warning", "danger"] = Field("info", description="How it is shown.")
    hours: Annotated[float, Field(gt=0, le=_LONGEST_HOURS)] | None = Field(
        None, description="For how long it is shown; null: until each reader dismisses it."
    )


def router(door: Door, database: Database) -> APIRouter:
    """Return the paths."""
    made = APIRouter(prefix="/api/notices", tags=["notices"])
    visitor = Depends(door)

    @made.get("", responses=answers(*_CODES), summary="What you should read", operation_id="notices")
    async def mine(
        who: Annotated[Visitor, visitor],
        everybody: Annotated[
            bool, Query(description="What is told to everybody, whether you have dismissed it or not; administrators.")
        ] = False,
    ) -> list[NoticeSaid]:
        """What you have not dismissed, the newest first; 50 at most."""
        if everybody:
            _check_admin(who)
        name = notices.EVERYBODY if everybody else who.identity.person.name
        found = await in_database(lambda: read(database, lambda connection: notices.of_user(connection, name)))
        return [said_notice(one) for one in found]

    @made.post(
        "",
        status_code=201,
        responses=answers(*_CODES),
        summary="Tell everybody, or somebody",
        operation_id="notice_add",
        response_description="It is told",
    )
    async def add(who: Annotated[Visitor, visitor], new: NewNotice) -> NoticeSaid:
        """For administrators: about maintenance, for instance."""
        _check_admin(who)
        return await in_database(lambda: write(database, lambda connection: _add(connection, who, new)))

    @made.delete(
        "/{id:path}",
        status_code=204,
        response_class=Response,
        responses=answers(*_CODES, "no-such-notice"),
        summary="Dismiss a notice",
        operation_id="notice_dismiss",
    )
    async def dismiss(
        who: Annotated[Visitor, visitor],
        id: Annotated[str, Path(max_length=500, description="Id of the notice.")],
        everybody: Annotated[bool, Query(description="Whether nobody shall see it any more.")] = False,
    ) -> Response:
        """You do not see it any more. With `everybody` an administrator takes a message to everybody back."""
        if everybody:
            _check_admin(who)
        gone = await in_database(
            lambda: write(database, lambda found: _take_back(found, who, id) if everybody else _dismiss(found, who, id))
        )
        if not gone:
            raise Problem("no-such-notice", "There is no such notice for you; it may have been withdrawn.")
        return Response(status_code=204)

    return made


def _check_admin(who: Visitor) -> None:
    if not (who.identity.kind == "user" and who.identity.admin):
        raise Problem("not-allowed", "Only administrators may send messages to others, or take them back.")


def _add(connection: Connection, who: Visitor, new: NewNotice) -> NoticeSaid:
    for_s = None if new.hours is None else new.hours * 3600
    id = notices.add(connection, new.user, "maintenance", new.level, new.text, for_s=for_s)
    made = notices.find(connection, id or "")
    assert made is not None, "it was made in this transaction"
    after = {"text": new.text, "level": new.level, "hours": new.hours}
    audit.record(
        connection,
        f"user:{who.identity.name}",
        "notice.add",
        f"user:{new.user}" if new.user else "everybody",
        None,
        {**after, "id": id},
    )
    return said_notice(made)


def _dismiss(connection: Connection, who: Visitor, id: str) -> bool:
    return notices.dismiss(connection, who.identity.person.name, id)


def _take_back(connection: Connection, who: Visitor, id: str) -> bool:
    there = notices.find(connection, id)
    if there is None or there.user != notices.EVERYBODY:
        return False
    notices.withdraw(connection, [id])
    before = {"id": id, "text": there.text}
    audit.record(connection, f"user:{who.identity.name}", "notice.remove", "everybody", before, None)
    return True
