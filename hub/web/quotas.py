"""The paths about limits: what limits you and what is left of it; setting them, for administrators.

Whoever changes a limit says which state of it they have seen (`If-Match`, RFC 9110, 13.1), so that two administrators
do not undo each other's changes without knowing.

FastAPI reads the annotations of paths when they are made, and they name values of their surroundings: no
`from __future__ import annotations` here.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StringConstraints
from sqlalchemy import Connection
from sqlalchemy import Engine as Database

from hub.db.transaction import read, write
from hub.quotas import store
from hub.quotas.amounts import UNIT, parse_amount, say_amount, say_limited, written
from hub.quotas.model import Field as QuotaField
from hub.quotas.model import QuotaProblem, QuotaRow, in_order, parse_field, parts
from hub.quotas.store import Changed, Declared, etag
from hub.quotas.subjects import check_subject, holds_for, say_account
from hub.quotas.view import AccountView, LimitView, view_of
from hub.settings.quotas import QuotaSettings
from hub.web.door import Door, Visitor
from hub.web.problems import FieldProblem, Problem, answers, of_fields
from hub.web.sessions import in_database
from hub.web.usage import led_by
from profiles.access import Person
from profiles.model import Catalogue, Engine
from profiles.offers import title_of

__all__ = ["MOST", "router"]

T = TypeVar("T")

MOST = 1000
"""Limits in one answer."""

_CODES = ("bad-request", "login-needed", "not-allowed", "other-site", "hub-away", "database-away")
_TAG = re.compile(r'"([!#-~]{1,128})"')

Subject = Annotated[str, Path(max_length=300, description="`default`, `user:NAME`, `member:GROUP` or `group:GROUP`.")]
Written = Annotated[str, Path(max_length=100, description="What is limited: `servers`, `hours:week:t4`, for instance.")]


class LimitSaid(BaseModel):
    """A limit that holds for you, and how much of it is used."""

    field: str = Field(description="What is limited.")
    value: float | None = Field(description="How much is allowed, in `unit`; null: no limit.")
    unit: str = Field(description="Of `value`, `used` and `left`; card-hours are hours of a whole card.")
    text: str = Field(description="The limit in words.")
    source: str = Field(description="Whose limit it is: `default`, `user:…`, `member:…` or `group:…`.")
    holds_for: str = Field(description="The same in words.")
    shared: bool = Field(description="Whether all who charge the account share it; else it is yours alone.")
    declared: bool = Field(description="Whether the file of quotas sets it.")
    used: float | None = Field(description="How much is used now, or was in the window; null: not counted.")
    left: float | None = Field(description="What is left; null: no limit, or not counted.")
    renews_at: float | None = Field(description="When a budget begins anew, in seconds since 1970; null: it slides.")


class AccountSaid(BaseModel):
    """An account that you may charge."""

    account: str = Field(description="`user:NAME` or `group:GROUP`.")
    title: str = Field(description="What it is called.")
    default: bool = Field(description="Whether a request that names none is charged to it.")
    limits: list[LimitSaid] = Field(description="What holds when it is charged: your own limits, then shared ones.")


class QuotasSaid(BaseModel):
    """What limits you."""

    timezone: str = Field(description="In which days, weeks and months are counted.")
    accounts: list[AccountSaid] = Field(description="Those that you may charge, the default first.")


class RowSaid(BaseModel):
    """One limit as it is set."""

    subject: str = Field(description="Whose it is.")
    field: str = Field(description="What is limited.")
    value: float | None = Field(description="How much is allowed, in `unit`; null: expressly no limit.")
    unit: str = Field(description="Of `value`.")
    written: str = Field(description="The value as one writes it: `64Gi`, `12h`, `unlimited`.")
    text: str = Field(description="The limit in words.")
    declared: bool = Field(
        description="Whether the file of quotas sets it: its value returns when that is changed, or at the next start."
    )
    changed_at: float = Field(description="Seconds since 1970.")
    changed_by: str = Field(description="`user:NAME`, or the file.")
    etag: str = Field(description="Of this state; what `If-Match` repeats, in quotes.")


class RowsSaid(BaseModel):
    """Limits as they are set."""

    rows: list[RowSaid] = Field(description="By subject, in the order in which limits are told.")
    more: bool = Field(description=f"Whether there are others; at most {MOST} are told at once.")


class NewValue(BaseModel):
    """What a limit shall be."""

    model_config = ConfigDict(extra="forbid")

    value: StrictInt | StrictFloat | Annotated[str, StringConstraints(max_length=64)] = Field(
        description="In the field's unit, or as one writes it: `64Gi`, `12h`; 0: nothing is allowed; `unlimited`: no "
        "limit, also where a wider one would hold."
    )
    although_declared: bool = Field(
        False,
        description="You know that the file of quotas sets this, and that its value returns when that is changed, or "
        "at the next start.",
    )


class _MineQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    group: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        None, description="Only what all share who charge this group; for its leaders and administrators."
    )


class _RowsQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    subject: Annotated[str, Field(max_length=300), AfterValidator(check_subject)] | None = Field(
        None, description="Only of this one."
    )
    contains: Annotated[str, Field(max_length=300)] | None = Field(
        None, description="Only of subjects whose name contains this."
    )
    after: Annotated[str, Field(max_length=300)] | None = Field(
        None, description="Only of subjects behind this one by name: for the next page."
    )


class _RemoveQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    although_declared: bool = Field(False, description="As for setting a limit.")


def router(door: Door, database: Database, catalogue: Catalogue, engine: Engine, settings: QuotaSettings) -> APIRouter:
    """Return the paths."""
    made = APIRouter(prefix="/api/quotas", tags=["quotas"])
    visitor = Depends(door)
    say = _Words(catalogue, engine)
    kinds = tuple(catalogue.accelerators)

    @made.get("", responses=answers(*_CODES), summary="What limits you, and what is left", operation_id="quotas")
    async def mine(who: Annotated[Visitor, visitor], query: Annotated[_MineQuery, Query()]) -> QuotasSaid:
        """For each account that you may charge. As of this moment, running sessions included."""
        person = who.identity.person
        if query.group is not None:
            if not (who.identity.admin or query.group in led_by(settings.leaders, who.identity.groups)):
                raise Problem("not-allowed", "You may see what limits groups that you lead; administrators see all.")
            # Whoever charges nothing but this group: what is shared is the same for everybody.
            person = Person("", frozenset({query.group}))
        found = await in_database(lambda: read(database, lambda connection: view_of(connection, person, settings)))
        if query.group is not None:
            found = tuple(replace(one, limits=tuple(line for line in one.limits if line.shared)) for one in found)
        return QuotasSaid(timezone=settings.timezone, accounts=say.accounts(found, person.name))

    @made.get("/all", responses=answers(*_CODES), summary="All limits that are set", operation_id="quotas_all")
    async def every(who: Annotated[Visitor, visitor], query: Annotated[_RowsQuery, Query()]) -> RowsSaid:
        """For administrators."""
        _check_admin(who)
        found = await in_database(lambda: read(database, lambda connection: _rows(connection, query)))
        if len(found) <= MOST:
            return RowsSaid(rows=[say.row(row) for row in found], more=False)
        # The next ones are asked for after a subject, so none is told in part. One subject has few limits.
        whole = [row for row in found if row.subject != found[-1].subject]
        return RowsSaid(rows=[say.row(row) for row in whole], more=True)

    @made.get(
        "/{subject:path}/{field}",
        responses=answers(*_CODES, "no-such-quota"),
        summary="One limit as it is set",
        operation_id="quota",
        response_description="The limit; the header ETag is its state's",
    )
    async def one(who: Annotated[Visitor, visitor], subject: Subject, field: Written, response: Response) -> RowSaid:
        """For administrators."""
        _check_admin(who)
        _named(subject, field, None)
        found = await in_database(lambda: read(database, lambda connection: store.load(connection, [subject])))
        row = found.row(subject, field)
        if row is None:
            raise Problem("no-such-quota", f"{subject} has no limit of {field}.")
        response.headers["ETag"] = f'"{etag(row)}"'
        return say.row(row)

    @made.put(
        "/{subject:path}/{field}",
        responses=answers(*_CODES, "changed-meanwhile", "condition-needed", "declared"),
        summary="Set a limit",
        operation_id="quota_set",
        response_description="It is set",
    )
    async def put(
        who: Annotated[Visitor, visitor],
        subject: Subject,
        field: Written,
        new: NewValue,
        request: Request,
        response: Response,
    ) -> RowSaid:
        """For administrators. `If-Match` repeats the ETag that you have seen, or `If-None-Match: *` says that you have
        seen none. It holds for the next request; a budget also for sessions that run, within half a minute."""
        _check_admin(who)
        named = _named(subject, field, kinds)
        value = _value(named, new.value)
        expected = _expected(request, may_be_absent=True)
        row = await _change(
            database,
            lambda connection: store.put(
                connection,
                subject,
                named,
                value,
                f"{who.identity.kind}:{who.identity.name}",
                expected=expected,
                although_declared=new.although_declared,
            ),
        )
        response.headers["ETag"] = f'"{etag(row)}"'
        return say.row(row)

    @made.delete(
        "/{subject:path}/{field}",
        status_code=204,
        response_class=Response,
        responses=answers(*_CODES, "changed-meanwhile", "condition-needed", "declared"),
        summary="Remove a limit",
        operation_id="quota_remove",
    )
    async def remove(
        who: Annotated[Visitor, visitor],
        subject: Subject,
        field: Written,
        query: Annotated[_RemoveQuery, Query()],
        request: Request,
    ) -> Response:
        """For administrators; `If-Match` as for setting one. A wider limit may hold then."""
        _check_admin(who)
        named = _named(subject, field, None)
        expected = _expected(request, may_be_absent=False)
        await _change(
            database,
            lambda connection: store.remove(
                connection,
                subject,
                named,
                f"{who.identity.kind}:{who.identity.name}",
                expected=expected,
                although_declared=query.although_declared,
            ),
        )
        return Response(status_code=204)

    return made


class _Words:
    """Limits as they are told."""

    def __init__(self, catalogue: Catalogue, engine: Engine) -> None:
        self._titles = {key: title_of(card, engine) for key, card in catalogue.accelerators.items()}

    def accounts(self, found: Sequence[AccountView], user: str) -> list[AccountSaid]:
        """Return accounts with their limits."""
        return [
            AccountSaid(
                account=one.account,
                title=say_account(one.account, user),
                default=place == 0,
                limits=[self._limit(limit, user) for limit in one.limits],
            )
            for place, one in enumerate(found)
        ]

    def row(self, row: QuotaRow) -> RowSaid:
        """Return a limit as it is set."""
        return RowSaid(
            subject=row.subject,
            field=row.field,
            value=_number(row.value),
            unit=_unit(row.field),
            written=written(row.field, row.value),
            text=self._text(row.field, row.value),
            declared=row.declared,
            changed_at=row.changed_at,
            changed_by=row.changed_by,
            etag=etag(row),
        )

    def _limit(self, limit: LimitView, user: str) -> LimitSaid:
        return LimitSaid(
            field=limit.field,
            value=_number(limit.value),
            unit=_unit(limit.field),
            text=self._text(limit.field, limit.value),
            source=limit.source,
            holds_for=holds_for(limit.source, user),
            shared=limit.shared,
            declared=limit.declared,
            used=_number(limit.used),
            left=_number(limit.left),
            renews_at=limit.renews_at,
        )

    def _text(self, field: QuotaField, value: Decimal | None) -> str:
        title = self._titles.get(parts(field).kind or "", "")
        if value is None:
            return f"no limit of {say_limited(field, title)}"
        said = say_amount(field, value, title)
        return f"sessions of at most {said}" if parts(field).head == "session_s" else said


def _number(value: Decimal | None) -> float | None:
    """A number for JSON; nothing is decided by it any more."""
    return None if value is None else float(value)


def _unit(field: QuotaField) -> str:
    found = parts(field)
    return "pieces" if found.head == "accelerators" and found.kind else UNIT[found.head]


def _check_admin(who: Visitor) -> None:
    if not who.identity.admin:
        raise Problem("not-allowed", "Only administrators may see and change the limits of others.")


def _named(subject: str, field: str, kinds: Collection[str] | None) -> QuotaField:
    """Return the field of a path; raises the Problem that names what is wrong with it."""
    problems = []
    try:
        check_subject(subject)
    except QuotaProblem as error:
        problems.append(FieldProblem(field="path.subject", detail=str(error)))
    try:
        named = parse_field(field, kinds)
    except QuotaProblem as error:
        problems.append(FieldProblem(field="path.field", detail=str(error)))
    if problems:
        raise of_fields(problems)
    return named


def _value(field: QuotaField, value: float | str) -> Decimal | None:
    try:
        return parse_amount(field, value)
    except QuotaProblem as error:
        raise of_fields([FieldProblem(field="body.value", detail=str(error))]) from None


def _expected(request: Request, *, may_be_absent: bool) -> str:
    """Return what the writer has seen; raises the Problem of one that does not say it."""
    match, none_match = request.headers.get("If-Match"), request.headers.get("If-None-Match")
    if may_be_absent and match is None and none_match == "*":
        return store.ABSENT
    if match is not None and none_match is None:
        if match.strip() == "*":
            return store.PRESENT
        if found := _TAG.fullmatch(match.strip()):
            return found.group(1)
    absent = ", or `If-None-Match: *` for a limit that is not set yet" if may_be_absent else ""
    raise Problem(
        "condition-needed",
        f'Say which state of the limit you have seen: `If-Match: "…"` with its ETag, or * for whichever{absent}.',
    )


async def _change(database: Database, work: Callable[[Connection], T]) -> T:
    try:
        return await in_database(lambda: write(database, work))
    except Changed as error:
        now = error.now
        is_now = "it is not set" if now is None else f"it is {written(now.field, now.value)}, set by {now.changed_by}"
        raise Problem(
            "changed-meanwhile",
            f"The limit is not what you have seen: now {is_now}. Look at it again, then decide.",
            more={"etag": None if now is None else etag(now)},
        ) from None
    except Declared as error:
        raise Problem(
            "declared",
            f"{error.row.subject} {error.row.field} is declared by {error.row.changed_by}: change it there. To change "
            "it here until the file is changed, or until the next start, say although_declared.",
        ) from None


def _rows(connection: Connection, query: _RowsQuery) -> list[QuotaRow]:
    """Return the limits that are asked for, one more than are told."""
    found = store.load(connection, None if query.subject is None else [query.subject])
    rows: list[QuotaRow] = []
    for subject in found.subjects:
        if (query.contains or "") in subject and (query.after is None or subject > query.after):
            of_one = found.of(subject)
            rows += [of_one[field] for field in in_order(of_one)]
        if len(rows) > MOST:
            break
    return rows
