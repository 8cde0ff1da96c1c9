"""The controller's loop over running sessions: look, announce, stop; under its lease, as everything that it writes.

Whether a session works is told by its own measures; only of one that makes none the hub is asked, and Prometheus where
there is one. Stops go through the hub, which tells the spawner; a hub that is away is asked again, and nothing is given
back before the session is really gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from hub import notices
from hub.admission import reservations
from hub.controller.lease import StaleEpoch, fenced
from hub.db.transaction import read
from hub.idle import watch
from hub.idle.budgets import Charged, Payer
from hub.idle.hub_sessions import HubSessions, Sessions
from hub.idle.prometheus import Prometheus
from hub.idle.watch import Ending, Hints, Seen
from hub.metrics import BUDGETS, STOPS
from hub.secret import service_token
from hub.settings import Settings
from hub.web.place import hub_api_url
from profiles.model import Catalogue

__all__ = ["STOPS", "Keeper", "follow", "prometheus_of"]

_log = logging.getLogger(__name__)

_LOOK_S = 5.0
"""How often sessions are looked at: how much later than announced a stop may come."""

_BUDGETS_S = 30.0
"""How often budgets are added up; as often as the ledger's heartbeat."""

_ASK_S = 60.0
"""How often the hub is asked about one session, at most."""

_PROMETHEUS_S = 60.0
_SWEEP_S = 3600.0
_AGAIN_S = 15.0
"""After how long the hub is asked again to stop a session that is still there."""

_NEAR = 0.8
"""Part of a budget from which it counts as nearly used up; people are told then, too."""

_AT_ONCE = 8
"""Questions to the hub at the same moment."""


def prometheus_of(settings: Settings) -> Prometheus | None:
    """Return the Prometheus of the settings; None: there is none, or the engine has no pods."""
    if settings.idle.prometheus_url is None or settings.engine != "kubernetes":
        return None
    query = settings.idle.prometheus_query.format(namespace=settings.kubernetes.namespace)
    return Prometheus(settings.idle.prometheus_url, query)


async def follow(
    engine: Engine,
    settings: Settings,
    catalogue: Catalogue,
    pods: Callable[[], Mapping[str, str]],
    epoch: int,
    stop: asyncio.Event,
) -> None:
    """Look after running sessions until `stop` is set, as a work of the controller that leads.

    Raises
    ------
    StaleEpoch
        Another controller leads.
    hub.secret.ConfigError
        There is no token with which the hub could be asked.
    """
    token = await asyncio.to_thread(service_token, settings)
    hub = HubSessions(hub_api_url(settings), token, slow_start_s=settings.servers.slow_start_s)
    keeper = Keeper(settings, catalogue, engine, epoch, hub, prometheus=prometheus_of(settings), pods=pods)
    try:
        await keeper.run(stop)
    finally:
        await hub.close()


def _show(budgets: Mapping[Payer, tuple[Charged, ...]]) -> None:
    """Count each budget once, however many sessions use it."""
    each = {(one.subject, one.budget.field): one.budget for some in budgets.values() for one in some}
    states = Counter("spent" if one.spent else "near" if one.reached(_NEAR) else "open" for one in each.values())
    for state in ("open", "near", "spent"):
        BUDGETS.labels(state).set(states[state])


@dataclass
class _Told:
    """What somebody else told last, and when, on the loop's clock."""

    at: float
    value: float | None
    """None: it gave no answer."""


