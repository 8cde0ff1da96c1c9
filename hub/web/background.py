"""The controller beside the service in one process: in a thread with an event loop of its own.

A thread rather than the service's loop: ten thousand pods are read from JSON in one piece, and no page shall wait for
that longer than Python's switch between threads takes (5 ms). Whatever happens to the controller, the service goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from hub.controller.status import Status
from hub.web.health import ControllerHealth, controller_health

__all__ = ["Background"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class Background:
    """Keeps a controller running.

    Parameters
    ----------
    begin
        Runs it until the event is set: `hub.controller.main.run`.
    status
        What it says of itself.
    first_pause_s
        Pause before it is begun again after a crash; doubles with each that follows soon.
    """

    def __init__(
        self,
        begin: Callable[[asyncio.Event], Coroutine[Any, Any, None]],
        status: Status,
        *,
        first_pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        self.status = status
        self._begin = begin
        self._first_pause_s = first_pause_s
        self._crashes = 0
        self._working = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._keep()), name="armillary-controller")

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.daemon = True  # a controller that cannot be stopped must not keep the process
        self._thread.start()

    def stop(self, within_s: float) -> bool:
        """Ask it to end and wait for that; returns whether it has ended. Blocks."""
        if self._thread.ident is None:
            return True
        self._begun.wait(within_s)
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def health(self) -> ControllerHealth:
        """Return how it is."""
        return controller_health(self.status, working=self._working and self._thread.is_alive(), crashes=self._crashes)

    async def _keep(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._begun.set()
        pause_s = self._first_pause_s
        while not self._stop.is_set():
            began = self._loop.time()
            self._working = True
            try:
                await self._begin(self._stop)
                if self._stop.is_set():
                    return
                _log.error("The controller has ended by itself; it is begun again")
            except Exception:  # noqa: BLE001  # whatever it is, counting must go on
                _log.exception("The controller has crashed; it is begun again")
            finally:
                self._working = False
            self._crashes += 1
            if self._loop.time() - began > 2 * _LONGEST_PAUSE_S:
                pause_s = self._first_pause_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stop.wait()
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
