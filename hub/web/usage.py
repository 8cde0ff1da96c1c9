"""The paths about what was used: by days as JSON and CSV, every session as Parquet.

FastAPI reads the annotations of paths when they are made, and they name values of their surroundings: no
`from __future__ import annotations` here.
"""

import asyncio
import io
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta, tzinfo
from functools import partial
from typing import IO, Annotated, Any, TypeVar, cast

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import Engine as Database
from starlette import types

from hub.db.transaction import read
from hub.settings.quotas import QuotaSettings
from hub.usage.export import write_days, write_sessions
from hub.usage.reports import BY, By, Scope, Use, by_days, total
from hub.usage.windows import day_start
from hub.web.door import Door, Visitor
from hub.web.problems import FieldProblem, Problem, answers, of_fields

__all__ = ["MOST_DAYS", "MOST_ROWS", "led_by", "router"]

T = TypeVar("T")
_log = logging.getLogger(__name__)

MOST_DAYS = 366
"""The longest time of one request, in days."""

MOST_ROWS = 20_000
"""The most rows of one answer in JSON; the files have no such limit."""

_CHUNK = 1 << 18

_EXPORTS = 2
"""Files that are made at once; they are large, and everybody else's answers come first."""

_CODES = ("bad-request", "login-needed", "not-allowed", "other-site", "hub-away", "database-away")


def _account(text: str) -> str:
    prefix, _, name = text.partition(":")
    if prefix not in ("user", "group") or not name:
        raise ValueError("must be an account: user:NAME or group:NAME")
    return text


class _Whose(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    first: date | None = Field(None, alias="from", description="The first day. Default: the first of this month.")
    last: date | None = Field(None, alias="to", description="The last day, included. Default: today.")
    account: Annotated[str, Field(max_length=300), AfterValidator(_account)] | None = Field(
        None, description="Only what was charged to it: `user:NAME` or `group:NAME`."
    )
    user: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        None, description="Only what this person used. Default: yourself, unless an account or everybody is asked for."
    )
    everybody: bool = Field(False, description="Everybody's use; for administrators.")


class _UsageQuery(_Whose):
    by: list[By] = Field(
        ["day", "accelerator"],
        max_length=len(BY),
        description="What is told apart; may be given several times.",
    )


class UsageRow(BaseModel):
    """Use of one day, account, person or accelerator, as was asked for."""

    day: str | None = Field(None, description="Day of the calendar, in the zone of the answer.")
    account: str | None = Field(None, description="What was charged.")
    user: str | None = Field(None, description="Who used it.")
    accelerator: str | None = Field(None, description="Key of the accelerator; empty: none.")
    accelerator_hours: float = Field(description="Hours of whole cards: half a card for two hours is one.")
    card_hours: float = Field(description="Hours of what was had, of whatever size: half a card for two hours is two.")
    session_hours: float = Field(description="Hours that sessions ran.")
    core_hours: float = Field(description="Hours of CPU cores, as granted.")


class Usage(BaseModel):
    """What was used from one day to another."""

    first: str = Field(description="The first day.")
    last: str = Field(description="The last day, included.")
    timezone: str = Field(description="The zone whose days these are.")
    rows: list[UsageRow] = Field(description="In the order of what is told apart.")
    total: UsageRow = Field(description="All of them together.")


def led_by(leaders: Mapping[str, Sequence[str]], groups: frozenset[str]) -> frozenset[str]:
    """Return the groups that members of these groups lead, by the setting `quotas.leaders`."""
    return frozenset(group for group in groups for group in leaders.get(group, ()))


