"""The lab's daemons: each in a session of its own, known by pid, start time and boot, never by pid alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.lab import cache
from tests.lab.errors import LabError

# In the environment of every daemon and of what it starts, so that one whose record was lost is found again.
MARK = "ARMILLARY_LAB_DAEMON"


def boot_id() -> str:
    """This boot of the machine: a pid of an earlier one means nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_time(pid: int, dead: bool = False) -> int | None:
    """When the process began, in clock ticks since boot; None when it is gone, or (unless `dead`) a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The program's name is in parentheses and may hold anything, so fields are counted after the last one.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" and not dead else int(fields[19])


def _record(name: str) -> Path:
    return cache.run_folder() / "pids" / f"{name}.json"


def log(name: str) -> Path:
    """The daemon's log."""
    return cache.run_folder() / "logs" / f"{name}.log"


def log_tail(name: str, lines: int = 15) -> str:
    """The last lines of the daemon's log."""
    try:
        return "\n".join(log(name).read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


def running(name: str) -> int | None:
    """The daemon's pid, or None when it does not run (never, any more, or only before a reboot)."""
    try:
        record = json.loads(_record(name).read_text())
    except (FileNotFoundError, ValueError):
        return None
    pid = int(record["pid"])
    if record["boot"] != boot_id():
        return None
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    start = _start_time(pid)
    return pid if start is not None and start == record["start"] else None


def start(name: str, arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> bool:
    """Starts the daemon unless it runs; True when it was started now."""
    if running(name) is not None:
        return False
    for path in (_record(name), log(name)):
        path.parent.mkdir(parents=True, exist_ok=True)
    with open(log(name), "ab") as output:
        child = subprocess.Popen(
            [str(argument) for argument in arguments],
            cwd=cache.run_folder(),
            env=os.environ | {MARK: str(cache.run_folder())} | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    # The object would warn that its process still runs; from here on the record stands for it.
    child.returncode = 0
    # A child that has already died still has its entry until it is waited for, so the start time is there.
    record = {"pid": child.pid, "start": _start_time(child.pid, dead=True), "boot": boot_id()}
    partial = _record(name).with_suffix(".new")
    partial.write_text(json.dumps(record))
    partial.rename(_record(name))
    return True


def wait_until(ready: Callable[[], bool], what: str, daemon: str, seconds: float = 60) -> None:
    """Waits until `ready()`; a daemon that dies or is not ready in time is an error with its log's end."""
    deadline = time.monotonic() + seconds
    while not ready():
        if running(daemon) is None:
            raise LabError(f"{daemon} ended while {what} was awaited; {log(daemon)} ends:\n{log_tail(daemon)}")
        if time.monotonic() > deadline:
            raise LabError(f"{what} did not come within {seconds:.0f} s; {log(daemon)} ends:\n{log_tail(daemon)}")
        time.sleep(0.05)


def _end(pid: int, start: int | None, grace: float) -> None:
    """Ends one process: asks, waits `grace` seconds, kills."""
    for what, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        if start is None or _start_time(pid) != start:
            return
        try:
            # A descriptor of the process, checked again after it was opened: it cannot be taken over by another.
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if _start_time(pid) != start:
                return
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, what)
        finally:
            os.close(handle)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if _start_time(pid) != start:
                return
            time.sleep(0.02)
    raise LabError(f"process {pid} does not end")


def stop(name: str, grace: float = 5) -> None:
    """Ends the daemon if it runs and forgets it."""
    pid = running(name)
    if pid is not None:
        _end(pid, _start_time(pid), grace)
    _record(name).unlink(missing_ok=True)


def names() -> list[str]:
    """The daemons that have a record, running or not."""
    return sorted(path.stem for path in (cache.run_folder() / "pids").glob("*.json"))


def end_all(pids: Iterator[int]) -> None:
    """Kills these processes at once, for those that nobody asks politely (containers of a stopped kubelet)."""
    for pid in pids:
        _end(pid, _start_time(pid), 0)


def marked(program: str = "") -> Iterator[int]:
    """Processes that carry the lab's mark (daemons and what they started outside containers).

    Args:
        program: only those whose program's name begins so.
    """
    mark = f"{MARK}={cache.run_folder()}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes()
            named = (folder / "comm").read_text().startswith(program)
        except OSError:
            continue
        if named and mark in environment.split(b"\0") and _start_time(int(folder.name)) is not None:
            yield int(folder.name)
