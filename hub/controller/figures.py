"""What is known of queue, holds and ledger, read from the database for Prometheus by the controller that leads."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from hub.db.clock import Now
from hub.db.tables import ledger, reservations, tickets
from hub.db.transaction import read
from hub.metrics import FIGURES, Sample
from profiles.model import NO_ACCELERATOR, Catalogue

__all__ = ["figures", "follow"]

_EVERY_S = 15.0


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
    }


def _holds(connection: Connection) -> Mapping[str, int]:
    found = {"granted": 0, "begun": 0, "running": 0}
    table = reservations.c
    for row in connection.execute(
        select(table.state, table.seen, func.count().label("many")).group_by(table.state, table.seen)
    ):
        found["granted" if row.state == "granted" else "running" if row.seen else "begun"] += row.many
    return found
