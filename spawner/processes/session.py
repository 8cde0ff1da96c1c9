"""One running session: started by this hub, or found again through its launch record."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from spawner.devices.enforcement import Rule
from spawner.processes import cgroups, ports, records
from spawner.processes.ending import end
from spawner.processes.family import tree
from spawner.processes.identity import Process, boot_id, hold, is_alive, look
from spawner.processes.isolation import LAUNCHER
from spawner.processes.records import Claim, Record

__all__ = ["Order", "Session", "adopt", "start"]

_KEPT = 20_000
_DEFAULT_SIGNALS = [
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGPIPE, signal.SIGALRM, signal.SIGTERM, signal.SIGXFSZ),
]
# Ignored signals are inherited: a hub under nohup, or Python's own SIGPIPE, must not change sessions.


@dataclass(frozen=True)
class Order:
    """All that is needed to start one process.

    Parameters
    ----------
    passages
        Closed directories to cover, and what of each stays reachable (`isolation.passages`).
    devices
        Which devices are closed to it, where `support` can do so.
    """

    record: Record
    records_dir: Path
    log: Path
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    support: cgroups.Support
    cpu: Decimal | None = None
    passages: Mapping[Path, list[Path]] | None = None
    devices: Rule | None = None

    def document(self, record_path: Path) -> bytes:
        """Return what the launcher reads; it holds the session's token."""
        record = self.record
        plan = {
            "record": str(record_path),
            "argv": list(self.argv),
            "environment": dict(self.environment),
            "directory": str(self.directory),
            "uid": record.uid,
            "gid": record.uid,
            "cgroups": list(record.cgroups),
            "passages": [
                {"over": str(over), "through": [str(path) for path in through]}
                for over, through in (self.passages or {}).items()
            ],
        }
        return json.dumps(plan).encode()


def now() -> str:
    """Return the present time for a record."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Session:
    """A process that is, or was, a session.

    `gone` is done when it has ended: with the exit code, negative for a signal, None where it cannot be known
    (it is the child of an earlier hub). Make one inside the running event loop.
    """

    def __init__(self, record: Record, records_dir: Path, log: Path, process: Process) -> None:
        self.record = record
        self.records_dir = records_dir
        self.log = log
        self.process = process
        self.gone: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._watch()

    @property
    def port(self) -> int:
        """Where it listens, on the loopback address."""
        return self.record.port

    def alive(self) -> bool:
        """Return whether its first process runs; a zombie does not, a stopped one does."""
        return is_alive(self.process)

    def listens(self) -> bool:
        """Return whether it is the session itself that listens on its port; blocks on /proc, call it in a thread."""
        listeners = ports.listeners(self.port)
        own = tree(self.record, self.process)
        return bool(listeners) and all(ports.belongs_to(listener, own) for listener in listeners)

    def exit_code(self) -> int | None:
        """Return the exit code if it is known by now."""
        return self.gone.result() if self.gone.done() else None

    async def end(self, *, grace_s: float) -> tuple[int, ...]:
        """End every process of it and forget its record; returns what could not be ended."""
        await asyncio.to_thread(records.cancel, self.records_dir / f"{self.record.stem}.planned.json")
        left = await end(self.record, self.process, grace_s=grace_s)
        if not left:
            await asyncio.to_thread(records.remove, self._claim())
        return left

    def _claim(self) -> Claim:
        name = f"{self.record.stem}.{self.process.pid}-{self.process.started}.json"
        return Claim(self.record, self.records_dir / name, self.process)

    def _watch(self) -> None:
        descriptor = hold(self.process)
        if descriptor is None:
            self.gone.set_result(None)
            return
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(descriptor)
            code = _exit_code(descriptor)
            os.close(descriptor)
            if not self.gone.done():
                self.gone.set_result(code)

        loop.add_reader(descriptor, ended)


def _exit_code(descriptor: int) -> int | None:
    """Reap a process that has ended, and return its exit code if it was our child."""
    try:
        result = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


async def start(order: Order) -> Session:
    """Start a session's process and return at once; whoever calls waits until it answers.

    Cancelled: nothing of it is left when the cancellation goes on.

    Raises
    ------
    OSError
        The launcher could not be run, or a limit could not be set; nothing is left of it.
    """
    work = asyncio.ensure_future(asyncio.to_thread(_start, order))
    try:
        process = await asyncio.shield(work)
    except asyncio.CancelledError:
        # The thread cannot be stopped, but it is short; what it started must not stay.
        with contextlib.suppress(OSError):
            await Session(order.record, order.records_dir, order.log, await work).end(grace_s=0)
        raise
    return Session(order.record, order.records_dir, order.log, process)


def _start(order: Order) -> Process:
    """Start the launcher in a new Unix session, in a thread; see `records` for why each step may be the last one."""
    path = records.plan(order.records_dir, order.record)
    try:
        cgroups.create(order.support, order.record.spawn_id, order.cpu, order.record.memory, order.devices)
        output = _open_log(order.log)
        try:
            return _spawn(order, path, output)
        finally:
            os.close(output)
    except BaseException:
        if records.cancel(path):
            cgroups.remove(tuple(Path(group) for group in order.record.cgroups))
        raise


def _spawn(order: Order, path: Path, output: int) -> Process:
    plan = order.document(path)
    reading, writing = os.pipe()  # not inherited, as all descriptors of Python
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", str(LAUNCHER)],
            {"LANG": "C.UTF-8"},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, reading, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=_DEFAULT_SIGNALS,
        )
        with contextlib.suppress(BrokenPipeError), open(writing, "wb", closefd=False) as document:
            document.write(plan)
    finally:
        os.close(reading)
        os.close(writing)
    stat = look(pid)  # our child, not yet reaped: the pid cannot have been used again
    if stat is None:
        raise ProcessLookupError(f"the launcher {pid} has vanished")
    return Process(pid, stat.started, boot_id())


def _open_log(log: Path) -> int:
    """Open a fresh log that only the hub's account can read, and keep the last one beside it."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.replace(log, log.with_name(f"{log.name}.1"))
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def adopt(claim: Claim, records_dir: Path, log: Path) -> Session | None:
    """Return the session that a record leads to, if its first process is alive; call it in the event loop."""
    if claim.process is None or not is_alive(claim.process):
        return None
    return Session(claim.record, records_dir, log, claim.process)


def last_lines(log: Path, most: int = 20) -> str:
    """Return the end of a session's log, without control characters; call it in a thread."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _KEPT))
            lines = file.read().decode(errors="replace").splitlines()[-most:]
    except OSError:
        return ""
    return "\n".join("".join(letter if letter.isprintable() else " " for letter in line) for line in lines)


def shorten(log: Path, most_bytes: int) -> None:
    """Keep a session's log bounded: beyond `most_bytes` its newer half goes beside it and it starts anew.

    Call it in a thread. The session writes at the end of the file (O_APPEND), so it goes on at the new end.
    """
    with contextlib.suppress(OSError), open(log, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= most_bytes:
            return
        file.seek(size - most_bytes // 2)
        kept = file.read(most_bytes // 2)
        with open(log.with_name(f"{log.name}.1"), "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as old:
            old.write(kept)
        file.truncate(0)
