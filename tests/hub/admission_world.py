"""A small site for tests of admission: cards that are counted, people who ask, and a hub that starts servers.

The hub's spawner does what ours do: it asks the desk before it starts, and gives back when it has stopped.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from hub.admission import reservations, tickets
from hub.admission.desk import SqlDesk
from hub.admission.doors import Starts, Waits, Wish, request
from hub.admission.hub_api import HubServers
from hub.admission.promote import Promoter
from hub.admission.starter import Starter
from hub.admission.tickets import Ticket
from hub.controller.lease import Lease
from hub.controller.publish import publish
from hub.controller.status import Status
from hub.db.transaction import read, write
from hub.quotas import store as quotas_store
from hub.quotas.model import Field
from hub.settings.queue import QueueSettings
from profiles.access import Person
from profiles.loader import loads
from spawner.capacity.model import Count, DeviceState, Fit, Snapshot
from spawner.occupied import occupied
from spawner.options import parse
from spawner.refusal import Refusal
from spawner.reservation import Reservation
from tests.hub.hub_double import TOKEN, HubDouble

__all__ = ["CATALOGUE", "Site", "snapshot", "until"]

T = TypeVar("T")

CATALOGUE = loads("""
accelerators:
  card: {title: Card, simulated: {count: 3}}
  slice: {title: Slice, share: 1/2, simulated: {count: 2}}
images:
  lab: {title: Lab, local: {}}
profiles:
  gpu: {title: GPU, options: {image: [lab], cpu: [1, 2], accelerator: [card, slice, none], count: [1, 2, 3]}}
""")


def snapshot(cards: int = 2, slices: int = 2) -> Snapshot:
    """This machine, with so many devices; who has which is told by the reservations."""
    room = (Fit(8, 64_000, 2**38),)
    numbers = {"card": cards, "slice": slices}
    counts = {key: Count(total=many, free=many, fits_now=room, fits_empty=room) for key, many in numbers.items()}
    devices = tuple(DeviceState(f"{key}-{place}", key) for key, many in numbers.items() for place in range(many))
    none = Count(fits_now=room, fits_empty=room)
    return Snapshot("local", datetime.now(UTC), {**counts, "none": none}, devices=devices)


class Site:
    """Desk, queue and double of the hub on one database."""

    def __init__(self, database: Engine, hub: HubDouble, **queue: Any) -> None:
        self.database = database
        self.hub = hub
        self.queue = QueueSettings(**queue)
        self.desk = self.another_desk()
        self.epoch = Lease(database, "test", 60).try_acquire() or 0
        hub.on_start = self.spawn
        hub.on_stop = self.stopped
        self.begun: dict[tuple[str, str], str] = {}
        self.groups: dict[str, frozenset[str]] = {}
        self.count()

    def another_desk(self) -> SqlDesk:
        return SqlDesk(self.database, engine_kind="local", catalogue=CATALOGUE, stale_after_s=600, queue=self.queue)

    def count(self, cards: int = 2, slices: int = 2, **what: Any) -> None:
        """Publish what there is."""
        publish(self.database, self.epoch, snapshot(cards, slices), **what)

    def limit(self, subject: str, field: str, value: float) -> None:
        self.write(lambda found: quotas_store.put(found, subject, Field(field), Decimal(str(value)), "user:admin"))

    # --- asking --------------------------------------------------------------------------------------------------

    def wish(self, user: str, accelerator: str = "card", count: int = 1, server: str = "", **more: Any) -> Wish:
        self.hub.users.add(user)
        groups = frozenset(more.pop("groups", self.groups.get(user, ())))
        person = Person(user, groups, False)
        options: dict[str, Any] = {"accelerator": accelerator, **more.pop("options", {})}
        if accelerator != "none":
            options["count"] = str(count)
        found = parse(options, CATALOGUE, person, "local")
        cpu_m, memory = occupied(found, CATALOGUE)
        wanted = Reservation(
            uuid.uuid4().hex,
            user,
            server,
            found.profile,
            found.accelerator,
            found.count,
            cpu_m,
            memory,
            account=found.account or "",
            options=found.options(),
        )
        return Wish(person, wanted, uuid.uuid4().hex, **more)

    def ask(self, user: str, accelerator: str = "card", count: int = 1, **more: Any) -> Starts | Waits:
        """Ask at the service."""
        wish = self.wish(user, accelerator, count, **more)
        return self.write(lambda found: request(found, self.desk.store, wish))

    async def at_the_hub(self, user: str, accelerator: str = "card", count: int = 1, **more: Any) -> Reservation:
        """Start at the hub's own door; raises Refusal."""
        wish = self.wish(user, accelerator, count, **more)
        wanted = replace(wish.wanted, ticket=None)
        return await self.desk.reserve(wanted, expires_in_s=60, person=wish.person)

    # --- the hub's spawner ---------------------------------------------------------------------------------------

    async def spawn(self, user: str, server: str, options: Mapping[str, Any]) -> tuple[int, str, str] | None:
        person = Person(user, self.groups.get(user, frozenset()), False)
        try:
            found = parse(options, CATALOGUE, person, "local")
            wanted = Reservation(
                uuid.uuid4().hex,
                user,
                server,
                found.profile,
                found.accelerator,
                found.count,
                1000,
                account=found.account or "",
                options=found.options(),
            )
            held = await self.desk.reserve(wanted, expires_in_s=60, person=person)
        except Refusal as refusal:
            return refusal.status_code, refusal.code, refusal.text
        self.begun[user, server] = held.id
        return None

    async def stopped(self, user: str, server: str) -> None:
        spawn_id = self.begun.pop((user, server), "")
        await self.desk.unwanted(spawn_id)
        await self.desk.release(spawn_id)

    def end(self, user: str, server: str = "") -> None:
        """Let a running server end, and what it held be given back."""
        self.hub.server(user, server).become("stopped")
        spawn_id = self.begun.pop((user, server), "")
        self.write(lambda found: reservations.delete(found, (spawn_id,)))

    # --- looking -------------------------------------------------------------------------------------------------

    def read(self, work: Callable[[Connection], T]) -> T:
        return read(self.database, work)

    def write(self, work: Callable[[Connection], T]) -> T:
        return write(self.database, work)

    def ticket(self, ticket_id: str) -> Ticket:
        found = self.read(lambda connection: tickets.find(connection, ticket_id))
        assert found is not None
        return found

    def held(self) -> dict[str, tuple[str, str]]:
        """Who holds what: (user, server) to (state, accelerator)."""
        return {f"{one.user}/{one.server}": (one.state, one.accelerator or "") for one in self.read(reservations.all)}

    def servers(self) -> HubServers:
        return HubServers(self.hub.api_url, TOKEN, slow_start_s=1)

    def starter(self, servers: HubServers) -> Starter:
        return Starter(self.database, servers, self.queue, slots=self.queue.slots("local"))

    def promoter(self, servers: HubServers, epoch: int | None = None) -> Promoter:
        return Promoter(self.database, epoch or self.epoch, self.desk.store, servers, Status(60))


async def until(true: Callable[[], bool] | Callable[[], Awaitable[bool]], within_s: float = 60) -> None:
    """Wait until something is so; fails with what it was."""
    async with asyncio.timeout(within_s):
        while True:
            found = true()
            if (await found) if not isinstance(found, bool) else found:
                return
            await asyncio.sleep(0.05)
