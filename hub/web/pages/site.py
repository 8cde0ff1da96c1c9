"""All pages of the service, added to its app."""

from __future__ import annotations

from fastapi import FastAPI

from hub.admission.hub_api import Servers
from hub.settings.quotas import QuotaSettings
from hub.web.door import Door
from hub.web.pages.admin import AdminPages
from hub.web.pages.group import GroupPages
from hub.web.pages.queue import QueuePages
from hub.web.pages.usage import UsagePages
from hub.web.pages.visits import Pages
from hub.web.place import Place
from profiles.model import Catalogue, Engine
from spawner.protocols import CapacityDesk

__all__ = ["add_pages"]


def add_pages(
    app: FastAPI,
    door: Door,
    place: Place,
    catalogue: Catalogue,
    engine: Engine,
    desk: CapacityDesk,
    servers: Servers,
    quotas: QuotaSettings,
    *,
    hide_not_allowed: bool,
    mail: bool,
) -> None:
    """Add the pages.

    Parameters
    ----------
    desk, servers
        What is free, and where servers are stopped.
    quotas
        In which zone days begin, and who leads which groups.
    hide_not_allowed
        Whether people are told nothing of what they may not pick.
    mail
        Whether an e-mail can be sent when a server is up.
    """
    pages = Pages(app, door, place, quotas)
    QueuePages(pages, catalogue, engine, desk, hide=hide_not_allowed, mail=mail)
    UsagePages(pages, catalogue, servers)
    GroupPages(pages)
    AdminPages(pages, catalogue)
