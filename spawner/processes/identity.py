"""Who a process is: a pid alone says nothing, because pids are used again.

A process is the same one only if pid, start time and boot all agree. Signals go through a pidfd that was
checked after it was opened, so a pid that is recycled in between is never signalled.
Blocking only on /proc, which never waits for a disk.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process", "Stat", "boot_id", "hold", "is_alive", "look", "processes", "send", "spawn_id_of"]

SPAWN_ID = "ARMILLARY_SPAWN_ID"
"""The variable that marks every process of a session."""


@dataclass(frozen=True)
class Process:
    """One process of one boot. `started` is in clock ticks since boot."""

    pid: int
    started: int
    boot: str


@dataclass(frozen=True)
class Stat:
    """What /proc/PID/stat says (proc(5)), as far as it matters here."""

    pid: int
    state: str
    parent: int
    session: int
    started: int

    @property
    def dead(self) -> bool:
        """A zombie has ended: only its exit code is left."""
        return self.state in "ZX"

    @property
    def process(self) -> Process:
        """The process as an identity of the present boot."""
        return Process(self.pid, self.started, boot_id())


@functools.lru_cache(maxsize=1)
def boot_id() -> str:
    """Return the kernel's random name for the present boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def look(pid: int) -> Stat | None:
    """Return what the kernel says about a pid; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Stat(pid, fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]))


def is_alive(process: Process) -> bool:
    """Return whether this very process still runs; stopped (SIGSTOP) counts as running, a zombie does not."""
    if process.boot != boot_id():
        return False
    stat = look(process.pid)
    return stat is not None and stat.started == process.started and not stat.dead


def hold(process: Process) -> int | None:
    """Return a pidfd of this very process, or None if it has ended; the caller closes it.

    The identity is checked after the descriptor is open: from then on the descriptor cannot mean another one.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    stat = look(process.pid)
    if process.boot == boot_id() and stat is not None and stat.started == process.started:
        return descriptor
    os.close(descriptor)
    return None


def send(process: Process, number: signal.Signals) -> bool:
    """Send a signal to this very process; return False if it has ended."""
    if process.pid in (1, os.getpid()):  # never ours to end, whatever a record says
        return False
    descriptor = hold(process)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def processes() -> Iterator[Stat]:
    """Yield every process of this machine that has not ended."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                stat = look(int(name))
                if stat is not None and not stat.dead:
                    yield stat


def spawn_id_of(pid: int) -> str | None:
    """Return which session a process was started in, or None if it is not marked or not ours to read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = file.read().split(b"\0")
    except OSError:
        return None
    prefix = SPAWN_ID.encode() + b"="
    for variable in variables:
        if variable.startswith(prefix):
            return variable[len(prefix) :].decode(errors="replace")
    return None
