"""One process of the service: from settings to a server that runs until it is told to end."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import Engine as Database
from sqlalchemy import select

from hub.admission.desk import SqlDesk
from hub.admission.hub_api import HubServers
from hub.catalogue import load_catalogue
from hub.controller.status import Status
from hub.db.address import database_url
from hub.db.engine import connect
from hub.db.transaction import read
from hub.db.upgrade import problem
from hub.interpreter import hand_over_soon
from hub.logs import begin
from hub.mail.postman import Postman
from hub.quotas.takeover import take_over
from hub.secret import metrics_token, service_token
from hub.settings import Settings
from hub.web.app import ServiceParts, create_app
from hub.web.background import Background
from hub.web.hub_access import HubAccess
from hub.web.place import Place, hub_api_url
from hub.web.server import listen, serve
from profiles.model import Catalogue

__all__ = ["NotReady", "run"]

_log = logging.getLogger(__name__)

_CONTROLLER_ENDS_WITHIN_S = 8.0


class NotReady(RuntimeError):
    """The database is there, but has not the tables that this version needs; the text says what to do."""


def run(settings: Settings, *, with_controller: bool) -> None:
    """Serve until SIGTERM or SIGINT. Blocks.

    Raises
    ------
    NotReady, hub.db.address.AddressError, hub.secret.ConfigError, hub.web.server.ListenError,
    profiles.loader.CatalogueError, hub.quotas.declared.QuotaFileError
        It cannot be begun; each says in words why.
    """
    begin("service", settings.hub.log_level, settings.hub.log_format)
    hand_over_soon()
    token = service_token(settings)
    catalogue = load_catalogue(settings)
    database = connect(database_url(settings))
    _check(database)
    take_over(database, settings.quotas, catalogue)
    listening = listen(settings.service.bind_url)
    background = _background(settings, catalogue, database) if with_controller else None
    desk = SqlDesk.of(settings, catalogue, database)
    parts = ServiceParts(
        place=Place.of(settings),
        hub=HubAccess(hub_api_url(settings), token),
        secret=token,
        desk=desk,
        database=database,
        catalogue=catalogue,
        engine=settings.engine,
        hide_not_allowed=settings.servers.hide_unavailable,
        named_limit=settings.servers.named_limit,
        live_limit=settings.service.live_limit,
        metrics_need_token=settings.hub.metrics_need_token,
        metrics_token=metrics_token(settings),
        homes=(settings.local.homes or settings.paths.homes) if settings.engine == "local" else None,
        controller=background.status if background else None,
        controller_health=background.health if background else None,
        idle=settings.idle,
        quotas=settings.quotas,
        servers=HubServers(hub_api_url(settings), token, slow_start_s=settings.servers.slow_start_s),
        postman=Postman.of(settings, database, desk.store.rules.titles),
    )
    if background is not None:
        background.start()
    try:
        asyncio.run(serve(create_app(parts), listening))
    finally:
        if background is not None and not background.stop(_CONTROLLER_ENDS_WITHIN_S):
            _log.warning("The controller did not end within %g s", _CONTROLLER_ENDS_WITHIN_S)
        database.dispose()


def _background(settings: Settings, catalogue: Catalogue, database: Database) -> Background:
    from hub.controller.main import run as control

    status = Status(settings.controller.lease_s)
    return Background(lambda stop: control(settings, catalogue, database, stop, status), status)


def _check(database: Database) -> None:
    """Raise NotReady where the database can be read, and is not what this version needs.

    One that is away is none of our business yet: the service says so at /health, and is well when it is back.
    """
    try:
        read(database, lambda connection: connection.scalar(select(1)))
    except OSError as error:
        _log.error("The database does not answer; the service waits for it: %s", error)
        return
    if found := problem(database):
        raise NotReady(found)
