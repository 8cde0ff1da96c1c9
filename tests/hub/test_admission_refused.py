"""Refusals are counted by day, door and code, by several processes at once, and over a time without database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, event

from hub.admission.refused import Refusals, Refused, by_code
from hub.db.transaction import read
from spawner.refusal import Refusal
from tests.hub.admission_world import Site
from tests.hub.hub_double import HubDouble

ZONE = ZoneInfo("Europe/Rome")


def counted(database: Engine) -> list[Refused]:
    today = datetime.now(UTC).date()
    return read(database, lambda found: by_code(found, today - timedelta(days=1), today + timedelta(days=1)))


def test_processes_add_to_the_same_counts(database: Engine) -> None:
    each = [Refusals(database, ZONE, every_s=1e6) for _ in range(4)]

    def refuse(process: Refusals) -> None:
        for _ in range(5):
            process.add("hub", "full")
            process.flush()
        process.add("service", "full")
        process.add("service", "budget-spent")
        process.add("service", "budget-spent")
        process.flush()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(refuse, each))
    assert counted(database) == [
        Refused("full", "hub", 20),
        Refused("budget-spent", "service", 8),
        Refused("full", "service", 4),
    ]


def test_while_the_database_is_away_they_are_kept(database: Engine) -> None:
    process = Refusals(database, ZONE, every_s=1e6)
    process.add("hub", "full")

    def refuse(*_: object) -> None:
        raise ConnectionRefusedError("nobody listens")

    database.dispose()
    event.listen(database, "do_connect", refuse)
    process.flush()
    event.remove(database, "do_connect", refuse)
    process.add("hub", "full")
    process.flush()
    assert counted(database) == [Refused("full", "hub", 2)]


async def test_the_desk_counts_what_it_refuses_and_not_who_waits(database: Engine) -> None:
    site = Site(database, HubDouble())
    await site.at_the_hub("ann", count=2)
    for name in ("bob", "cleo"):
        with pytest.raises(Refusal):
            await site.at_the_hub(name, count=3)
    with pytest.raises(Refusal) as waits:
        await site.at_the_hub("bob")
    assert waits.value.code == "queued"
    site.desk.refusals.flush()
    assert counted(database) == [Refused("does-not-fit", "hub", 2)]
