"""The reconciler's loop, a work of the controller that leads: look, compare, and repair what lasts.

It looks when the lead is taken, again some seconds later, then each minute; while something is suspected, every ten
seconds. Nothing that one look alone has shown of hub or engine is acted on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from hub.admission.desk import SqlDesk
from hub.admission.store import Rules
from hub.controller.lease import StaleEpoch, fenced
from hub.controller.status import Status
from hub.db.transaction import read
from hub.metrics import FINDINGS, REPAIRS
from hub.reconcile.compare import KINDS, Finding, compare
from hub.reconcile.engines import Engine as Sessions
from hub.reconcile.engines import LocalEngine
from hub.reconcile.hub_servers import ActiveServers, HubList
from hub.reconcile.picture import Picture, read_books
from hub.reconcile.repair import IN_DATABASE, adopt, left, note, repair
from hub.secret import ConfigError, service_token
from hub.settings import Settings
from hub.web.place import hub_api_url
from profiles.model import Catalogue

__all__ = ["Reconciler", "Suspicions", "engine_of", "follow"]

_log = logging.getLogger(__name__)

for _kind in KINDS:  # there from the start: of a series that begins at 1 Prometheus sees no increase
    REPAIRS.labels(_kind)

EVERY_S = 60.0
SOON_S = 10.0
_AFRESH_S = 10.0
"""How old what the watch saw may be."""


@dataclass
class Suspicions:
    """Remembers since when something is found, so that only what lasts is acted on. No I/O.

    Parameters
    ----------
    clock
        Seconds that only ever grow.
    """

    clock: Callable[[], float] = time.monotonic
    _since: dict[tuple[str, str], float] = field(default_factory=dict)

    def ripe(self, found: Iterable[Finding]) -> tuple[Finding, ...]:
        """Take over what a look has found; return what has been found by each look for long enough."""
        now, findings = self.clock(), tuple(found)
        before = self._since
        self._since = {key: before.get(key, now) for key in ((one.kind, one.subject) for one in findings)}
        return tuple(one for one in findings if now - self._since[one.kind, one.subject] >= KINDS[one.kind].lasts_s)

    def forget(self, finding: Finding) -> None:
        """Let this begin anew."""
        self._since.pop((finding.kind, finding.subject), None)


class Reconciler:
    """For one event loop.

    Parameters
    ----------
    write
        Run a piece of work in a write transaction that is fenced by the lease.
    expires_in_s
        How long what is held again is kept, should it not be counted.
    clock
        Seconds that only ever grow.
    """

    def __init__(
        self,
        database: Engine,
        write: Callable[[Callable[[Connection], bool]], bool],
        rules: Rules,
        engine: Sessions,
        hub: ActiveServers,
        *,
        expires_in_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._write = write
        self._rules = rules
        self._engine = engine
        self._hub = hub
        self._expires_in_s = expires_in_s
        self._suspicions = Suspicions(clock)
        self.unheard: tuple[str, ...] = ()
        """Who did not tell at the last look: `hub`, `engine`."""

    async def look(self) -> Picture:
        """Ask everybody; the books last."""
        planned = await self._engine.planned()
        running = await self._engine.running()
        hub = await self._hub.active()
        claims = await self._engine.claims()
        books = await asyncio.to_thread(read, self._database, read_books)
        if running is not None:
            strangers = [one for key, one in running.items() if key not in books.held and one.user is None]
            named = [await self._engine.owner(one) for one in strangers]
            running = {**running, **{one.spawn_id: one for one in named if one is not None}}
        return Picture(books, running, hub, planned, claims)

    async def once(self, *, dry_run: bool = False) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
        """Look and repair what has lasted; return what was found, and what of it was repaired."""
        picture = await self.look()
        told = {"hub": picture.hub, "engine": picture.running}
        self.unheard = tuple(name for name, said in told.items() if said is None)
        found = compare(picture)
        ripe = self._suspicions.ripe(found)
        for kind in KINDS:
            FINDINGS.labels(kind).set(sum(one.kind == kind for one in found))
        if dry_run:
            return found, ()
        return found, tuple([one for one in ripe if await self._repair(one, picture)])

    async def _repair(self, finding: Finding, picture: Picture) -> bool:
        if finding.kind in IN_DATABASE:
            done = await self._fenced(partial(repair, finding=finding, rules=self._rules))
        else:
            # Whether it worked is seen, not believed; it is tried again when it has lasted as long once more.
            self._suspicions.forget(finding)
            done = await self._outside(finding, picture)
        if done:
            REPAIRS.labels(finding.kind).inc()
            _log.warning("Repaired: %s. %s", finding, finding.repair)
        return done

    async def _outside(self, finding: Finding, picture: Picture) -> bool:
        """Repair what is not, or not only, in the database."""
        match finding.kind:
            case "session-without-hold":
                server = (picture.hub or {}).get((finding.user, finding.server))
                running = (picture.running or {}).get(finding.subject)
                if running is None:
                    return False
                return await self._fenced(
                    partial(
                        adopt,
                        finding=finding,
                        server=server,
                        devices=running.devices,
                        rules=self._rules,
                        expires_in_s=self._expires_in_s,
                    )
                )
            case "session-without-server":
                return await self._end(finding, picture)
            case "server-of-nothing" | "start-of-left-ticket":
                noted = left if finding.kind == "start-of-left-ticket" else _noted
                if not await self._fenced(partial(noted, finding=finding)):
                    return False
                answer = await self._hub.stop(finding.user, finding.server)
                return answer.word in ("stopped", "pending", "gone")
        return await self._fenced(partial(_noted, finding=finding)) and await self._engine.drop_claim(finding.subject)

    async def _end(self, finding: Finding, picture: Picture) -> bool:
        """End what runs for nobody; the hub is asked about this one server before, for its list may have missed it."""
        running = (picture.running or {}).get(finding.subject)
        if running is None:
            return False
        beside = picture.hub is not None and (finding.user, finding.server) in picture.hub
        if not beside and (await self._hub.look(finding.user, finding.server)).word != "stopped":
            return False
        if not await self._fenced(partial(_noted, finding=finding)):
            return False
        return await self._engine.end(replace(running, user=finding.user, server=finding.server))

    async def _fenced(self, work: Callable[[Connection], bool]) -> bool:
        return await asyncio.to_thread(self._write, work)


def _noted(connection: Connection, finding: Finding) -> bool:
    """Write down what is about to be done outside; so only one that leads does it."""
    note(connection, finding)
    return True


def engine_of(settings: Settings, status: Status | None) -> Sessions:
    """Return what runs sessions here; on Kubernetes through what the controller's watch sees."""
    if settings.engine != "kubernetes":
        return LocalEngine(settings.paths.launches)
    from hub.reconcile.cluster import ClusterSeen, KubernetesEngine

    def seen() -> ClusterSeen | None:
        age = status.publish_age_s if status is not None else None
        return status.cluster if status is not None and age is not None and age <= _AFRESH_S else None

    return KubernetesEngine(seen, settings.kubernetes.namespace)


