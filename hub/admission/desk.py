"""The desk at which accelerators are handed out: what is free, and holding it, for the hub and the service."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from sqlalchemy import Connection, Engine

from hub.admission import placing
from hub.admission.changes import ended, starting_as, unwanted
from hub.admission.doors import Waits, begin
from hub.admission.refused import Refusals
from hub.admission.store import Rules, Store
from hub.admission.words import queued
from hub.db.transaction import DatabaseAway, read, write
from hub.metrics import DECISION_SECONDS, DECISIONS
from hub.settings import Settings
from hub.settings.idle import IdleSettings
from hub.settings.queue import QueueSettings
from hub.settings.quotas import QuotaSettings
from profiles.access import Person
from profiles.model import Catalogue
from profiles.model import Engine as EngineKind
from spawner.capacity.availability import Availability
from spawner.ids import new_id
from spawner.refusal import Refusal
from spawner.reservation import Reservation

__all__ = ["SqlDesk"]

T = TypeVar("T")
_log = logging.getLogger(__name__)

_CACHED_S = 1.0
"""How old what is known may be when it is given out."""

_ANSWER_S = 3.0
"""How long a reader waits for a database that does not answer."""

_WORKERS = 8
"""Transactions at once, in threads; writers take turns anyway."""


@dataclass(frozen=True)
class _Flight:
    """One question to the database, and until when it is waited for."""

    loop: asyncio.AbstractEventLoop
    task: asyncio.Task[None]
    wait_until: float


class SqlDesk:
    """Implements `spawner.protocols.CapacityDesk`, `PlacingDesk` and `QueueDesk` on the database.

    One for each process; for any event loop of it.

    Parameters
    ----------
    database
        Armillary's database, upgraded.
    engine_kind
        Of which engine the counts are.
    stale_after_s
        From this age on counts are no truth any more (`controller.stale_after_s`).
    nodes_may_appear
        The cluster makes nodes when pods wait for them, so that "none is free" is no reason to refuse.
    queue, quotas, idle
        These settings.
    queue_page
        Where people see their place in the queue, for texts.
    clock
        Seconds that only ever grow.
    """

    def __init__(
        self,
        database: Engine,
        *,
        engine_kind: EngineKind,
        catalogue: Catalogue,
        stale_after_s: float,
        nodes_may_appear: bool = False,
        queue: QueueSettings | None = None,
        quotas: QuotaSettings | None = None,
        idle: IdleSettings | None = None,
        queue_page: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        rules = Rules(
            catalogue,
            engine_kind,
            nodes_may_appear,
            queue or QueueSettings(),
            quotas or QuotaSettings(),
            idle or IdleSettings(),
        )
        self.store = Store(rules, stale_after_s)
        self.refusals = Refusals(database, rules.quotas.zone)
        self._queue_page = queue_page
        self._known = Availability()
        self._known_until = 0.0
        self._flight: _Flight | None = None
        self._threads: tuple[int, ThreadPoolExecutor] | None = None
        self._away = False
        self._told: bool | None = None
        self._clock = clock

    @classmethod
    def of(cls, settings: Settings, catalogue: Catalogue, database: Engine) -> SqlDesk:
        """Return the desk that the settings describe; hub, service and controller decide by the same rules."""
        return cls(
            database,
            engine_kind=settings.engine,
            catalogue=catalogue,
            stale_after_s=settings.controller.stale_after_s,
            nodes_may_appear=settings.kubernetes.nodes_may_appear,
            queue=settings.queue,
            quotas=settings.quotas,
            idle=settings.idle,
            queue_page=f"{settings.public_url.rstrip('/')}/services/armillary/queue",
        )

    def __deepcopy__(self, memo: object) -> SqlDesk:
        return self  # traitlets copies configuration; what one knows all shall know

    async def availability(self) -> Availability:
        """Return what is known, at most a second old; however many ask at once, the database is asked once.

        Never raises: where the database does not answer it is what was known before, and not fresh.
        """
        if self._clock() < self._known_until:
            return self._known
        loop = asyncio.get_running_loop()
        flight = self._flight
        if flight is None or flight.loop is not loop or flight.task.done():
            task = loop.create_task(self._ask(), name="armillary-availability")
            flight = self._flight = _Flight(loop, task, self._clock() + _ANSWER_S)
        # Whoever gives up waiting must not end it for the others.
        await asyncio.wait([flight.task], timeout=max(0.0, flight.wait_until - self._clock()))
        return self._known if flight.task.done() else replace(self._known, fresh=False)

    async def reserve(self, wanted: Reservation, *, expires_in_s: float, person: Person | None = None) -> Reservation:
        """Hold what is wanted, in one transaction with the check that it is free; see `CapacityDesk.reserve`."""

        person = person or Person(wanted.user, frozenset(), False)
        ticket_id = new_id()

        def work(connection: Connection) -> Reservation | Waits:
            return begin(connection, self.store, wanted, person, ticket_id=ticket_id, expires_in_s=expires_in_s)

        def decided() -> Reservation | Refusal:
            answer = write(self._database, work)
            if not isinstance(answer, Waits):
                return answer
            title = self.store.rules.titles.get(answer.ticket.accelerator or "", "")
            return queued(answer.looked_up(), self._queue_page, title)

        return await self.decide("hub", decided)

    async def decide(self, door: Literal["hub", "service"], work: Callable[[], T | Refusal]) -> T:
        """Decide about a request, and count the answer; a refusal is raised, also one that `work` returns.

        Raises
        ------
        Refusal
            As of `ask`.
        """
        try:
            with DECISION_SECONDS.labels(door).time():
                answer = await self.ask(work)
            if isinstance(answer, Refusal):
                raise answer
        except Refusal as refusal:
            said = "queued" if refusal.code == "queued" else "refused"
            DECISIONS.labels(door, said, "" if said == "queued" else refusal.code).inc()
            if said == "refused":
                self.refusals.add(door, refusal.code)
            raise
        DECISIONS.labels(door, "queued" if isinstance(answer, Waits) else "admitted", "").inc()
        return answer

    async def ask(self, work: Callable[[], T], *, changes: bool = True) -> T:
        """Decide something, in a thread; if that `changes` what is free, it is looked at anew afterwards.

        Raises
        ------
        Refusal
            That of the decision, or `database-away` (503): nothing was decided, and nothing is lost.
        """
        try:
            granted = await self._in_thread(work)
        except OSError as error:
            raise _away(error) from error
        if changes:
            self._known_until = 0.0  # who asks next sees it
        return granted

    def placing(self, by_hand: bool) -> None:
        """Hear how this hub's spawners are configured, and tell the service and the controller; returns at once."""
        if self._told != by_hand:
            self._told = by_hand
            self._workers().submit(self._tell, by_hand)

    def _tell(self, by_hand: bool) -> None:
        try:
            if read(self._database, placing.said) != by_hand:
                write(self._database, lambda connection: placing.say(connection, by_hand))
        except Exception as error:  # noqa: BLE001  # nobody waits for it; the next spawner that is made tells it
            self._told = None
            _log.warning("How sessions are placed could not be said to the service: %s", error)
        else:
            self._known_until = 0.0

    async def release(self, spawn_id: str) -> None:
        """Give back what was held under this id; nothing happens if nothing is.

        Raises
        ------
        OSError
            The database did not answer; the controller gives it back later.
        """
        await self._in_thread(lambda: write(self._database, lambda connection: ended(connection, spawn_id)))
        self._known_until = 0.0

    async def unwanted(self, spawn_id: str) -> None:
        """End the ticket that this start was asked for by: its server was stopped, and shall not be started again.

        Raises
        ------
        OSError
            The database did not answer.
        """

        def work() -> None:
            # Most servers that are stopped have long been up: no writer has to wait for those.
            if read(self._database, lambda connection: starting_as(connection, spawn_id)) is not None:
                write(self._database, lambda connection: unwanted(connection, spawn_id))

        await self._in_thread(work)

    async def _ask(self) -> None:
        asked = self._clock()
        try:
            self._known = await self._in_thread(lambda: read(self._database, self.store.availability))
        except Exception as error:  # noqa: BLE001  # a form without counts is better than none
            self._known = replace(self._known, fresh=False)
            self._report(error)
        else:
            self._away = False
        self._known_until = asked + _CACHED_S

    def _report(self, error: Exception) -> None:
        """Log once when the database goes away, not at every form that is looked at meanwhile."""
        if self._away:
            return
        self._away = True
        if isinstance(error, OSError):
            _log.error("What is free cannot be read: %s", error)
        else:
            _log.error("What is free cannot be read", exc_info=error)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run this in a thread of the desk's own, so that a slow database keeps nobody else's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._workers(), work)

    def _workers(self) -> ThreadPoolExecutor:
        """Threads do not survive a fork, so a child makes its own."""
        own = os.getpid()
        if self._threads is None or self._threads[0] != own:
            self._threads = (own, ThreadPoolExecutor(_WORKERS, thread_name_prefix="armillary-desk"))
        return self._threads[1]


def _away(error: OSError) -> Refusal:
    text = (
        "Your server was not started, because the database that tells which accelerators are free does not answer. "
        "Nothing of yours is lost. Try again in a minute; if it stays so, tell the administrators."
    )
    said = str(error) if isinstance(error, DatabaseAway) else f"{type(error).__name__}: {error}"
    return Refusal("database-away", text, log=f"database-away: {said}", status=503, headers={"Retry-After": "60"})
