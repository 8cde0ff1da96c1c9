"""The path of the audit trail, for administrators.

FastAPI reads the annotations of paths when they are made, and they name values of their surroundings: no
`from __future__ import annotations` here.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import Engine as Database

from hub import audit
from hub.db.transaction import read
from hub.web.door import Door, Visitor
from hub.web.problems import Problem, answers
from hub.web.sessions import in_database
from profiles.syntax import check_plain_text

__all__ = ["router"]

_CODES = ("bad-request", "login-needed", "not-allowed", "other-site", "hub-away", "database-away")

Text = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(check_plain_text)]


class EntrySaid(BaseModel):
    """One change."""

    id: int = Field(description="Grows.")
    at: float = Field(description="When, in seconds since 1970.")
    actor: str = Field(description="Who: `user:NAME`, or the process that acted.")
    action: str = Field(description="What was done: `quota.set`, for instance.")
    subject: str = Field(description="What it was done to.")
    before: dict[str, Any] | None = Field(description="What was; null: nothing.")
    after: dict[str, Any] | None = Field(description="What is now; null: nothing.")


class Trail(BaseModel):
    """What was changed, the newest first."""

    entries: list[EntrySaid] = Field(description="At most `limit`.")
    older_than: int | None = Field(description="What to ask for the next page with; null: there is none.")


class _TrailQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    actor: Text | None = Field(None, description="Only what this one did.")
    action: Text | None = Field(None, description="Only this; with a point at its end all that begin so: `quota.`")
    subject: Text | None = Field(None, description="Only what was done to this.")
    older_than: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(None, description="Of the page before.")
    limit: Annotated[int, Field(ge=1, le=audit.MOST)] = Field(100, description="How many at most.")


def router(door: Door, database: Database) -> APIRouter:
    """Return the path."""
    made = APIRouter(tags=["audit"])
    visitor = Depends(door)

    @made.get("/api/audit", responses=answers(*_CODES), summary="Who changed what, when", operation_id="audit")
    async def trail(who: Annotated[Visitor, visitor], query: Annotated[_TrailQuery, Query()]) -> Trail:
        """For administrators."""
        if not who.identity.admin:
            raise Problem("not-allowed", "Only administrators may see who changed what.")
        wanted = query.model_dump(exclude_none=True)
        found = await in_database(lambda: read(database, lambda connection: audit.recent(connection, **wanted)))
        entries = [EntrySaid(**vars(entry)) for entry in found]
        full = len(entries) == query.limit
        return Trail(entries=entries, older_than=entries[-1].id if full else None)

    return made
