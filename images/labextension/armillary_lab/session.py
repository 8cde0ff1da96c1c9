"""The session's view of itself: measures every 30 s, sends that, and keeps what the service answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from armillary_lab.activity import Connections, Kernels, Requests, Signs, kernels_of
from armillary_lab.devices import Cards
from armillary_lab.processes import Meter, Usage
from armillary_lab.service import Refused, Service
from armillary_lab.state import Here, State, read, written

__all__ = ["INTERVAL", "INTERVAL_S", "Measured", "SessionWatch", "Surroundings"]

_log = logging.getLogger(__name__)

INTERVAL_S = 30.0
"""How often the session measures itself, unless the variable `INTERVAL` says otherwise."""

INTERVAL = "ARMILLARY_MEASURE_SECONDS"

_BUSY_TERMINAL_CORES = 0.05
"""From how many cores on a terminal's commands work; a prompt and an editor that wait take less."""

_OLD_S = 5.0
"""How old the service's answer may be that is shown without asking again."""

_PATIENCE_S = 4.0
"""How long a page waits for a newer one."""


class Surroundings:
    """What jupyter_server knows of its kernels and terminals.

    Parameters
    ----------
    list_kernels
        Returns the models of all kernels, or promises them.
    terminals
        The terminals by their names, as `terminado` has them; None: there are no terminals.
    requests
        Notes requests that are signs of work.
    connections
        Of its applications; None: it has none.
    """

    def __init__(
        self,
        list_kernels: Callable[[], Any],
        terminals: Callable[[], Mapping[str, Any] | None],
        requests: Requests,
        connections: Connections | None = None,
    ) -> None:
        self._connections = Connections() if connections is None else connections
        self._list_kernels = list_kernels
        self._terminals = terminals
        self._requests = requests

    async def kernels(self) -> Kernels:
        """Return the kernels."""
        found = self._list_kernels()
        if isinstance(found, Awaitable):
            found = await found
        return kernels_of(found)

    def terminals(self) -> dict[int, datetime | None]:
        """Return the first process of each terminal, with when something was last typed or printed there."""
        found = {}
        for one in dict(self._terminals() or {}).values():
            pid = getattr(getattr(one, "ptyproc", None), "pid", None)
            if isinstance(pid, int):
                stamp = getattr(one, "last_activity", None)
                found[pid] = stamp if isinstance(stamp, datetime) and stamp.tzinfo is not None else None
        return found

    @property
    def connections(self) -> int:
        """How many websockets of applications are open."""
        return len(self._connections)

    @property
    def request_at(self) -> float | None:
        """When the last request was that is a sign of work, on the clock of `Signs`."""
        return self._requests.last


class Measured:
    """Measures the session, from one call to the next."""

    def __init__(self, environ: Mapping[str, str], around: Surroundings, clock: Callable[[], float]) -> None:
        self._environ = environ
        self._around = around
        self._clock = clock
        self._meter = Meter(environ)
        self._cards = Cards(environ)
        self._signs = Signs(clock)

    async def __call__(self) -> tuple[Here, float]:
        """Return what is used, and for how many seconds there was no sign of work."""
        terminals = self._around.terminals()
        usage, devices = await asyncio.gather(
            asyncio.to_thread(self._meter.measure, self._clock(), terminals), asyncio.to_thread(self._cards.measure)
        )
        kernels = await self._around.kernels()
        stamps = [stamp for stamp in terminals.values() if stamp is not None]
        connections = self._around.connections
        quiet_s = self._signs.quiet_s(
            (kernels.last, tuple(sorted(stamp.isoformat() for stamp in stamps))),
            stamps=stamps,
            # One that is open is work now, and when it is closed the time without a sign begins.
            request_at=self._clock() if connections else self._around.request_at,
        )
        here = Here(
            cpu=None if usage.cpu is None else round(usage.cpu, 3),
            cpu_limit=_number(self._environ.get("CPU_LIMIT")),
            memory=usage.memory,
            memory_limit=_whole(self._environ.get("MEM_LIMIT")),
            devices=devices,
            kernels=kernels.number,
            busy_kernels=kernels.busy,
            terminals=len(terminals),
            busy_terminals=_busy(usage),
            connections=connections,
        )
        return here, quiet_s


class SessionWatch:
    """Sends measures and keeps the last answer. For one event loop.

    Parameters
    ----------
    service
        The service that started this session.
    measure
        Measures it.
    interval_s
        How often.
    """

    def __init__(
        self,
        service: Service,
        measure: Callable[[], Awaitable[tuple[Here, float]]],
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.service = service
        self._measure = measure
        self._interval_s = interval_s
        self._clock = clock
        self._here = Here()
        self._said: State | None = None
        self._said_at = 0.0
        self._old = True
        self._problem = ""
        self._asking: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to measure; returns at once."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="armillary-measures")

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def state(self) -> State:
        """Return what is known, as new as a page needs it."""
        if self._old or self._clock() - self._said_at > _OLD_S:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.get_running_loop().create_task(self._refresh())
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                # Shielded: the next page that asks waits for the same answer.
                await asyncio.wait_for(asyncio.shield(self._asking), _PATIENCE_S)
        return self._state()

    def changed(self) -> None:
        """Say that what is known of the session is not true any more: it is asked for anew."""
        self._old = True

    async def look(self) -> None:
        """Measure once, and send it."""
        self._here, quiet_s = await self._measure()
        await self._hear(self.service.measures({**written(self._here), "quiet_s": round(quiet_s, 1)}))

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:  # noqa: BLE001  # whatever it is, the next measure may succeed
                _log.warning("The session could not be measured", exc_info=True)
            await asyncio.sleep(self._interval_s)

    async def _refresh(self) -> None:
        await self._hear(self.service.state())

    async def _hear(self, asked: Awaitable[dict[str, Any]]) -> None:
        try:
            said = await asked
        except Refused as error:
            if error.detail != self._problem:
                _log.warning("Armillary: %s", error.detail)
            self._problem = error.detail or "Armillary's service refused to answer."
        else:
            self._problem = ""
            self._said, self._said_at, self._old = read(State, said), self._clock(), False

    def _state(self) -> State:
        if self._said is None:
            return State(
                now=time.time(), problem=self._problem or "Armillary's service was not asked yet.", here=self._here
            )
        passed = max(0.0, self._clock() - self._said_at)
        return replace(
            self._said, now=self._said.now + passed, as_of=self._said.now, problem=self._problem, here=self._here
        )


def _busy(usage: Usage) -> int:
    return sum(cores >= _BUSY_TERMINAL_CORES for cores in usage.terminals.values())


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _whole(text: str | None) -> int | None:
    found = _number(text)
    return None if found is None else int(found)


def interval_of(environ: Mapping[str, str]) -> float:
    """Return how often the session shall measure itself."""
    found = _number(environ.get(INTERVAL))
    return INTERVAL_S if found is None else min(max(found, 0.5), 60.0)


def problem(error: Refused) -> str:
    """Return a refusal as JSON, in the shape that the front end reads (RFC 9457)."""
    said = {**error.said, "status": error.status, "code": error.code, "detail": error.detail}
    return json.dumps(said, ensure_ascii=False)