class Keeper:
    """Looks after running sessions. For one event loop, under one epoch of the lease.

    Parameters
    ----------
    hub
        What stops sessions, and knows when one was used.
    pods
        Return the pods of sessions by spawn id, for what Prometheus tells; default: there are none.
    look_s, again_s
        How often sessions are looked at, and the hub asked again to stop one.
    clock
        Seconds that only ever grow.
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        engine: Engine,
        epoch: int,
        hub: Sessions,
        *,
        prometheus: Prometheus | None = None,
        pods: Callable[[], Mapping[str, str]] = dict,
        look_s: float = _LOOK_S,
        again_s: float = _AGAIN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._engine = engine
        self._epoch = epoch
        self._hub = hub
        self._prometheus = prometheus
        self._pods = pods
        self._look_s = look_s
        self._again_s = again_s
        self._clock = clock
        self._budgets: Mapping[Payer, tuple[Charged, ...]] = {}
        self._budgets_at: float | None = None
        self._unused: dict[str, _Told] = {}
        self._stopping: dict[str, asyncio.Task[None]] = {}
        self._counted: set[str] = set()
        self._asked_prometheus_at: float | None = None
        self._swept_at: float | None = None
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._problem = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Look after sessions until `stop` is set. A database that is away is tried again.

        Raises
        ------
        StaleEpoch
            Another controller leads.
        """
        try:
            while not stop.is_set():
                try:
                    await self.look()
                except StaleEpoch:
                    raise
                except (SQLAlchemyError, OSError) as error:
                    self._report(f"{type(error).__name__}: {str(error)[:300]}")
                else:
                    self._report("")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self._look_s)
        finally:
            await self.close()

    async def look(self) -> tuple[Ending, ...]:
        """Look at every session once, write down what is new, and begin the stops that are due; return these."""
        now = self._clock()
        anew = self._budgets_at is None or now - self._budgets_at >= _BUDGETS_S
        known = None if anew else self._budgets
        seen = await asyncio.to_thread(read, self._engine, lambda found: watch.look(found, self._settings, known))
        if anew:
            self._budgets, self._budgets_at = seen.budgets, now
            _show(seen.budgets)
        hints = Hints(await self._ask_hub(seen, now), await self._ask_prometheus(seen, now))
        await self._sweep(now)
        if not anew and not watch.news(seen, hints, self._settings, self._catalogue):
            return ()
        endings = await asyncio.to_thread(
            fenced,
            self._engine,
            self._epoch,
            lambda found: watch.settle(found, seen, hints, self._settings, self._catalogue, warn=anew),
        )
        for ending in endings:
            self._stop(ending)
        return endings

    async def close(self) -> None:
        """Let go of stops that the hub is being asked for; whoever comes next asks again."""
        tasks = list(self._stopping.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        _show({})

    # --- what others know ------------------------------------------------------------------------------------------

    async def _ask_hub(self, seen: Seen, now: float) -> dict[str, float]:
        wanted = watch.questions(seen, self._settings)
        due = [one for one in wanted if one.id not in self._unused or now - self._unused[one.id].at >= _ASK_S]

        async def ask(id: str, user: str, server: str) -> None:
            async with self._slots:
                unused = await self._hub.unused_s(user, server)
            self._unused[id] = _Told(now, unused)

        await asyncio.gather(*(ask(one.id, one.user, one.server) for one in due))
        self._unused = {id: told for id, told in self._unused.items() if id in seen.held}
        self._counted &= seen.held.keys()
        ids = {one.id for one in wanted}
        # The age of an answer adds to nothing: somebody may have come since. It is renewed within a minute.
        return {id: told.value for id, told in self._unused.items() if id in ids and told.value is not None}

    async def _ask_prometheus(self, seen: Seen, now: float) -> frozenset[str]:
        if self._prometheus is None:
            return frozenset()
        if self._asked_prometheus_at is not None and now - self._asked_prometheus_at < _PROMETHEUS_S:
            return frozenset()
        self._asked_prometheus_at = now
        used = await self._prometheus.utilisation()
        least = self._settings.idle.busy_accelerator
        return frozenset(id for id, pod in self._pods().items() if id in seen.held and used.get(pod, 0.0) >= least)

    async def _sweep(self, now: float) -> None:
        if self._swept_at is None or now - self._swept_at >= _SWEEP_S:
            await asyncio.to_thread(fenced, self._engine, self._epoch, notices.sweep)
            self._swept_at = now

    # --- stops -------------------------------------------------------------------------------------------------------

    def _stop(self, ending: Ending) -> None:
        """Begin to ask the hub, unless that is being done."""
        if ending.spawn_id not in self._counted:
            self._counted.add(ending.spawn_id)
            STOPS.labels(ending.because).inc()
        if ending.spawn_id not in self._stopping:
            task = asyncio.create_task(self._ask_to_stop(ending), name=f"armillary-stop-{ending.spawn_id}")
            self._stopping[ending.spawn_id] = task
            task.add_done_callback(lambda done: self._over(ending, done))

    async def _ask_to_stop(self, ending: Ending) -> None:
        async with self._slots:
            if not await self._still_there(ending):
                return  # what runs under this name now is another session
            answer = await self._hub.stop(ending.user, ending.server)
        level = logging.INFO if answer.word in ("stopped", "pending", "gone") else logging.WARNING
        _log.log(
            level, "%r/%r is stopped (%s): %s %s", ending.user, ending.server, ending.because, answer.word, answer.text
        )
        # What is given back is given back by the spawner; until then the session is looked at, and asked about, again.
        await asyncio.sleep(max(self._again_s, answer.wait_s))

    async def _still_there(self, ending: Ending) -> bool:
        try:
            held = await asyncio.to_thread(read, self._engine, lambda found: reservations.find(found, ending.spawn_id))
        except (SQLAlchemyError, OSError):
            return False  # it is looked at again
        return held is not None

    def _over(self, ending: Ending, task: asyncio.Task[None]) -> None:
        self._stopping.pop(ending.spawn_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("Stopping %r/%r has failed", ending.user, ending.server, exc_info=error)

    def _report(self, problem: str) -> None:
        if problem and problem != self._problem:
            _log.warning("Running sessions cannot be looked after; it is tried again: %s", problem)
        elif self._problem and not problem:
            _log.info("Running sessions are looked after again")
        self._problem = problem
