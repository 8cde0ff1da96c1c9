"""What one process knows of the published snapshot, and for how long it may be taken for the truth."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError
from sqlalchemy import Connection, case, select

from hub.admission import reservations
from hub.admission.placing import BY_HAND, PLACING
from hub.controller.publish import CAPACITY
from hub.db.clock import Now
from hub.db.tables import snapshot as table
from spawner.capacity.availability import Availability
from spawner.capacity.model import Snapshot, from_json
from spawner.reservation import Reservation

__all__ = ["View"]

_log = logging.getLogger(__name__)

_PUBLISHED = select(
    table.c.name,
    table.c.sequence,
    table.c.published_at,
    (Now() - table.c.published_at).label("age"),
    case((table.c.name == PLACING, table.c.document)).label("said"),
).where(table.c.name.in_((CAPACITY, PLACING)))

_DOCUMENT = select(table.c.document).where(table.c.name == CAPACITY)


@dataclass(frozen=True)
class _Seen:
    """A snapshot as it was first met here: `good_until` is on this process' clock."""

    sequence: int
    published_at: float
    snapshot: Snapshot | None
    good_until: float


class View:
    """Reads the snapshot and the reservations, and judges how old the snapshot is. For several threads.

    The age of a snapshot at its first sight is the difference of two readings of the database's clock; from there on
    this process' monotonic clock counts. So no two machines' clocks are compared, and while nothing new is published
    even a clock that is set back makes nothing young again.

    Parameters
    ----------
    stale_after_s
        From this age on a snapshot is no truth any more.
    clock
        Seconds that only ever grow.
    """

    def __init__(self, stale_after_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stale_after_s = stale_after_s
        self._clock = clock
        self._seen: _Seen | None = None
        self._lock = threading.Lock()

    def of(self, connection: Connection, held: tuple[Reservation, ...] | None = None) -> Availability:
        """Return what is known in this transaction.

        Parameters
        ----------
        held
            Every reservation, where the caller has read them; None: they are read here.
        """
        held = reservations.all(connection) if held is None else held
        seen, by_hand = self._look(connection)
        if seen is None or seen.snapshot is None:
            return Availability(reservations=held, by_hand=by_hand)
        blind_since = seen.snapshot.blind_since
        fresh = blind_since is None and self._clock() < seen.good_until
        as_of = blind_since or datetime.fromtimestamp(seen.published_at, UTC)
        return Availability(seen.snapshot, fresh, as_of, held, by_hand)

    def _look(self, connection: Connection) -> tuple[_Seen | None, bool]:
        """Return the snapshot, and whether the hub's own lines place every session."""
        rows = {row.name: row for row in connection.execute(_PUBLISHED)}
        by_hand = PLACING in rows and rows[PLACING].said == BY_HAND
        row = rows.get(CAPACITY)
        if row is None:
            return None, by_hand
        with self._lock:
            if self._seen is None or (self._seen.sequence, self._seen.published_at) != (row.sequence, row.published_at):
                # Reading the document takes longer than all the rest: once for each that is published.
                document = str(connection.scalar(_DOCUMENT))
                good_for = self._stale_after_s - max(0.0, row.age)
                self._seen = _Seen(row.sequence, row.published_at, _parsed(document), self._clock() + good_for)
            return self._seen, by_hand


def _parsed(document: str) -> Snapshot | None:
    try:
        return from_json(document)
    except ValidationError:
        _log.error("The published counts are of another version; until this one's controller counts, none are known")
        return None
