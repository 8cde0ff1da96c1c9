"""What the session's processes use, from /proc and control groups. Blocks on the kernel only, for milliseconds.

On a machine that is shared, a session's processes carry its id in their environment; in a pod of its own all that can
be seen is the session. Where the session has a control group of its own, that knows memory better: it counts what is
shared once, and what is only cached apart.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["SPAWN_ID", "Meter", "Process", "Usage"]

SPAWN_ID = "ARMILLARY_SPAWN_ID"
"""The variable that marks every process of a session on a machine that is shared."""

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Process:
    """One process: `session` is that of its terminal (setsid(2)), `used_s` what it has used of the processor."""

    pid: int
    started: int
    parent: int
    session: int
    used_s: float
    own: int
    """Bytes of memory that are not shared."""
    shared: int


@dataclass(frozen=True)
class Usage:
    """What is used now. `cores` are those of each interval, by the terminal's first process; None: not known yet."""

    cpu: float | None
    memory: int | None
    terminals: Mapping[int, float] = field(default_factory=dict)


class Meter:
    """Measures from one call to the next.

    Parameters
    ----------
    environ
        That of the session's server.
    proc, groups
        Where the kernel tells.
    """

    def __init__(
        self, environ: Mapping[str, str], proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")
    ) -> None:
        self._spawn_id = environ.get(SPAWN_ID, "")
        self._alone = "KUBERNETES_SERVICE_HOST" in environ
        self._proc = proc
        self._groups = groups
        self._ours: dict[tuple[int, int], bool] = {}
        self._before: dict[tuple[int, int], float] = {}
        self._before_at: float | None = None
        self._group_before: float | None = None

    def measure(self, now: float, terminals: Iterable[int] = ()) -> Usage:
        """Return what is used since the last call.

        Parameters
        ----------
        now
            Seconds of a clock that only ever grows.
        terminals
            Pids of the terminals' first processes.
        """
        found = {(one.pid, one.started): one for one in self._members()}
        passed = None if self._before_at is None else max(now - self._before_at, 1e-3)
        # A process that has come since counts from its beginning; what one that has gone used last is not known.
        more = {key: max(0.0, one.used_s - self._before.get(key, 0.0)) for key, one in found.items()}
        by_terminal = dict.fromkeys(terminals, 0.0)
        for key, one in found.items():
            if one.session in by_terminal:
                by_terminal[one.session] += more[key]
        group, memory = self._group_used_s(), self._group_memory()
        cpu = None if passed is None else sum(more.values()) / passed
        if group is not None and passed is not None and self._group_before is not None:
            cpu = max(0.0, group - self._group_before) / passed
        self._before = {key: one.used_s for key, one in found.items()}
        self._before_at, self._group_before = now, group
        if memory is None and found:
            memory = sum(one.own for one in found.values()) + max(one.shared for one in found.values())
        cores = {} if passed is None else {pid: used / passed for pid, used in by_terminal.items()}
        return Usage(cpu, memory, cores)

    # --- processes -------------------------------------------------------------------------------------------------

    def _members(self) -> Iterator[Process]:
        everybody = [one for one in map(self._read, self._pids()) if one is not None]
        if self._alone:
            yield from everybody
            return
        descends = _descendants(everybody, os.getpid())
        known: dict[tuple[int, int], bool] = {}
        for one in everybody:
            key = one.pid, one.started
            mine = one.pid in descends or self._ours.get(key)
            if mine is None:
                mine = self._is_marked(one.pid)
            known[key] = mine
            if mine:
                yield one
        self._ours = known

    def _pids(self) -> list[int]:
        try:
            return [int(name) for name in os.listdir(self._proc) if name.isdigit()]
        except OSError:
            return []

    def _is_marked(self, pid: int) -> bool:
        if not self._spawn_id:
            return False
        with contextlib.suppress(OSError):
            words = (self._proc / str(pid) / "environ").read_bytes().split(b"\0")
            return f"{SPAWN_ID}={self._spawn_id}".encode() in words
        return False

    def _read(self, pid: int) -> Process | None:
        """Return a process; None: it has gone meanwhile, or may not be looked at (proc(5), stat and statm)."""
        try:
            stat = (self._proc / str(pid) / "stat").read_text("utf-8", "replace")
            sizes = (self._proc / str(pid) / "statm").read_text().split()
            words = stat[stat.rindex(")") + 2 :].split()
            used_s = (int(words[11]) + int(words[12])) / _TICKS
            resident, shared = int(sizes[1]) * _PAGE, int(sizes[2]) * _PAGE
            return Process(pid, int(words[19]), int(words[1]), int(words[3]), used_s, max(0, resident - shared), shared)
        except (OSError, ValueError, IndexError):
            return None

    # --- the control group -------------------------------------------------------------------------------------------

    def _own_group(self, controller: str) -> Path | None:
        """Return the directory of the session's own group; None: it shares one with others."""
        try:
            lines = (self._proc / "self" / "cgroup").read_text().splitlines()
        except OSError:
            return None
        for line in lines:
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if controllers and controller not in controllers.split(","):
                continue
            if not self._alone and not (self._spawn_id and self._spawn_id in path):
                continue
            root = self._groups / controllers if controllers else self._groups
            # In a container its own group is often all that is mounted; elsewhere the root is the whole machine.
            for place in (root / path.strip("/"), root) if self._alone else (root / path.strip("/"),):
                with contextlib.suppress(OSError):  # a group that we may not look into
                    if place.is_dir() and (controllers or (place / f"{controller}.stat").exists()):
                        return place
        return None

    def _group_used_s(self) -> float | None:
        """Return how long the group has used the processor (cgroup v2: cpu.stat; v1: cpuacct.usage)."""
        group = self._own_group("cpu")
        if group is not None and (used := _keyed(group / "cpu.stat").get("usage_usec")) is not None:
            return used / 1e6
        group = self._own_group("cpuacct")
        used = None if group is None else _number(group / "cpuacct.usage")
        return None if used is None else used / 1e9

    def _group_memory(self) -> int | None:
        """Return what the group has in memory, without files that are only cached and not used of late."""
        group = self._own_group("memory")
        if group is None:
            return None
        stat = _keyed(group / "memory.stat")
        total = _number(group / "memory.current")
        if total is None:
            total = _number(group / "memory.usage_in_bytes")
        if total is None:
            return None
        return max(0, total - stat.get("total_inactive_file", stat.get("inactive_file", 0)))


def _descendants(processes: Iterable[Process], root: int) -> frozenset[int]:
    children: dict[int, list[int]] = {}
    for one in processes:
        children.setdefault(one.parent, []).append(one.pid)
    found, rest = {root}, [root]
    while rest:
        for pid in children.get(rest.pop(), ()):
            if pid not in found:
                found.add(pid)
                rest.append(pid)
    return frozenset(found)


def _keyed(file: Path) -> dict[str, int]:
    """Read a file of names and numbers; what cannot be read is empty."""
    try:
        words = [line.split() for line in file.read_text().splitlines()]
        return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2}
    except (OSError, ValueError):
        return {}


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
