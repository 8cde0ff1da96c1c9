"""What is known of queue, holds and ledger, read from the database for Prometheus by the controller that leads."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from hub.backup.note import MADE, SUBJECT
from hub.db.clock import Now
from hub.db.tables import audit, ledger, reservations, tickets
from hub.db.transaction import read
from hub.metrics import FIGURES, Sample
from profiles.model import NO_ACCELERATOR, Catalogue

__all__ = ["figures", "follow"]

_EVERY_S = 15.0
_OTHER = "other"
"""A profile that the catalogue has no more."""


async def follow(
    database: Engine, slots: int, catalogue: Catalogue, epoch: int, stop: asyncio.Event, every_s: float = _EVERY_S
) -> None:
    """Read the figures again and again until `stop` is set or the lead is lost; then nothing is shown any more."""
    try:
        while not stop.is_set():
            try:
                FIGURES.show(await asyncio.to_thread(read, database, lambda found: figures(found, slots, catalogue)))
            except (SQLAlchemyError, OSError):  # said by whoever needs it
                FIGURES.show({})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), every_s)
    finally:
        FIGURES.show({})


def figures(connection: Connection, slots: int, catalogue: Catalogue) -> Mapping[str, tuple[Sample, ...]]:
    """Return the samples of `hub.metrics.READ` by name.

    Parameters
    ----------
    slots
        How many servers the queue may be starting at once.
    catalogue
        Its accelerators are labels; one that it has no more counts as none.
    """
    now = float(connection.scalar(select(Now())) or 0.0)
    queued: Counter[tuple[str, str]] = Counter()
    table = tickets.c
    for row in connection.execute(
        select(table.state, table.accelerator, func.count().label("many"))
        .where(table.state != "ended")
        .group_by(table.state, table.accelerator)
    ):
        key = row.accelerator if row.accelerator in catalogue.accelerators else NO_ACCELERATOR
        queued[row.state, key] += row.many
    oldest = connection.scalar(select(func.min(table.asked_at)).where(table.state == "waiting"))
    running = ledger.c.folded.is_(False) & ledger.c.closed_at.is_(None)
    seen = select(func.min(ledger.c.beat_at)).join(reservations, reservations.c.id == ledger.c.id)
    beaten = connection.scalar(seen.where(running, reservations.c.seen.is_(True)))
    sessions: Counter[tuple[str, str]] = Counter()
    cards: Counter[tuple[str]] = Counter()
    begun = select(ledger.c.profile, ledger.c.accelerator, func.count().label("many"), func.sum(ledger.c.share))
    begun = begun.join(reservations, reservations.c.id == ledger.c.id).where(running, reservations.c.seen.is_(True))
    for row in connection.execute(begun.group_by(ledger.c.profile, ledger.c.accelerator)):
        profile, accelerator, many, share = tuple[Any, ...](row)
        key = accelerator if accelerator in catalogue.accelerators else NO_ACCELERATOR
        sessions[profile if profile in catalogue.profiles else _OTHER, key] += many
        if share:
            cards[(key,)] += share
    newest = select(func.max(audit.c.at)).where(audit.c.subject == SUBJECT, audit.c.action == MADE)
    copied = connection.scalar(newest)
    taken = sum(many for (state, _), many in queued.items() if state == "starting")
    return {
        "armillary_queue_tickets": tuple((key, float(many)) for key, many in sorted(queued.items())),
        "armillary_queue_oldest_seconds": (((), max(0.0, now - oldest) if oldest is not None else 0.0),),
        "armillary_start_slots": ((("taken",), float(taken)), (("total",), float(slots))),
        "armillary_holds": tuple(((state,), float(many)) for state, many in _holds(connection).items()),
        "armillary_ledger_open_rows": (
            ((), float(connection.scalar(select(func.count()).select_from(ledger).where(running)) or 0)),
        ),
        "armillary_ledger_oldest_heartbeat_seconds": (((), max(0.0, now - beaten) if beaten is not None else 0.0),),
        "armillary_sessions": tuple((key, float(many)) for key, many in sorted(sessions.items())),
        "armillary_usage_cards": tuple((key, float(share)) for key, share in sorted(cards.items())),
        "armillary_audit_entries": (((), float(connection.scalar(select(func.max(audit.c.id))) or 0)),),
        "armillary_backup_age_seconds": (((), max(0.0, now - copied)),) if copied is not None else (),
    }


def _holds(connection: Connection) -> Mapping[str, int]:
    found = {"granted": 0, "begun": 0, "running": 0}
    table = reservations.c
    for row in connection.execute(
        select(table.state, table.seen, func.count().label("many")).group_by(table.state, table.seen)
    ):
        found["granted" if row.state == "granted" else "running" if row.seen else "begun"] += row.many
    return found
