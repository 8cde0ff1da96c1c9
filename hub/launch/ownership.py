"""Who runs here: one launcher per state folder, and the children that a killed launcher left behind.

A pid alone proves nothing: numbers are given again. `spawner.processes.identity` compares boot and start time too and
signals through a pidfd, so that no stranger is ever ended.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from hub.launch.secrets import write_private
from spawner.processes.identity import Process, hold, look


@dataclass(frozen=True)
class Child:
    """A process that a launcher started."""

    name: str
    process: Process


class Children:
    """Records of the launcher's children, one file each, so that the next launcher can end what survived."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, pid: int) -> None:
        """Record a process that was just started."""
        stat = look(pid)
        if stat is not None:
            write_private(self.folder / f"{name}.json", json.dumps(asdict(stat.process)))

    def remove(self, name: str) -> None:
        """Forget a process that has ended."""
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    def recorded(self) -> list[Child]:
        """Read every record; one that cannot be read is of no process that could still be found."""
        found = []
        for file in sorted(self.folder.glob("*.json")):
            with contextlib.suppress(ValueError, TypeError, FileNotFoundError):
                found.append(Child(file.stem, Process(**json.loads(file.read_text(encoding="utf-8")))))
        return found

    def end_survivors(self, grace_s: float) -> list[Child]:
        """End what a killed launcher left: SIGTERM, after `grace_s` seconds SIGKILL. Returns what was ended."""
        ended = []
        for child in self.recorded():
            descriptor = hold(child.process)
            if descriptor is not None:
                try:
                    _end(descriptor, grace_s)
                finally:
                    os.close(descriptor)
                ended.append(child)
            self.remove(child.name)
        return ended


def _end(descriptor: int, grace_s: float) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)  # readable when the process has ended, pidfd_open(2)
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return
        if poll.poll(grace_s * 1000):
            return


class AlreadyRuns(Exception):
    """Another launcher holds the state folder; `address` and `pid` are its own words, empty and 0 while it starts."""

    def __init__(self, address: str, pid: int) -> None:
        super().__init__(address)
        self.address = address
        self.pid = pid


class RunLock:
    """Held for as long as a launcher runs; the kernel gives it back however the launcher ends."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            self._take()
        except BlockingIOError:
            known = os.read(self._descriptor, 4096)
            os.close(self._descriptor)
            try:
                said = json.loads(known)
                raise AlreadyRuns(str(said["address"]), int(said["pid"])) from None
            except (ValueError, KeyError, TypeError):
                raise AlreadyRuns("", 0) from None
        os.ftruncate(self._descriptor, 0)

    def _take(self) -> None:
        # A launcher that was just killed may take a moment to be gone: the lock falls with its last thread.
        deadline = time.monotonic() + 0.5
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def announce(self, address: str) -> None:
        """Say where we run, for a second start to read."""
        text = json.dumps({"address": address, "pid": os.getpid()}).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)

    def release(self) -> None:
        """Let the next launcher in."""
        os.close(self._descriptor)
