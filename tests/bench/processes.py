"""What a process used while something was measured: memory and processor time, from /proc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Meter", "Usage", "measured"]

_TICKS = os.sysconf("SC_CLK_TCK")
_EVERY_S = 1.0


@dataclass(frozen=True)
class Usage:
    """`cores` on average, `memory_mb` at most (resident), over `seconds`."""

    cores: float
    memory_mb: float
    seconds: float


class Meter:
    """Looks at one process, and the whole time it ran, once a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began = time.monotonic()
        self._before = self._used_s()
        self._highest_kb = self._resident_kb()
        self._ended: tuple[float, float] | None = None

    def _used_s(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def _resident_kb(self) -> int:
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))

    def look(self) -> None:
        """Note what it uses now."""
        self._highest_kb = max(self._highest_kb, self._resident_kb())

    def end(self) -> None:
        """Stop measuring."""
        self.look()
        self._ended = time.monotonic() - self._began, self._used_s() - self._before

    def result(self) -> Usage:
        """Return what it used until the end."""
        if self._ended is None:
            raise ValueError("it is still being measured")
        seconds, used = self._ended
        return Usage(used / seconds, self._highest_kb / 1024, seconds)


@contextlib.asynccontextmanager
async def measured(pid: int) -> AsyncIterator[Meter]:
    """Measure a process while the block runs."""
    meter = Meter(pid)

    async def watch() -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            meter.look()

    task = asyncio.create_task(watch())
    try:
        yield meter
    finally:
        task.cancel()
        meter.end()
