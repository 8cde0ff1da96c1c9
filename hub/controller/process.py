"""One process that is nothing but a controller: from settings to loops that run until they are told to end."""

from __future__ import annotations

import asyncio
import signal

from prometheus_client import REGISTRY

from hub.catalogue import load_catalogue
from hub.controller.main import run as control
from hub.controller.metrics import StatusMetrics, show
from hub.controller.status import Status
from hub.db.address import database_url
from hub.db.engine import connect
from hub.logs import begin
from hub.quotas.declared import read_quotas
from hub.secret import metrics_token
from hub.settings import Settings

__all__ = ["run"]


def run(settings: Settings, *, metrics_port: int | None = None) -> None:
    """Control until SIGTERM or SIGINT. Blocks. A database that is away is waited for.

    Parameters
    ----------
    metrics_port
        Port of all addresses where Prometheus may ask; None: nowhere.

    Raises
    ------
    hub.db.address.AddressError, hub.secret.ConfigError, profiles.loader.CatalogueError,
    hub.quotas.declared.QuotaFileError, OSError
        It cannot be begun; each says in words why.
    """
    begin("controller", settings.hub.log_level, settings.hub.log_format)
    catalogue = load_catalogue(settings)
    if settings.quotas.file is not None:
        # Whoever leads takes it over; one that cannot be used is said at the start, not in the log.
        read_quotas(settings.quotas.file, catalogue.accelerators)
    status = Status(settings.controller.lease_s)
    database = connect(database_url(settings))
    if metrics_port is not None:
        REGISTRY.register(StatusMetrics(status))
        show(metrics_port, metrics_token(settings), need_token=settings.hub.metrics_need_token)

    async def until_told() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await control(settings, catalogue, database, stop, status)

    try:
        asyncio.run(until_told())
    finally:
        database.dispose()
