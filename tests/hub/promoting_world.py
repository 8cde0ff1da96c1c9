"""Where tickets are promoted in tests: a hub that starts servers, what asks it, and a controller that looks often."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Engine, update

from hub.admission import outcome, promote, starter
from hub.admission.hub_api import HubServers
from hub.admission.promote import Promoter
from hub.db.clock import Now
from hub.db.tables import tickets as ticket_table
from tests.hub.admission_world import Site
from tests.hub.hub_double import TOKEN, HubDouble

__all__ = ["hub", "promoting", "quick_site", "seen_to_no_more", "servers"]


@pytest.fixture
async def hub() -> AsyncIterator[HubDouble]:
    double = HubDouble()
    await double.open()
    yield double
    await double.close()


@pytest.fixture
async def servers(hub: HubDouble) -> AsyncIterator[HubServers]:
    found = HubServers(hub.api_url, TOKEN, slow_start_s=1)
    yield found
    await found.close()


def quick_site(database: Engine, hub: HubDouble, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site at which nothing pauses for long."""
    monkeypatch.setattr(starter, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(starter, "_LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(starter, "_LOOK_S", 0.02)
    monkeypatch.setattr(promote, "_LOOK_S", 0.05)
    monkeypatch.setattr(promote, "_AGAIN_S", 0.2)
    monkeypatch.setattr(outcome, "_TRIED_S", 0.05)
    monkeypatch.setattr(outcome, "_AGAIN_S", 0.05)
    return Site(database, hub, switch_grace_s=0)


@contextlib.asynccontextmanager
async def promoting(promoter: Promoter) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(promoter.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


def seen_to_no_more(site: Site) -> None:
    """As if whoever saw to starts had been dead for half a minute."""
    site.write(lambda found: found.execute(update(ticket_table).values(not_before=Now() - 1.0)))
