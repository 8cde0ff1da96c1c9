"""Which processes belong to a session, also those that left its process group or were reparented.

Four kinds of evidence, taken together: the control group; the mark in the environment; the Unix session of the
first process while that one lives; being a descendant of any of these. Blocks on /proc only: call in a thread.
"""

from __future__ import annotations

import os
from pathlib import Path

from spawner.processes import cgroups
from spawner.processes.identity import Process, Stat, boot_id, processes, spawn_id_of
from spawner.processes.records import Record

__all__ = ["family", "server_process", "tree"]


def family(record: Record, process: Process | None) -> set[Process]:
    """Return every living process of a session; empty after a reboot."""
    if record.boot != boot_id():
        return set()
    running = {stat.pid: stat for stat in processes()}
    found = cgroups.members(tuple(Path(group) for group in record.cgroups))
    leader = _leader(running, process)
    for stat in running.values():
        same_session = leader is not None and stat.session == leader.pid
        if same_session or stat.pid in found or spawn_id_of(stat.pid) == record.spawn_id:
            found.add(stat.pid)
    return _known(running, _with_descendants(running, found))


def tree(record: Record, process: Process) -> set[Process]:
    """Return the processes that nobody else can have slipped in: control group and descendants, no marks."""
    running = {stat.pid: stat for stat in processes()}
    found = cgroups.members(tuple(Path(group) for group in record.cgroups))
    leader = _leader(running, process)
    if leader is not None:
        found.add(leader.pid)
    return _known(running, _with_descendants(running, found))


def server_process(record: Record, process: Process) -> Process | None:
    """Return the process that a polite signal must go to: in a sandbox it is not the first one.

    bubblewrap's first process only waits, its child is the namespace's init, and that one's first child is the
    server. bubblewrap passes no signals on (0.8).
    """
    running = {stat.pid: stat for stat in processes()}
    found = _leader(running, process)
    for _ in range(2 if record.wrapped else 0):
        children = [stat for stat in running.values() if found is not None and stat.parent == found.pid]
        found = min(children, key=lambda stat: (stat.started, stat.pid), default=None)
    return found.process if found is not None else None


def _leader(running: dict[int, Stat], process: Process | None) -> Stat | None:
    """Return the first process if it is still the same one: only then its pid says who else belongs to it."""
    if process is None or process.boot != boot_id():
        return None
    stat = running.get(process.pid)
    return stat if stat is not None and stat.started == process.started else None


def _with_descendants(running: dict[int, Stat], found: set[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for stat in running.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    waiting = list(found)
    everyone = set(found)
    while waiting:
        for pid in children.get(waiting.pop(), []):
            if pid not in everyone:
                everyone.add(pid)
                waiting.append(pid)
    return everyone


def _known(running: dict[int, Stat], pids: set[int]) -> set[Process]:
    return {running[pid].process for pid in pids if pid in running and pid not in (1, os.getpid())}
