"""Armillary's database, and what the other parts have written there: who leads, the counts, the last copy."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sqlalchemy import Connection, Engine, func, select

from hub.admission.desk import SqlDesk
from hub.backup.note import MADE
from hub.db.clock import Now
from hub.db.engine import shown
from hub.db.tables import audit, lease
from hub.db.transaction import read
from hub.db.upgrade import problem as why_not
from hub.doctor.finding import Finding, good, problem, warning
from hub.doctor.parts import skew
from hub.settings import Settings
from profiles.model import Accelerator, Catalogue
from profiles.model import Engine as EngineKind
from spawner.capacity.availability import Availability

__all__ = ["accelerators", "database"]

_AREA = "Database"
_DAY_S = 86_400.0
_BACKUP_DAYS = 3
_LEADS_WITHIN_S = 6.0


def database(engine: Engine, pause_s: float = _LEADS_WITHIN_S) -> Iterator[Finding]:
    """Look whether it can be used, at its clock, and whether somebody leads. Blocks for up to `pause_s`."""
    wrong = why_not(engine)
    if wrong is not None:
        yield problem(_AREA, wrong, "While it is so nobody is started; sessions that run go on.")
        return
    yield good(_AREA, f"{shown(engine)} is what this version needs")
    began = time.time()
    now = read(engine, lambda connection: float(connection.scalar(select(Now())) or 0.0))
    yield skew("the database", now - (began + time.time()) / 2)
    yield _leader(engine, pause_s)
    made_at = read(engine, lambda connection: connection.scalar(_NEWEST_COPY))
    if made_at is None:
        yield warning(_AREA, "no copy was ever made", "`armillary backup create`, best each night.")
    elif now - float(made_at) > _BACKUP_DAYS * _DAY_S:
        days = (now - float(made_at)) / _DAY_S
        yield warning(_AREA, f"the newest copy is {days:.0f} days old", "See why `armillary backup create` fails.")
    else:
        yield good(_AREA, "there is a copy of the last days")


_NEWEST_COPY = select(func.max(audit.c.at)).where(audit.c.action == MADE)


def _leader(engine: Engine, pause_s: float) -> Finding:
    """Whether the lead is renewed while we look."""

    def look(connection: Connection) -> tuple[object, ...] | None:
        found = select(lease.c.epoch, lease.c.renewals, lease.c.holder).where(lease.c.name == "controller")
        row = connection.execute(found).one_or_none()
        return None if row is None or row.holder is None else tuple(row)

    to_do = "Start one: `armillary controller`, or the chart's Deployment. Without it nothing is counted or promoted."
    before, until = read(engine, look), time.monotonic() + pause_s
    while time.monotonic() < until:
        time.sleep(min(0.5, pause_s))
        now = read(engine, look)
        if now is not None and now != before:
            return good("Controller", f"{now[2]} leads")
    return problem("Controller", "no controller leads", to_do)


def accelerators(engine: Engine, settings: Settings, catalogue: Catalogue) -> Iterator[Finding]:
    """Look which accelerators of the catalogue were seen."""
    desk = SqlDesk.of(settings, catalogue, engine)
    known = read(engine, desk.store.availability)
    if not known.fresh or known.snapshot is None:
        to_do = "See the controller's log: it cannot see the cluster, or this machine's cards."
        yield problem("Accelerators", "the counts are old, or there are none", to_do)
        return
    here = [key for key, card in catalogue.accelerators.items() if _is_of(card, settings.engine)]
    for key in here:
        yield _seen(key, desk.store.rules.titles[key], known)
    if not here:
        yield good("Accelerators", "the catalogue names none")


def _is_of(card: Accelerator, engine: EngineKind) -> bool:
    """Whether the catalogue says how this engine hands it out."""
    return card.kubernetes is not None if engine == "kubernetes" else bool(card.local or card.simulated)


def _seen(key: str, title: str, known: Availability) -> Finding:
    count = known.count(key)
    if count is None or count.unknown:
        return problem("Accelerators", f"{title}: {known.free(key).why}", "See the controller's log.")
    if not count.total:
        to_do = "Compare the catalogue with `armillary discover cluster`: resource, labels, device class."
        return warning("Accelerators", f"{title}: none is there", to_do)
    return good("Accelerators", f"{title}: {count.free} of {count.total} free")
