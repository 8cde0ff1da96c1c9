"""How much cpu and memory this machine has for sessions; blocks on /proc and the control groups only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from spawner.devices.count import Room
from spawner.processes.cgroups import own_and_above

__all__ = ["room"]


def room(proc: Path = Path("/proc")) -> Room:
    """Return the machine's cores and memory, or what the hub's own control group may use where that is less.

    Sessions run below that group: in a container, or in a service with a limit, they share what it has.
    """
    cores = [float(len(os.sched_getaffinity(0)))]
    sizes = [_total(proc)]
    for group in own_and_above(proc / "self"):
        with contextlib.suppress(OSError, ValueError):
            sizes.append(_number(group, "memory.max", "memory.limit_in_bytes"))
        with contextlib.suppress(OSError, ValueError):
            cores.append(_cores(group))
    return Room(round(min(cores) * 1000), min(sizes))


def _total(proc: Path) -> int:
    for line in (proc / "meminfo").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) * 1024
    raise ValueError("/proc/meminfo has no MemTotal")


def _number(group: Path, *names: str) -> int:
    """Return the limit in the first of these files that there is; `max` (v2) is no number and so no limit."""
    found = next((group / name for name in names if (group / name).exists()), None)
    if found is None:
        raise ValueError("no such limit")
    return int(found.read_text())


def _cores(group: Path) -> float:
    both = group / "cpu.max"
    if both.exists():
        quota, period = both.read_text().split()
        return int(quota) / int(period)
    quota_us = _number(group, "cpu.cfs_quota_us")
    if quota_us <= 0:  # -1: no limit
        raise ValueError("no limit")
    return quota_us / _number(group, "cpu.cfs_period_us")
