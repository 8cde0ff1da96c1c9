"""The path of refusals by code, for administrators.

FastAPI reads the annotations of paths when they are made, and they name values of their surroundings: no
`from __future__ import annotations` here.
"""

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine as Database

from hub.admission.refused import by_code
from hub.db.transaction import read
from hub.settings.quotas import QuotaSettings
from hub.web.door import Door, Visitor
from hub.web.problems import FieldProblem, Problem, answers, of_fields
from hub.web.sessions import in_database

__all__ = ["router"]

_CODES = ("bad-request", "login-needed", "not-allowed", "other-site", "hub-away", "database-away")
_DAYS = 30


class RefusedSaid(BaseModel):
    """How often a request was refused for one reason."""

    code: str = Field(description="The refusal's code.")
    door: str = Field(description="`hub`: at the start form or the hub's API; `service`: at POST /api/requests.")
    number: int = Field(description="How often.")


class RefusalsSaid(BaseModel):
    """Refusals from one day to another."""

    first: str = Field(description="The first day.")
    last: str = Field(description="The last day, included.")
    refusals: list[RefusedSaid] = Field(description="The most frequent first.")


class _DaysQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    first: date | None = Field(None, alias="from", description="The first day. Default: 30 days with the last one.")
    last: date | None = Field(None, alias="to", description="The last day, included. Default: today.")


def router(door: Door, database: Database, quotas: QuotaSettings) -> APIRouter:
    """Return the path."""
    made = APIRouter(tags=["audit"])
    visitor = Depends(door)

    @made.get("/api/refusals", responses=answers(*_CODES), summary="What was refused", operation_id="refusals")
    async def refusals(who: Annotated[Visitor, visitor], query: Annotated[_DaysQuery, Query()]) -> RefusalsSaid:
        """For administrators: how often admission said no, by code. Of the last seconds some may be missing."""
        if not who.identity.admin:
            raise Problem("not-allowed", "Only administrators may see what was refused.")
        last = query.last or datetime.now(quotas.zone).date()
        first = query.first or date.fromordinal(max(1, last.toordinal() - (_DAYS - 1)))
        if last < first:
            raise of_fields([FieldProblem(field="query.to", detail=f"{last} is before {first}")])
        found = await in_database(lambda: read(database, lambda connection: by_code(connection, first, last)))
        said = [RefusedSaid(**one._asdict()) for one in found]
        return RefusalsSaid(first=first.isoformat(), last=last.isoformat(), refusals=said)

    return made
