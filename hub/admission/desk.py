"""The desk at which accelerators are handed out: what is free, and holding it, for the hub and the service."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Engine

from hub.admission import reservations
from hub.admission.view import View
from hub.db.transaction import DatabaseAway, read, write
from profiles.model import Catalogue
from profiles.model import Engine as EngineKind
from spawner.capacity.availability import Availability
from spawner.refusal import Refusal
from spawner.reservation import Reservation

__all__ = ["Rule", "SqlDesk"]

T = TypeVar("T")
_log = logging.getLogger(__name__)

_CACHED_S = 1.0
"""How old what is known may be when it is given out."""

_ANSWER_S = 3.0
"""How long a reader waits for a database that does not answer."""

_WORKERS = 8
"""Transactions at once, in threads; writers take turns anyway."""


class Rule(Protocol):
    """Decides whether something may be had: `spawner.capacity.grant.grant`."""

    def __call__(
        self,
        availability: Availability,
        wanted: Reservation,
        catalogue: Catalogue,
        engine: EngineKind,
        *,
        nodes_may_appear: bool = False,
    ) -> Reservation:
        """Return what is granted, with its devices; raises `spawner.refusal.Refusal`."""
        ...


@dataclass(frozen=True)
class _Flight:
    """One question to the database, and until when it is waited for."""

    loop: asyncio.AbstractEventLoop
    task: asyncio.Task[None]
    wait_until: float


class SqlDesk:
    """Implements `spawner.protocols.CapacityDesk` on the database. One for each process; for any event loop of it.

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
    rule
        Decides; default `spawner.capacity.grant.grant`.
    """

    def __init__(
        self,
        database: Engine,
        *,
        engine_kind: EngineKind,
        catalogue: Catalogue,
        stale_after_s: float,
        nodes_may_appear: bool = False,
        rule: Rule | None = None,
    ) -> None:
        self._database = database
        self._kind: EngineKind = engine_kind
        self._catalogue = catalogue
        self._nodes_may_appear = nodes_may_appear
        self._rule = rule or _usual_rule()
        self._view = View(stale_after_s)
        self._known = Availability()
        self._known_until = 0.0
        self._flight: _Flight | None = None
        self._threads: tuple[int, ThreadPoolExecutor] | None = None
        self._away = False

    def __deepcopy__(self, memo: object) -> SqlDesk:
        return self  # traitlets copies configuration; what one knows all shall know

    async def availability(self) -> Availability:
        """Return what is known, at most a second old; however many ask at once, the database is asked once.

        Never raises: where the database does not answer it is what was known before, and not fresh.
        """
        if time.monotonic() < self._known_until:
            return self._known
        loop = asyncio.get_running_loop()
        flight = self._flight
        if flight is None or flight.loop is not loop or flight.task.done():
            task = loop.create_task(self._ask(), name="armillary-availability")
            flight = self._flight = _Flight(loop, task, time.monotonic() + _ANSWER_S)
        # Whoever gives up waiting must not end it for the others.
        await asyncio.wait([flight.task], timeout=max(0.0, flight.wait_until - time.monotonic()))
        return self._known if flight.task.done() else replace(self._known, fresh=False)

    async def reserve(self, wanted: Reservation, *, expires_in_s: float) -> Reservation:
        """Hold what is wanted, in one transaction with the check that it is free; see `CapacityDesk.reserve`."""

        def work(connection: Connection) -> Reservation:
            held = reservations.find(connection, wanted.id)
            if held is not None:
                return held
            known = self._view.of(connection)
            granted = self._rule(known, wanted, self._catalogue, self._kind, nodes_may_appear=self._nodes_may_appear)
            reservations.insert(connection, granted, expires_in_s=expires_in_s)
            return granted

        try:
            granted = await self._in_thread(lambda: write(self._database, work))
        except OSError as error:
            raise _away(error) from error
        self._known_until = 0.0  # who asks next sees it
        return granted

    async def release(self, spawn_id: str) -> None:
        """Give back what was held under this id; nothing happens if nothing is.

        Raises
        ------
        OSError
            The database did not answer; the controller gives it back later.
        """
        await self._in_thread(
            lambda: write(self._database, lambda connection: reservations.delete(connection, (spawn_id,)))
        )
        self._known_until = 0.0

    async def _ask(self) -> None:
        asked = time.monotonic()
        try:
            self._known = await self._in_thread(lambda: read(self._database, self._view.of))
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


def _usual_rule() -> Rule:
    from spawner.capacity.grant import grant

    return grant


def _away(error: OSError) -> Refusal:
    text = (
        "Your server was not started, because the database that tells which accelerators are free does not answer. "
        "Nothing of yours is lost. Try again in a minute; if it stays so, tell the administrators."
    )
    said = str(error) if isinstance(error, DatabaseAway) else f"{type(error).__name__}: {error}"
    return Refusal("database-away", text, log=f"database-away: {said}", status=503, headers={"Retry-After": "60"})
