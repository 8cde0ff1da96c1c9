"""What the counting loop of an engine is, and what it publishes through."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from hub.admission import reservations
from hub.controller.publish import publish
from hub.controller.status import Status
from hub.db.transaction import read
from hub.metrics import PUBLICATIONS
from hub.settings import Settings
from hub.usage.ledger import Ran
from profiles.model import Catalogue
from spawner.capacity.model import Snapshot
from spawner.reservation import Reservation

__all__ = ["DATABASE_AWAY", "Loop", "Publisher"]

_log = logging.getLogger(__name__)

DATABASE_AWAY = (SQLAlchemyError, OSError)
"""What a database raises that does not answer as it should."""


class Publisher:
    """The way of one leader's counts into the database; each write carries its epoch.

    Parameters
    ----------
    engine
        Armillary's database.
    epoch
        That of the lease under which the loop runs.
    status
        Where successes are noted.
    """

    def __init__(self, engine: Engine, epoch: int, status: Status) -> None:
        self._engine = engine
        self._epoch = epoch
        self.status = status

    async def reservations(self) -> tuple[Reservation, ...]:
        """Return all that are held.

        Raises
        ------
        SQLAlchemyError, OSError
            The database cannot be read.
        """
        return tuple(await asyncio.to_thread(read, self._engine, reservations.all))

    async def publish(
        self,
        snapshot: Snapshot,
        *,
        seen: Iterable[str] = (),
        gone: Iterable[str] = (),
        ran: Mapping[str, Ran] = MappingProxyType({}),
    ) -> None:
        """Publish counts, mark what they show as `seen`, and give back what is `gone`, in one transaction.

        Parameters
        ----------
        ran
            What is known of those that are seen, for the ledger.

        Raises
        ------
        StaleEpoch
            Another controller leads now: the loop must end at once, without acting any more.
        SQLAlchemyError, OSError
            The database cannot be written; to be tried again.
        """
        counted = tuple(seen)
        await asyncio.to_thread(publish, self._engine, self._epoch, snapshot, seen=counted, gone=tuple(gone))
        PUBLICATIONS.labels("published").inc()
        blind = snapshot.blind_since is not None
        self.status.running = None if blind else {key: ran.get(key, Ran()) for key in counted}
        self.status.published()

    def failed(self, error: Exception) -> None:
        """Note that counts could not be published, because of one of `DATABASE_AWAY`; it is tried again."""
        PUBLICATIONS.labels("failed").inc()
        self.status.report(f"counts could not be published: {error}", _log)


class Loop(Protocol):
    """What counts for one engine: `hub.controller.kubernetes.run` and `hub.controller.local.run`."""

    async def __call__(
        self, settings: Settings, catalogue: Catalogue, publisher: Publisher, stop: asyncio.Event
    ) -> None:
        """Publish on change and at least every 3 s, until `stop` is set.

        Problems of the source and of the database are reported and tried again within; StaleEpoch is raised on.
        """
        ...
