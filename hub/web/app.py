"""The app: which paths there are, and what is behind them.

FastAPI reads the annotations of paths when they are made, and they name values of their surroundings: no
`from __future__ import annotations` here.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine as Database

from hub.admission.desk import SqlDesk
from hub.admission.hub_api import Servers
from hub.admission.starter import Starter
from hub.controller.status import Status
from hub.mail.postman import Postman
from hub.settings.idle import IdleSettings
from hub.settings.quotas import QuotaSettings
from hub.web import audit, notices, quotas, refusals, requests, sessions, switching, tickets
from hub.web.capacity import Capacity, Reading, titles_for
from hub.web.docs_page import docs_page, docs_policy
from hub.web.door import Door, Visitor
from hub.web.guard import Guard
from hub.web.health import ControllerHealth, Health, WhereTheCountsAre, controller_health, health
from hub.web.hub_access import HubAccess
from hub.web.live import EVERY_S, EventStream, Live
from hub.web.login import States, router
from hub.web.measures import CONTENT_TYPE, Measures
from hub.web.metrics_token import carries
from hub.web.pages.site import add_pages
from hub.web.place import Place
from hub.web.places import Places
from hub.web.problems import FieldProblem, ProblemDetails, answers, of_fields, register
from hub.web.queue import Queue
from hub.web.queue_events import QueueLive
from hub.web.session_documents import LinksSaid, Teller
from hub.web.switching import in_line
from hub.web.usage import router as usage_router
from profiles.access import Person
from profiles.model import Catalogue, Engine
from spawner.protocols import CapacityDesk

__all__ = ["ServiceParts", "create_app"]

_DESCRIPTION = (
    "What is free, for the person who asks; requests for servers, the queue, usage; later also jobs. Programs send "
    "`Authorization: token …` with a token of the hub; browsers log in at /login."
)


@dataclass(frozen=True)
class ServiceParts:
    """What the app is made of.

    Parameters
    ----------
    place
        Where it lies.
    hub
        Knows who holds which token.
    secret
        What all replicas know and nobody else: logins are signed with it.
    desk
        Tells what is free.
    database
        Armillary's own.
    catalogue, engine
        What there is, and what runs sessions.
    hide_not_allowed
        Whether people are told nothing of accelerators that they may not pick.
    live_limit
        How many pages may be kept up to date at once.
    metrics_need_token
        Whether `/metrics` asks for a token with the scope read:metrics.
    metrics_token
        One that is good for `/metrics` without asking the hub, which may be away; empty: there is none.
    homes
        The folder of homes, whose room is measured; None: homes are elsewhere.
    controller
        State of the controller in this process; None: there is none.
    controller_health
        The same with what its supervisor knows; None: nobody supervises.
    idle
        When sessions are stopped, and how often they can be kept.
    quotas
        In which zone days begin, and who leads which groups.
    servers
        Where servers are started and stopped: the hub.
    named_limit
        How many servers with names the hub lets a person have.
    postman
        Sends mail when a server from the queue is up; None: nobody does.
    """

    place: Place
    hub: HubAccess
    secret: str
    desk: CapacityDesk
    database: Database
    catalogue: Catalogue
    engine: Engine
    servers: Servers
    hide_not_allowed: bool = False
    live_limit: int = 2000
    metrics_need_token: bool = True
    metrics_token: str = field(default="", repr=False)
    homes: Path | None = None
    controller: Status | None = None
    controller_health: Callable[[], ControllerHealth] | None = None
    quotas: QuotaSettings = field(default_factory=QuotaSettings)
    idle: IdleSettings = field(default_factory=IdleSettings)
    named_limit: int = 4
    postman: Postman | None = None


class _CapacityQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    accelerator: list[Annotated[str, Field(max_length=63)]] = Field(
        [], max_length=100, description="Only these; may be given several times. Default: all that your form shows."
    )


def create_app(parts: ServiceParts) -> FastAPI:
    """Return the app; `app.state.live` ends all live pages when its `close` is called."""
    place = parts.place
    door = Door(parts.hub, place, parts.secret)
    where = WhereTheCountsAre(parts.database)
    read = _reader(parts, where)
    live = Live(read, door.again, parts.live_limit)
    measures = Measures()
    measures.watch(live, parts.hub, parts.controller, parts.homes)
    queue = _queue(parts)
    places = Places(queue) if queue is not None else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        live.start()
        yield
        await live.stop()
        if queue is not None:
            await queue.starter.close()
        if parts.postman is not None:
            await parts.postman.close()
        await parts.servers.close()
        await parts.hub.close()

    app = FastAPI(
        title="Armillary",
        version=_version(),
        description=_DESCRIPTION,
        servers=[{"url": place.prefix}],
        lifespan=lifespan,
        docs_url=None,  # its pages load scripts from another site
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.add_middleware(Guard, prefix=place.prefix, measures=measures)
    register(app, place.prefix)
    app.include_router(router(parts.hub, place, States(parts.secret)))
    app.include_router(usage_router(door, parts.database, parts.quotas))
    _capacity(app, _Counts(parts, live, read), door, live)
    links = LinksSaid(usage=f"{place.prefix}/usage", queue=f"{place.prefix}/queue")
    teller = Teller(parts.catalogue, parts.engine, parts.idle, parts.quotas, links, in_line(queue, places))
    app.include_router(sessions.router(door, parts.database, parts.catalogue, parts.engine, parts.idle, teller))
    app.include_router(notices.router(door, parts.database))
    app.include_router(quotas.router(door, parts.database, parts.catalogue, parts.engine, parts.quotas))
    app.include_router(audit.router(door, parts.database))
    app.include_router(refusals.router(door, parts.database, parts.quotas))
    if queue is not None and places is not None:
        app.include_router(requests.router(door, queue, places, parts.named_limit))
        app.include_router(switching.router(door, queue, places))
        watched = QueueLive(queue, places, parts.live_limit, lambda: live.closing)
        app.include_router(tickets.router(door, queue, places, watched))
    _operations(app, parts, door, live, where, measures)
    _pages(app, place)
    add_pages(
        app,
        door,
        place,
        parts.catalogue,
        parts.engine,
        parts.desk,
        parts.servers,
        parts.quotas,
        hide_not_allowed=parts.hide_not_allowed,
        mail=parts.postman is not None,
    )
    app.state.live = live
    return app


def _queue(parts: ServiceParts) -> Queue | None:
    """Return what the paths of the queue work on; None where nothing is reserved, as with some doubles of the desk."""
    if not isinstance(parts.desk, SqlDesk):
        return None
    ready = parts.postman.ready if parts.postman is not None else None
    rules = parts.desk.store.rules
    slots = rules.queue.slots(rules.engine)
    starter = Starter(parts.database, parts.servers, rules.queue, slots=slots, ready=ready)
    return Queue(parts.desk, parts.database, parts.servers, starter, parts.place)


def _reader(parts: ServiceParts, where: WhereTheCountsAre) -> Callable[[], Awaitable[Reading]]:
    async def read() -> Reading:
        availability = await parts.desk.availability()
        try:
            sequence = await where.sequence()
        except OSError:
            sequence = None
        return Reading(availability, sequence, parts.engine)

    return read


class _Counts:
    """The counts for whoever asks."""

    def __init__(self, parts: ServiceParts, live: Live, read: Callable[[], Awaitable[Reading]]) -> None:
        self._live = live
        self._read = read

        @lru_cache(maxsize=2048)
        def titles(person: Person) -> Mapping[str, str]:
            return titles_for(person, parts.catalogue, parts.engine, hide_not_allowed=parts.hide_not_allowed)

        self._titles = titles

    async def newest(self) -> Reading:
        """What was read a second ago for the live pages is new enough for all others."""
        known, silent_s = self._live.reading, self._live.silent_s
        if known is not None and silent_s is not None and silent_s < 1.5 * EVERY_S:
            return known
        return await self._read()

    def titles(self, who: Visitor, wanted: list[str]) -> Mapping[str, str]:
        """What somebody may see of what they want; wanting nothing means all."""
        found = self._titles(who.identity.person)
        return {key: title for key, title in found.items() if not wanted or key in wanted}

    def check(self, who: Visitor, wanted: list[str]) -> None:
        """Raise a Problem where something is wanted that is not there for them."""
        found = self._titles(who.identity.person)
        unknown = [key for key in wanted if key not in found]
        if unknown:
            detail = f"there is no accelerator {unknown[0]!r} for you"
            raise of_fields([FieldProblem(field="query.accelerator", detail=detail, legal=sorted(found))])


def _capacity(app: FastAPI, counts: _Counts, door: Door, live: Live) -> None:
    """Add what tells the counts."""
    visitor = Depends(door)
    codes = ("bad-request", "login-needed", "not-allowed", "other-site", "hub-away")

    @app.get(
        "/api/capacity",
        tags=["capacity"],
        responses=answers(*codes),
        summary="What is free",
        operation_id="capacity",
        response_description="The counts",
    )
    async def capacity(who: Annotated[Visitor, visitor], query: Annotated[_CapacityQuery, Query()]) -> Capacity:
        """As it was known a second or two ago."""
        counts.check(who, query.accelerator)
        reading = await counts.newest()
        return Capacity.model_validate(reading.of(who.identity.person.name, counts.titles(who, query.accelerator)))

    @app.get(
        "/api/capacity/events",
        tags=["capacity"],
        response_class=Response,
        responses={
            200: {
                "description": "Server-sent events: `capacity` (a document as of /api/capacity) at first and whenever "
                "it changes, `beat` (as_of and sequence) when nothing has changed for 5 s, `login-ended` at the end "
                "of the login",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **answers(*codes, "too-many-pages", "full"),
        },
        summary="What is free, as it changes",
        operation_id="capacity_events",
    )
    async def events(who: Annotated[Visitor, visitor], query: Annotated[_CapacityQuery, Query()]) -> Response:
        """Ends with the login, and when the service is restarted: ask again then."""
        counts.check(who, query.accelerator)
        return EventStream(live, who, lambda now: counts.titles(now, query.accelerator), await counts.newest())


def _operations(
    app: FastAPI, parts: ServiceParts, door: Door, live: Live, where: WhereTheCountsAre, measures: Measures
) -> None:
    """Add what operators ask."""

    def controller() -> ControllerHealth:
        if parts.controller_health is not None:
            return parts.controller_health()
        return controller_health(parts.controller, working=parts.controller is not None, crashes=0)

    @app.get(
        "/health",
        tags=["operations"],
        responses=answers("not-well"),
        summary="Whether the service is well",
        operation_id="health",
        response_description="It is",
    )
    async def is_well() -> Health:
        """For probes: needs no login. Old counts, or a controller that does not lead, are said and are no failure."""
        return await health(where, live, controller, app.version)

    @app.get(
        "/metrics",
        tags=["operations"],
        response_class=Response,
        responses={
            200: {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}},
            **answers("login-needed", "not-allowed", "hub-away"),
        },
        summary="Figures for Prometheus",
        operation_id="metrics",
    )
    async def metrics(request: Request) -> Response:
        """Needs a token with the scope read:metrics, unless `hub.metrics_need_token` is false."""
        if parts.metrics_need_token and not carries(request.headers.get("Authorization"), parts.metrics_token):
            await door.visitor(request, "read:metrics")
        return Response(measures.text(), media_type=CONTENT_TYPE)


def _pages(app: FastAPI, place: Place) -> None:
    """Add the pages about the API itself."""

    @app.get("/", include_in_schema=False)
    async def first() -> Response:
        return RedirectResponse(f"{place.prefix}/docs", 303)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        page = docs_page(app.openapi(), place.prefix)
        return HTMLResponse(page, headers={"Content-Security-Policy": docs_policy()})

    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = made()
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            described = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(described.pop("$defs", {}))
            schemas["ProblemDetails"] = described
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _version() -> str:
    try:
        return metadata.version("armillary")
    except metadata.PackageNotFoundError:
        return "0+checkout"
