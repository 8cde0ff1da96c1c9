"""Errors in one shape: problem details (RFC 9457), for programs a code, for people a sentence that helps."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from profiles.syntax import shown

__all__ = [
    "KINDS",
    "MEDIA_TYPE",
    "FieldProblem",
    "Problem",
    "ProblemDetails",
    "RefusedRequest",
    "answers",
    "register",
    "response",
]

_log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

KINDS: Mapping[str, tuple[int, str]] = {
    "bad-request": (422, "A value of the request cannot be used"),
    "not-understood": (400, "The request cannot be read"),
    "login-needed": (401, "Nobody is logged in"),
    "login-broken": (400, "The login could not be completed"),
    "not-allowed": (403, "This may not be seen"),
    "other-site": (403, "The request comes from another site"),
    "no-such-page": (404, "There is nothing at this address"),
    "no-such-session": (404, "No such session runs"),
    "no-such-notice": (404, "There is no such notice"),
    "cannot-keep": (409, "The session cannot be kept"),
    "cannot-switch": (409, "The session cannot be switched"),
    "no-such-method": (405, "The address does not take this method"),
    "too-large": (413, "The request's body is too large"),
    "too-long": (414, "The address is too long"),
    "too-many-pages": (429, "Too many live pages of one person"),
    "mistake-of-ours": (500, "Something went wrong here"),
    "full": (503, "Too many live pages"),
    "hub-away": (503, "The hub does not answer"),
    "database-away": (503, "The database does not answer"),
    "no-such-ticket": (404, "There is no such place in the queue"),
    "too-late": (409, "It is too late for that"),
    "not-waiting": (409, "The place in the queue is none any more"),
    "no-such-quota": (404, "There is no such limit"),
    "declared": (409, "The file of quotas sets this"),
    "changed-meanwhile": (412, "Somebody else has changed it"),
    "condition-needed": (428, "The request does not say what it has seen"),
    "refused": (409, "The request is refused"),
    "not-well": (503, "The service cannot do its work"),
}
"""Every code, with its status and title."""

_BY_STATUS = {400: "not-understood", 404: "no-such-page", 405: "no-such-method", 413: "too-large"}


class FieldProblem(BaseModel):
    """One value that cannot be used."""

    field: str = Field(description="Where it is: `query.accelerator`, for instance.")
    detail: str = Field(description="What is wrong with it.")
    legal: list[str] = Field(default=[], description="What would be right, where that is a list.")


class ProblemDetails(BaseModel):
    """Problem details as in RFC 9457."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Address of the code's description.")
    title: str = Field(description="What kind of problem it is; the same for every problem of the code.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened, and what to do now.")
    instance: str = Field(description="Names this one problem; the log has it too.")
    code: str = Field(description="For programs: short and stable.")
    errors: list[FieldProblem] = Field(default=[], description="Every value that cannot be used.")
    login: str | None = Field(default=None, description="Where a browser logs in, if nobody is logged in.")


class Problem(HTTPException):
    """An answer that is an error; raised anywhere below a request.

    Parameters
    ----------
    code
        One of KINDS.
    detail
        For the person: what happened, and what to do now. Holds no secret and nothing of our insides.
    headers
        Further headers of the answer, such as Retry-After.
    more
        Further members of the answer.
    """

    def __init__(
        self, code: str, detail: str, *, headers: Mapping[str, str] | None = None, more: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(KINDS[code][0], detail, dict(headers or {}))
        self.code = code
        self.kind = code
        """Its entry of KINDS."""
        self.more = dict(more or {})


class RefusedRequest(Problem):
    """A refusal (`spawner.refusal.Refusal`) as an answer: with its own code and status."""

    def __init__(self, code: str, detail: str, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(code if code in KINDS else "refused", detail, headers=headers)
        self.code = code
        self.status_code = status


def response(problem: Problem, prefix: str, instance: str = "") -> Response:
    """Return the answer to a request that met a problem."""
    document = {
        "type": f"{prefix}/docs#{problem.kind}",
        "title": KINDS[problem.kind][1],
        "status": problem.status_code,
        "detail": problem.detail,
        "instance": instance or new_instance(),
        "code": problem.code,
        **problem.more,
    }
    return Response(
        json.dumps(document, ensure_ascii=False),
        status_code=problem.status_code,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


def new_instance() -> str:
    """Return a name for one problem."""
    return f"urn:uuid:{uuid.uuid4()}"


def answers(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of these problems, and of all that any path may meet, as answers of a path."""
    texts: dict[int | str, str] = {}
    for code in codes:
        status, title = KINDS[code]
        texts[status] = f"{texts[status]}; or: {title} (`{code}`)" if status in texts else f"{title} (`{code}`)"
    texts["default"] = "Any other problem"
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {status: {"description": text, "content": content} for status, text in texts.items()}


def register(app: FastAPI, prefix: str) -> None:
    """Let every error of the app be answered in this shape; what is not foreseen is `hub.web.guard`'s."""

    async def known(request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        return response(_of_http(error, request), prefix)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        fields = [_field(item, _known_names(request)) for item in error.errors()]
        return response(of_fields(fields), prefix)

    app.add_exception_handler(StarletteHTTPException, known)
    app.add_exception_handler(RequestValidationError, invalid)


def of_fields(fields: Sequence[FieldProblem]) -> Problem:
    """Return the problem of a request with values that cannot be used."""
    said = "; ".join(f"{one.field}: {one.detail}" for one in fields)
    return Problem("bad-request", said, more={"errors": [one.model_dump() for one in fields]})


def _of_http(error: StarletteHTTPException, request: Request) -> Problem:
    if isinstance(error, Problem):
        return error
    path = shown(request.url.path)
    match error.status_code:
        case 404:
            return Problem("no-such-page", f"There is no page {path}; /docs lists all.")
        case 405:
            allowed = (error.headers or {}).get("Allow", "GET")
            return Problem(
                "no-such-method", f"{path} takes {allowed}, not {request.method}.", headers={"Allow": allowed}
            )
        case status:
            # Only the framework raises others: what it says is about the request, never about our insides.
            return Problem(_BY_STATUS.get(status, "not-understood"), str(error.detail), headers=error.headers)


def _known_names(request: Request) -> list[str]:
    """The parameters that the request's path knows, from its OpenAPI description."""
    route, paths = request.scope.get("route"), request.app.openapi()["paths"]
    operation = paths.get(getattr(route, "path", ""), {}).get(request.method.lower(), {})
    return [parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"]


def _field(error: Mapping[str, Any], names: Sequence[str]) -> FieldProblem:
    place = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        return FieldProblem(field=".".join(place), detail="there is no such parameter", legal=list(names))
    detail = str(error["msg"]).removeprefix("Value error, ")
    return FieldProblem(field=".".join(place), detail=f"{detail} (found {shown(error.get('input'))})")
