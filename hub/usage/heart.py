"""The ledger's heartbeat: what the controller that leads does for it, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Protocol

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from hub.controller.lease import fenced
from hub.metrics import CHARGED, HEARTBEAT_SECONDS, HEARTBEATS
from hub.settings.quotas import QuotaSettings
from hub.usage.ledger import HEARTBEAT_S, Ran, beat
from hub.usage.rollup import FOLD_EVERY_S, fold

__all__ = ["BEAT_EVERY_S", "Heart", "Known", "follow"]

_log = logging.getLogger(__name__)

BEAT_EVERY_S = HEARTBEAT_S / 2
"""How often sessions are charged. Twice as often as promised: when a controller dies, its successor needs some seconds,
and what a crash loses stays below one heartbeat of 30 s all the same."""

_PAUSE_S = 1.0
"""Pause after a database that did not answer, and while it cannot be seen what runs."""

_TRUE_FOR_S = 10.0
"""How old the counts may be by which sessions are taken to run; they are published every 3 s."""


class Known(Protocol):
    """What the controller knows of itself: `hub.controller.status.Status`."""

    running: Mapping[str, Ran] | None

    @property
    def publish_age_s(self) -> float | None:
        """Seconds since counts were last published; None: never."""
        ...

    def report(self, problem: str, log: logging.Logger) -> None:
        """Note what is wrong."""
        ...


class Heart:
    """Charges the sessions that run, and folds the sums of days every few minutes. One for each lease. Blocks.

    Parameters
    ----------
    engine
        Armillary's database.
    epoch
        That of the lease: of one that no longer leads nothing is written.
    zone, half_life_s
        Of `hub.usage.rollup.fold`.
    clock
        Seconds that only ever grow: by it a database's clock that was set is found out.
    """

    def __init__(
        self,
        engine: Engine,
        epoch: int,
        zone: tzinfo,
        half_life_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._epoch = epoch
        self._zone = zone
        self._half_life_s = half_life_s
        self._clock = clock
        self._beaten: Mapping[str, float] = {}
        self._folded_at: float | None = None

    def beat(self, running: Mapping[str, Ran]) -> int:
        """Charge these up to now; return how many rows there were.

        Raises
        ------
        hub.controller.lease.StaleEpoch
            Another controller leads: nothing was written.
        hub.db.transaction.DatabaseAway
            Nothing was written, or it is not known; the next heartbeat catches up in either case.
        """
        now = self._clock()
        marked = {
            key: ran._replace(lasted_s=now - self._beaten[key]) if key in self._beaten else ran
            for key, ran in running.items()
        }
        folds = self._folded_at is None or now - self._folded_at >= FOLD_EVERY_S
        # Should it fail it is not known which rows were beaten: then only the database's clock tells the next time.
        self._beaten = {}
        count = fenced(self._engine, self._epoch, lambda connection: beat(connection, marked))
        self._beaten = dict.fromkeys(running, now)
        if folds:
            fenced(self._engine, self._epoch, lambda connection: fold(connection, self._zone, self._half_life_s))
            self._folded_at = now
        return count


async def follow(
    engine: Engine,
    settings: QuotaSettings,
    known: Known,
    epoch: int,
    stop: asyncio.Event,
    every_s: float = BEAT_EVERY_S,
) -> None:
    """Beat until `stop` is set, as a work of the controller that leads; a database that is away is asked again soon.

    What cannot be seen is not charged; when it is seen again, and still runs, its next heartbeat catches up.

    Raises
    ------
    hub.controller.lease.StaleEpoch
        Another controller leads.
    """
    heart = Heart(engine, epoch, settings.zone, settings.half_life_days * 86_400)
    while not stop.is_set():
        pause = _PAUSE_S
        age = known.publish_age_s
        if known.running is not None and age is not None and age <= _TRUE_FOR_S:
            try:
                with HEARTBEAT_SECONDS.time():
                    CHARGED.set(await asyncio.to_thread(heart.beat, known.running))
                HEARTBEATS.labels("written").inc()
                pause = every_s
            except (SQLAlchemyError, OSError) as error:
                HEARTBEATS.labels("failed").inc()
                known.report(f"the ledger could not be written: {error}", _log)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)
