"""Whether the service is well: for probes, the launcher and operators. Says nothing that is not for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import Engine as Database
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from hub.controller.publish import CAPACITY
from hub.controller.status import Status
from hub.db.tables import snapshot
from hub.db.transaction import read
from hub.web.live import EVERY_S, Live
from hub.web.problems import Problem

__all__ = ["ControllerHealth", "CountsHealth", "Health", "WhereTheCountsAre", "health"]

_ANSWERS_WITHIN_S = 5.0
_SILENT_S = 10 * EVERY_S


class ControllerHealth(BaseModel):
    """The controller that shares the service's process."""

    here: bool = Field(description="Whether there is one in this process; else the rest means nothing.")
    leading: bool = Field(default=False, description="Whether it is the one that acts; another may be.")
    working: bool = Field(default=False, description="Whether it runs; no while it is begun again after a crash.")
    blind: bool = Field(default=False, description="Whether it cannot see what it counts (API server, NVML).")
    troubled: bool = Field(default=False, description="Whether something is wrong that its log tells.")
    crashes: int = Field(default=0, description="How often it was begun again since the start.")


class CountsHealth(BaseModel):
    """The counts as this service reads them; they may be old while the service is well."""

    fresh: bool = Field(description="Whether they may be taken for the truth.")
    as_of: str | None = Field(description="When they were last known to be true, in UTC; null: never.")
    sequence: int | None = Field(description="Grows whenever counts are published; null while nobody can tell.")


class Health(BaseModel):
    """How the service is."""

    status: str = Field(description="`ok`; all else is a problem with status 503.")
    version: str = Field(description="Of Armillary.")
    controller: ControllerHealth
    counts: CountsHealth


class WhereTheCountsAre:
    """Armillary's database: how often counts were published there. Cheap, and asked for by one at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asking: asyncio.Task[int] | None = None

    async def sequence(self) -> int:
        """Return the number of the newest counts; 0: there never were any.

        Raises
        ------
        OSError
            The database did not answer (in time).
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(asyncio.to_thread(self._read))
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            # Shielded: a thread cannot be stopped, and those who ask next shall not begin further ones.
            return await asyncio.shield(self._asking)

    def _read(self) -> int:
        query = select(snapshot.c.sequence).where(snapshot.c.name == CAPACITY)
        try:
            return int(read(self._database, lambda connection: connection.scalar(query)) or 0)
        except SQLAlchemyError as error:
            raise OSError(f"the database cannot be read: {type(error).__name__}") from error


async def health(
    where: WhereTheCountsAre, live: Live, controller: Callable[[], ControllerHealth], version: str
) -> Health:
    """Return how the service is.

    Raises
    ------
    Problem
        `not-well`, with every reason.
    """
    reasons = []
    try:
        await where.sequence()
    except OSError:
        reasons.append("its database cannot be read (the log tells why)")
    if live.closing:
        reasons.append("it is ending")
    elif live.silent_s is not None and live.silent_s > _SILENT_S:
        reasons.append(f"it has not read the counts for {live.silent_s:.0f} s")
    said: dict[str, Any] = {"version": version, "controller": controller(), "counts": _counts(live)}
    if reasons:
        more = {"reasons": reasons, **{key: value for key, value in said.items() if key == "version"}}
        more |= {key: said[key].model_dump() for key in ("controller", "counts")}
        raise Problem("not-well", f"The service is not well: {'; '.join(reasons)}.", more=more)
    return Health(status="ok", **said)


def controller_health(status: Status | None, *, working: bool, crashes: int) -> ControllerHealth:
    """Return what is said of the controller in this process; `status` None: there is none."""
    if status is None:
        return ControllerHealth(here=False)
    return ControllerHealth(
        here=True,
        leading=working and status.leading,
        working=working,
        blind=bool(status.blind_because),
        troubled=bool(status.problem),
        crashes=crashes,
    )


def _counts(live: Live) -> CountsHealth:
    reading = live.reading
    if reading is None:
        return CountsHealth(fresh=False, as_of=None, sequence=None)
    return CountsHealth(fresh=reading.availability.fresh, **reading.beat())