def router(door: Door, database: Database, quotas: QuotaSettings) -> APIRouter:
    """Return the paths.

    Parameters
    ----------
    quotas
        In which zone days begin, and who leads which groups.
    """
    zone = quotas.zone

    def leads(groups: frozenset[str]) -> frozenset[str]:
        return led_by(quotas.leaders, groups)

    found = APIRouter(tags=["usage"])
    visitor = Depends(door)
    exports = asyncio.Semaphore(_EXPORTS)

    def asked(who: Visitor, query: _Whose) -> tuple[Scope, date, date]:
        return (_scope(who, query, leads), *_days(query, zone))

    @found.get(
        "/api/usage",
        responses=answers(*_CODES),
        summary="What was used",
        operation_id="usage",
        response_description="The sums",
    )
    async def usage(who: Annotated[Visitor, visitor], query: Annotated[_UsageQuery, Query()]) -> Usage:
        """Your own by default; a group's for those who lead it, everything for administrators. Up to this moment."""
        scope, first, last = asked(who, query)
        by = tuple(dict.fromkeys(query.by))
        work = partial(by_days, scope=scope, first=first, last=last, zone=zone, by=by)
        uses = await _from_database(partial(read, database, work))
        if len(uses) > MOST_ROWS:
            raise of_fields(
                [
                    FieldProblem(
                        field="query.by",
                        detail=f"that would be {len(uses)} rows, and {MOST_ROWS} are the most; tell less apart, ask "
                        "for fewer days, or take /api/usage/days.csv",
                    )
                ]
            )
        rows = [_row(by, use) for use in uses]
        return Usage(
            first=first.isoformat(),
            last=last.isoformat(),
            timezone=quotas.timezone,
            rows=rows,
            total=_row((), total(uses)),
        )

    @found.get(
        "/api/usage/days.csv",
        response_class=Response,
        responses={200: _file("text/csv", "A line for each day, account, person and accelerator"), **answers(*_CODES)},
        summary="What was used, as CSV",
        operation_id="usage_days_csv",
    )
    async def days_csv(who: Annotated[Visitor, visitor], query: Annotated[_Whose, Query()]) -> Response:
        """With a head of the columns' names; hours as in /api/usage."""
        scope, first, last = asked(who, query)

        def make(file: IO[bytes]) -> None:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            write_days(database, scope, first, last, zone, text)
            text.detach()  # which writes what it still has

        return await _download(exports, make, f"usage-{first}-{last}.csv", "text/csv; charset=utf-8")

    @found.get(
        "/api/usage.parquet",
        response_class=Response,
        responses={
            200: _file("application/vnd.apache.parquet", "A row for each session, and each correction"),
            **answers(*_CODES),
        },
        summary="Every session, as Parquet",
        operation_id="usage_parquet",
    )
    async def sessions_parquet(who: Annotated[Visitor, visitor], query: Annotated[_Whose, Query()]) -> Response:
        """The rows of the ledger that overlap these days; moments are in UTC."""
        scope, first, last = asked(who, query)
        since, until = day_start(first, zone), day_start(last + timedelta(days=1), zone)
        make = partial(write_sessions, database, scope, since, until)
        return await _download(exports, make, f"usage-{first}-{last}.parquet", "application/vnd.apache.parquet")

    return found


def _scope(who: Visitor, query: _Whose, leads: Callable[[frozenset[str]], frozenset[str]]) -> Scope:
    """Return whose use is asked for; raises Problem where this visitor may not see it."""
    identity = who.identity
    own = identity.name if identity.kind == "user" else None
    if query.everybody:
        if query.user or query.account:
            detail = "ask for everybody, or for an account or a person"
            raise of_fields([FieldProblem(field="query.everybody", detail=detail)])
        if not identity.admin:
            raise Problem("not-allowed", "Only administrators may see everybody's use.")
        return Scope()
    user = query.user or (own if query.account is None else None)
    if user is None and query.account is None:
        raise of_fields([FieldProblem(field="query.user", detail="a program uses nothing itself: say whose use")])
    prefix, _, name = (query.account or "").partition(":")
    theirs = own is not None and (user == own or (prefix == "user" and name == own))
    if not (theirs or identity.admin or (prefix == "group" and name in leads(identity.groups))):
        detail = "You may see your own use, and that of groups that you lead; administrators see all."
        raise Problem("not-allowed", detail)
    return Scope(user, query.account)


def _days(query: _Whose, zone: tzinfo) -> tuple[date, date]:
    today = datetime.now(zone).date()
    last = query.last or (today if query.first is None or query.first <= today else query.first)
    first = query.first or last.replace(day=1)
    if last < first:
        raise of_fields([FieldProblem(field="query.to", detail=f"{last} is before {first}")])
    if (last - first).days >= MOST_DAYS or not 1970 < first.year <= last.year < 9999:
        raise of_fields(
            [FieldProblem(field="query.from", detail=f"at most {MOST_DAYS} days, of years with four digits")]
        )
    return first, last


def _row(by: Sequence[str], use: Use) -> UsageRow:
    named: dict[str, Any] = dict(zip(by, use.key, strict=True))
    return UsageRow(
        **named,
        accelerator_hours=use.share_s / 3600,
        card_hours=use.card_s / 3600,
        session_hours=use.session_s / 3600,
        core_hours=use.core_s / 3600,
    )


async def _from_database(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        _log.error("Use cannot be read: %s", error)
        raise Problem(
            "database-away",
            "The database that knows what was used does not answer. Try again in a minute; if it stays so, tell the "
            "administrators.",
            headers={"Retry-After": "60"},
        ) from error


async def _download(
    exports: asyncio.Semaphore, make: Callable[[IO[bytes]], object], name: str, media_type: str
) -> Response:
    """Make a file in a thread, and send it. It has no name on the disk, so that it is gone whatever happens."""

    def made() -> IO[bytes]:
        file = cast(IO[bytes], tempfile.TemporaryFile())  # noqa: SIM115  # closed when it was sent
        try:
            make(file)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    async with exports:
        file = await _from_database(made)
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Length": str(os.fstat(file.fileno()).st_size),
    }
    return _FileResponse(file, media_type, headers)


class _FileResponse(StreamingResponse):
    """Sends a file, and closes it whatever becomes of that: a client that is gone never begins to read."""

    def __init__(self, file: IO[bytes], media_type: str, headers: Mapping[str, str]) -> None:
        super().__init__(_chunks(file), media_type=media_type, headers=headers)
        self._file = file

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _file(media_type: str, description: str) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}
