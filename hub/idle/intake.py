"""Takes measures of many sessions and writes them together: one durable commit for all that arrive in half a second."""

from __future__ import annotations

import asyncio
from collections import deque

from sqlalchemy import Engine

from hub.db.transaction import write
from hub.idle.sessions import Arrived, measured
from hub.settings.idle import IdleSettings

__all__ = ["Intake"]

_GATHER_S = 0.5
_AT_ONCE = 500


class Intake:
    """For one event loop.

    Parameters
    ----------
    gather_s
        How long further ones are waited for before some are written.
    """

    def __init__(self, database: Engine, settings: IdleSettings, *, gather_s: float = _GATHER_S) -> None:
        self._database = database
        self._settings = settings
        self._gather_s = gather_s
        self._waiting: deque[tuple[Arrived, asyncio.Future[str | None]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def put(self, arrived: Arrived) -> str | None:
        """Return, once it is written, of which session this was; None: nothing is held for that server.

        Raises
        ------
        hub.db.transaction.DatabaseAway
            It could not be written.
        """
        done: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrived, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write(), name="armillary-measures")
        return await done

    async def _write(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._gather_s)
            some = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
            arrived = [one for one, _ in some]
            try:
                ids = await asyncio.to_thread(
                    write, self._database, lambda found, new=arrived: measured(found, new, self._settings)
                )
            except Exception as error:  # noqa: BLE001  # whoever waits is told, whatever it is
                for _, done in some:
                    if not done.done():
                        done.set_exception(error)
                continue
            for (_, done), id in zip(some, ids, strict=True):
                if not done.done():  # whoever sent it may have gone meanwhile
                    done.set_result(id)
