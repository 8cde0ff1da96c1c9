"""Running sessions for tests: on a real database whose clock the test turns, with a hub that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, select

from hub import audit, notices
from hub.admission import reservations
from hub.admission.hub_api import Answer
from hub.controller.lease import Lease
from hub.db.tables import ledger as ledger_table
from hub.db.transaction import read, write
from hub.idle import sessions
from hub.idle.activity import Measures
from hub.idle.loop import Keeper
from hub.idle.prometheus import Prometheus
from hub.idle.sessions import Arrived, Known
from hub.notices import Notice
from hub.quotas import store
from hub.quotas.model import parse_field
from hub.settings import Settings
from hub.usage import ledger
from hub.usage.ledger import Ran
from profiles.loader import loads
from spawner.reservation import Reservation
from tests.database_clock import DatabaseClock

T = TypeVar("T")

HOUR = 3600.0
QUIET = Measures(cpu=0.01, kernels=1, quiet_s=1e6)
BUSY = Measures(cpu=0.0, kernels=1, busy_kernels=1, quiet_s=1e6)
CATALOGUE = loads(
    """\
images:
  lab: {title: Lab, local: {}}
accelerators:
  t4: {title: T4, simulated: {count: 8}}
profiles:
  lab: {title: Lab, options: {image: [lab], accelerator: [none, t4]}}
"""
)


class TestHub:
    """Stops what it is asked to, and tells when it last saw something used."""

    __test__ = False

    def __init__(self) -> None:
        self.stopped: list[tuple[str, str]] = []
        self.asked: list[tuple[str, str]] = []
        self.unused: dict[tuple[str, str], float] = {}
        self.answer = Answer("stopped")
        self.on_stop: Callable[[str, str], None] = lambda user, server: None

    async def stop(self, user: str, server: str) -> Answer:
        self.stopped.append((user, server))
        if self.answer.word == "stopped":
            await asyncio.to_thread(self.on_stop, user, server)
        return self.answer

    async def unused_s(self, user: str, server: str) -> float | None:
        self.asked.append((user, server))
        return self.unused.get((user, server))


class Sessions:
    """A site with running sessions, minute by minute.

    Args:
        engine: a database whose clock is `clock`.
        settings: of `idle` and `quotas`.
    """

    def __init__(self, engine: Engine, clock: DatabaseClock, settings: Mapping[str, Any] | None = None) -> None:
        self.engine = engine
        self.clock = clock
        self.settings = Settings.model_validate(settings or {})
        self.hub = TestHub()
        self.hub.on_stop = self._ended
        self.lease = Lease(engine, "test", 1e6, clock=lambda: clock.now)
        epoch = self.lease.try_acquire()
        assert epoch is not None
        self.measures: dict[str, Measures | None] = {}
        self.keeper = self.another_keeper(epoch)

    def another_keeper(self, epoch: int | None = None, **more: Any) -> Keeper:
        """As after the crash of the controller."""
        return Keeper(
            self.settings,
            CATALOGUE,
            self.engine,
            epoch or self.lease.epoch or 0,
            self.hub,
            again_s=0.0,
            clock=lambda: self.clock.now,
            **more,
        )

    # --- what there is -----------------------------------------------------------------------------------------------

    def start(self, id: str, user: str, server: str = "", **more: Any) -> Reservation:
        """A session that runs; without `accelerator` it has a T4."""
        given: dict[str, Any] = {"accelerator": "t4", "count": 1, "share": 1.0, "account": f"user:{user}", **more}
        if given["accelerator"] is None:
            given.update(count=0, share=0.0)
        held = Reservation(id, user, server, "lab", **given)
        self.write(lambda found: reservations.insert(found, held, expires_in_s=600.0))
        self.write(lambda found: reservations.mark_seen(found, [id]))
        self.measures[id] = QUIET
        return replace(held, seen=True)

    def limit(self, subject: str, field: str, value: float | None) -> None:
        """Set a quota."""
        amount = None if value is None else Decimal(repr(value))
        self.write(lambda found: store.put(found, subject, parse_field(field), amount, "user:root"))

    async def pass_(self, seconds: float, *, step: float = 60.0, until: Callable[[], bool] | None = None) -> None:
        """Let time pass: every session measures itself, is charged and looked at each `step` seconds."""
        end = self.clock.now + seconds
        while self.clock.now < end and not (until and until()):
            self.clock.set(min(self.clock.now + step, end))
            await asyncio.to_thread(self.measure)
            await self.look()

    async def look(self, keeper: Keeper | None = None) -> None:
        """One look, and the stops that come of it."""
        keeper = keeper or self.keeper
        await keeper.look()
        while keeper._stopping:
            await asyncio.gather(*keeper._stopping.values(), return_exceptions=True)
            await asyncio.sleep(0)

    def measure(self) -> None:
        """Every session measures itself, and is charged."""
        self.write(self._beat)

    def _beat(self, connection: Connection) -> None:
        held = {one.id: one for one in reservations.all(connection)}
        ledger.beat(connection, {id: Ran("here") for id in held})
        arrived = [
            Arrived(one.user, one.server, measures)
            for one in held.values()
            if (measures := self.measures.get(one.id)) is not None
        ]
        sessions.measured(connection, arrived, self.settings.idle)

    def _ended(self, user: str, server: str) -> None:
        def work(connection: Connection) -> None:
            for held in reservations.of_server(connection, user, server):
                reservations.delete(connection, (held.id,), sessions.why(connection, held.id) or "ended")

        self.write(work)

    # --- what is known -----------------------------------------------------------------------------------------------

    def write(self, work: Callable[[Connection], T]) -> T:
        return write(self.engine, work)

    def read(self, work: Callable[[Connection], T]) -> T:
        return read(self.engine, work)

    def known(self, id: str) -> Known:
        found = self.read(lambda connection: sessions.of(connection, id))
        assert found is not None
        return found

    def notices(self, user: str) -> list[Notice]:
        return list(self.read(lambda connection: notices.of_user(connection, user)))

    def texts(self, user: str, kind: str) -> list[str]:
        return [one.text for one in self.notices(user) if one.kind == kind]

    def audited(self, action: str) -> list[audit.Entry]:
        return list(self.read(lambda connection: audit.recent(connection, action=action)))

    def ended_as(self, id: str) -> str:
        wanted = select(ledger_table.c.ended_as).where(ledger_table.c.id == id)
        return str(self.read(lambda connection: connection.scalar(wanted)))


class KnownUse(Prometheus):
    """A Prometheus that says what the test says."""

    def __init__(self, used: Mapping[str, float]) -> None:
        super().__init__("http://prometheus.invalid", "")
        self.used = used

    async def utilisation(self) -> Mapping[str, float]:
        return self.used
