"""What one process knows of the published snapshot, and for how long it may be taken for the truth."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError
from sqlalchemy import Connection, select

from hub.admission.memory import Sight
from hub.controller.publish import CAPACITY
from hub.db.tables import snapshot as table
from spawner.capacity.availability import Availability
from spawner.capacity.model import Snapshot, from_json

__all__ = ["View"]

_log = logging.getLogger(__name__)

_DOCUMENT = select(table.c.document).where(table.c.name == CAPACITY)


@dataclass(frozen=True)
class _Seen:
    """A snapshot as it was first met here: `good_until` is on this process' clock."""

    sequence: int
    published_at: float
    snapshot: Snapshot | None
    good_until: float


class View:
    """Reads the snapshot, and judges how old it is. For several threads.

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

    def of(self, connection: Connection, sight: Sight) -> Availability:
        """Return what is known in this transaction, in which this was seen."""
        held, by_hand = sight.known.reservations, sight.published.by_hand
        seen = self._look(connection, sight)
        if seen is None or seen.snapshot is None:
            return Availability(reservations=held, by_hand=by_hand)
        blind_since = seen.snapshot.blind_since
        fresh = blind_since is None and self._clock() < seen.good_until
        as_of = blind_since or datetime.fromtimestamp(seen.published_at, UTC)
        return Availability(seen.snapshot, fresh, as_of, held, by_hand)

    def _look(self, connection: Connection, sight: Sight) -> _Seen | None:
        sequence, published_at, _ = sight.published
        if not sequence:
            return None
        with self._lock:
            if self._seen is None or (self._seen.sequence, self._seen.published_at) != (sequence, published_at):
                # Reading the document takes longer than all the rest: once for each that is published.
                document = str(connection.scalar(_DOCUMENT))
                good_for = self._stale_after_s - max(0.0, sight.now - published_at)
                self._seen = _Seen(sequence, published_at, _parsed(document), self._clock() + good_for)
            return self._seen


def _parsed(document: str) -> Snapshot | None:
    try:
        return from_json(document)
    except ValidationError:
        _log.error("The published counts are of another version; until this one's controller counts, none are known")
        return None
