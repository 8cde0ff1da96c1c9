"""One run of the reconciler by command: two looks, so that what lasts can be told from what passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from sqlalchemy import Connection, Engine, select

from hub.admission.desk import SqlDesk
from hub.catalogue import load_catalogue
from hub.controller.lease import CONTROLLER, StaleEpoch, fenced
from hub.db.address import database_url
from hub.db.engine import connect
from hub.db.tables import lease
from hub.db.transaction import read
from hub.reconcile.compare import KINDS, Finding
from hub.reconcile.engines import Engine as Sessions
from hub.reconcile.hub_servers import HubList
from hub.reconcile.loop import SOON_S, Reconciler, engine_of
from hub.secret import service_token
from hub.settings import Settings
from hub.web.place import hub_api_url
from profiles.model import Catalogue

__all__ = ["report", "run"]

_LOADED_S = 60.0


def run(settings: Settings, *, dry_run: bool) -> int:
    """Look twice, repair what lasts, and say all of it; return 1 if anything was found, else 0. Blocks.

    Repairs are fenced by the epoch of the controller that leads: should another take over meanwhile, nothing is done.

    Raises
    ------
    hub.controller.lease.StaleEpoch
        Nobody leads, or another one by now.
    hub.secret.ConfigError, hub.db.address.AddressError, hub.db.transaction.DatabaseAway, profiles.loader.CatalogueError
        What is needed for it cannot be used.
    """
    catalogue = load_catalogue(settings)
    database = connect(database_url(settings))
    try:
        return asyncio.run(_run(settings, catalogue, database, dry_run))
    finally:
        database.dispose()


async def _run(settings: Settings, catalogue: Catalogue, database: Engine, dry_run: bool) -> int:
    write = _nothing if dry_run else partial(fenced, database, await asyncio.to_thread(read, database, _epoch))
    rules = SqlDesk.of(settings, catalogue, database).store.rules
    hub = HubList(hub_api_url(settings), service_token(settings), slow_start_s=settings.servers.slow_start_s)
    engine, close = await _engine(settings, catalogue)
    reconciler = Reconciler(database, write, rules, engine, hub)
    try:
        found, repaired = await reconciler.once(dry_run=dry_run)
        if found:
            await asyncio.sleep(SOON_S)
            still, again = await reconciler.once(dry_run=dry_run)
            # Of what is gone by itself nobody need hear; what was repaired at once is not found again.
            found, repaired = (*still, *repaired), (*repaired, *again)
    finally:
        await hub.close()
        await close()
    for line in report(found, repaired, dry_run=dry_run, unheard=reconciler.unheard):
        print(line)
    return 1 if found else 0


def report(
    found: Iterable[Finding], repaired: Iterable[Finding], *, dry_run: bool, unheard: Iterable[str] = ()
) -> list[str]:
    """Return what is said of findings and repairs, line by line; `unheard`: who did not tell."""
    done = {(one.kind, one.subject) for one in repaired}
    lines = []
    for one in dict.fromkeys(found):
        if (one.kind, one.subject) in done:
            what = f"Repaired: {one.repair}"
        elif dry_run:
            what = f"Would be repaired: {one.repair}"
        else:
            what = f"Left: the controller repairs it when it has lasted {KINDS[one.kind].lasts_s:g} s. {one.repair}"
        lines.append(f"{one}\n    {what}")
    missing = [f"The {name} does not answer; what it would tell was not compared." for name in unheard]
    return [*(lines or ["Queue and ledger agree." if missing else "Hub, engine, queue and ledger agree."]), *missing]


def _epoch(connection: Connection) -> int:
    row = connection.execute(select(lease).where(lease.c.name == CONTROLLER)).one_or_none()
    if row is None or row.holder is None:
        raise StaleEpoch("no controller leads")
    return int(row.epoch)


def _nothing(work: Callable[[Connection], bool]) -> bool:
    return False


async def _engine(settings: Settings, catalogue: Catalogue) -> tuple[Sessions, Callable[[], asyncio.Future[object]]]:
    """Return what runs sessions here, and what lets go of it; a cluster is watched for a moment."""
    loop = asyncio.get_running_loop()
    if settings.engine != "kubernetes":
        return engine_of(settings, None), lambda: asyncio.ensure_future(asyncio.sleep(0))
    from hub.reconcile.cluster import KubernetesEngine, look_at
    from spawner.capacity.watch import ClusterWatch

    watch = ClusterWatch(catalogue, settings.kubernetes.namespace, settings.kubernetes.tolerations)
    await watch.start()
    deadline = loop.time() + _LOADED_S
    while not watch.loaded:
        if loop.time() > deadline:
            await watch.stop()
            raise OSError(f"the cluster did not answer within {_LOADED_S:g} s")
        await asyncio.sleep(0.2)
    seen = KubernetesEngine(
        lambda: None if watch.blind_because else look_at(watch.state), settings.kubernetes.namespace
    )
    return seen, lambda: asyncio.ensure_future(watch.stop())