async def follow(
    database: Engine, settings: Settings, catalogue: Catalogue, status: Status, epoch: int, stop: asyncio.Event
) -> None:
    """Look again and again until `stop` is set, as a work of the controller that leads under this epoch.

    Raises
    ------
    StaleEpoch
        Another controller leads.
    """
    try:
        token = await asyncio.to_thread(service_token, settings)
    except ConfigError as error:
        status.report(f"what hub and engine say is not compared: {error}", _log)
        await stop.wait()
        return
    hub = HubList(hub_api_url(settings), token, slow_start_s=settings.servers.slow_start_s)
    rules = SqlDesk.of(settings, catalogue, database).store.rules
    write = partial(fenced, database, epoch)
    try:
        await keep_looking(Reconciler(database, write, rules, engine_of(settings, status), hub), stop)
    finally:
        FINDINGS.clear()
        await hub.close()


async def keep_looking(reconciler: Reconciler, stop: asyncio.Event) -> None:
    """Look, and again soon after, then each minute; a database that is away is asked again."""
    problem, again = "", True
    while not stop.is_set():
        found: tuple[Finding, ...] = ()
        try:
            found, _ = await reconciler.once()
        except StaleEpoch:
            raise
        except (SQLAlchemyError, OSError) as error:
            said = f"{type(error).__name__}: {str(error)[:300]}"
            if said != problem:
                _log.warning("It cannot be compared what hub, engine and database say; it is tried again: %s", said)
            problem = said
        else:
            problem = ""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), SOON_S if found or problem or again else EVERY_S)
        again = False
