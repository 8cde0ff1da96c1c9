"""Limits of cpu, memory and devices, and the certain list of a session's processes, through control groups v1 and v2.

One group `armillary/SPAWNID` per session below the hub's own group or the nearest one above it in which the hub may
make groups. On a v1 or hybrid machine that is one directory per hierarchy. Functions that work on a session take the
directories from its launch record, so they need no detection and survive a restart of the hub.
They block only on the kernel (never on a disk), for milliseconds: call them in a thread.
See the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import subprocess
from collections.abc import Set
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from spawner.devices.enforcement import Rule, apply
from spawner.devices.nodes import Node

__all__ = ["Support", "create", "detect", "groups_of", "kill", "members", "out_of_memory", "own_and_above", "remove"]

_PERIOD_US = 100_000  # the kernel's default
_LEAST_QUOTA_US = 1_000  # the kernel refuses less
_ROOM = "armillary"
_PASS_THROUGH = 0o711  # who knows the name of a group may look into it, and nobody can list them
_HANDED_DOWN = frozenset({"cpu", "memory"})
# In version 2 a controller must be handed down to the groups below; the filter of devices is none of these.
_TRIAL = Rule(frozenset({1}), (Node(1, 3, "/dev/null"),))
# Memory devices, which every machine has: /dev/zero is one of those that it closes.
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Support:
    """Directories below which groups can be made, and which limits really hold there."""

    parents: tuple[Path, ...] = ()
    cpu: bool = False
    memory: bool = False
    devices: bool = False

    def notices(self) -> list[str]:
        """Return what a user should know about limits on this machine."""
        if self.cpu and self.memory:
            return []
        which = "CPU and memory limits are" if not (self.cpu or self.memory) else ""
        which = which or ("The CPU limit is" if self.memory else "The memory limit is")
        return [f"{which} advisory on this machine: nothing enforces {'them' if which.endswith('are') else 'it'}."]


def detect(proc: Path = Path("/proc/self")) -> Support:
    """Find where groups can be made, by making one and setting limits in it."""
    own = _own_groups((proc / "cgroup").read_text())
    parents: list[Path] = []
    working: set[str] = set()
    for kind, controllers, root, mount in _mounts((proc / "mountinfo").read_text()):
        wanted = {"cpu", "memory", "devices"} - working
        if kind == "cgroup" and not wanted & controllers:
            continue
        path = own.get("" if kind == "cgroup2" else ",".join(sorted(controllers)))
        if path is None:
            continue
        best: tuple[Path, set[str]] | None = None
        for candidate in _upwards(mount, _below(root, path)):
            usable = _try(candidate, kind, wanted)
            # A v1 hierarchy without the limit it was wanted for is no use; a v2 group always lists its processes.
            if usable is not None and (usable or kind == "cgroup2") and (best is None or len(usable) > len(best[1])):
                best = candidate, usable
            if usable is not None and usable >= wanted & (controllers or wanted):
                break  # a v2 group with processes of its own cannot hand limits down: then one above it may
        if best:
            parents.append(best[0])
            working |= best[1]
    return Support(tuple(parents), cpu="cpu" in working, memory="memory" in working, devices="devices" in working)


def own_and_above(proc: Path = Path("/proc/self")) -> list[Path]:
    """Return the groups of this process and all those above them, as far as they can be seen."""
    own = _own_groups((proc / "cgroup").read_text())
    found: list[Path] = []
    for kind, controllers, root, mount in _mounts((proc / "mountinfo").read_text()):
        path = own.get("" if kind == "cgroup2" else ",".join(sorted(controllers)))
        if path is not None:
            found += _upwards(mount, _below(root, path))
    return found


def _own_groups(text: str) -> dict[str, str]:
    """Return which group this process is in, by controllers ("" for v2)."""
    groups = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        groups[",".join(sorted(controllers.split(",")))] = path
    return groups


def _mounts(text: str) -> list[tuple[str, set[str], str, Path]]:
    """Return kind, controllers, root and mount point of each cgroup mount (proc(5), mountinfo); v2 first."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind not in ("cgroup", "cgroup2"):
            continue
        _, _, _, root, mount = before.split(" ")[:5]
        names = {"cpu", "cpuacct", "memory", "devices"}
        controllers = {option for option in options.split(",") if option in names} if kind == "cgroup" else set()
        found.append((kind, controllers, root, Path(_ESCAPED.sub(lambda match: chr(int(match[1], 8)), mount))))
    return sorted(found, key=lambda mount: mount[0], reverse=True)


def _below(root: str, path: str) -> str:
    """Return a group's path below its mount; in a container the mount often shows only the container's own group."""
    if root != "/" and path.startswith(root):
        return path[len(root) :].strip("/")
    return path.strip("/") if root == "/" else ""


def _upwards(mount: Path, path: str) -> list[Path]:
    """Return the own group and those above it, the nearest first."""
    own = mount / path
    return [directory for directory in [own, *own.parents] if directory.is_relative_to(mount)]


def _try(parent: Path, kind: str, wanted: set[str]) -> set[str] | None:
    """Return which of the wanted limits work in groups below `parent`; None if no group can be made there."""
    try:
        room = parent / _ROOM
        room.mkdir(exist_ok=True)
        if kind == "cgroup2":
            _enable(parent, wanted & _HANDED_DOWN)
            _enable(room, wanted & _HANDED_DOWN)
    except OSError:
        return None
    try:
        group = _make(parent, f"probe-{secrets.token_hex(8)}")
    except OSError:
        return None
    working = set()
    if not _can_enter(group):
        remove([group])
        return None
    with contextlib.suppress(OSError):
        if "memory" in wanted and _limit_memory(group, 1 << 30):
            working.add("memory")
    with contextlib.suppress(OSError):
        if "cpu" in wanted and _limit_cpu(group, Decimal(1)):
            working.add("cpu")
    with contextlib.suppress(OSError):
        if "devices" in wanted and apply(group, _TRIAL) and _closes(group):
            working.add("devices")
    remove([group])
    return working


def _can_enter(group: Path) -> bool:
    """Return whether a child of ours can move itself in; where a group was delegated, making one is not enough."""
    program = 'echo $$ > "$0/cgroup.procs"'
    return subprocess.run(["/bin/sh", "-c", program, str(group)], check=False, capture_output=True).returncode == 0


def _closes(group: Path) -> bool:
    """Return whether the trial's rule holds for a child of ours in this group."""
    program = 'echo $$ > "$0/cgroup.procs" && (: < /dev/null) && ! (: < /dev/zero)'
    return subprocess.run(["/bin/sh", "-c", program, str(group)], check=False, capture_output=True).returncode == 0


def _enable(group: Path, controllers: Set[str]) -> None:
    """Hand controllers down to the groups below (v2); one at a time, because one that is refused refuses all."""
    for controller in sorted(controllers):
        with contextlib.suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def groups_of(support: Support, spawn_id: str) -> tuple[Path, ...]:
    """Return the groups of a session, made or not: known beforehand, so that the launch record can name them."""
    return tuple(parent / _ROOM / spawn_id for parent in support.parents)


def create(
    support: Support, spawn_id: str, cpu: Decimal | None, memory: int | None, devices: Rule | None = None
) -> tuple[Path, ...]:
    """Make a session's groups and set its limits (cores, bytes, which devices are closed; None: no limit).

    Raises
    ------
    OSError
        A limit that works on this machine could not be set: the session must not run without it.
    """
    made: list[Path] = []
    try:
        for parent in support.parents:
            made.append(_make(parent, spawn_id))
        if memory is not None and support.memory and not sum(_limit_memory(group, memory) for group in made):
            raise OSError("no control group takes the memory limit")
        if cpu is not None and support.cpu and not sum(_limit_cpu(group, cpu) for group in made):
            raise OSError("no control group takes the cpu limit")
        if devices is not None and support.devices and not sum(apply(group, devices) for group in made):
            raise OSError("no control group takes the rule about devices")
    except OSError:
        remove(made)
        raise
    return tuple(made)


def _make(parent: Path, name: str) -> Path:
    group = parent / _ROOM / name
    for _ in range(3):  # the room may be removed by the end of the last session just now
        with contextlib.suppress(FileNotFoundError):
            group.parent.mkdir(exist_ok=True)
            if (parent / "cgroup.controllers").exists():
                _enable(group.parent, _HANDED_DOWN)
            group.mkdir()
            for folder in (group.parent, group):  # a session looks at what it uses itself; mkdir would obey the umask
                folder.chmod(_PASS_THROUGH)
            return group
    raise FileNotFoundError(group)


def _limit_memory(group: Path, size: int) -> bool:
    if (group / "memory.max").exists():
        (group / "memory.max").write_text(str(size))
        return True
    if (group / "memory.limit_in_bytes").exists():
        (group / "memory.limit_in_bytes").write_text(str(size))
        with contextlib.suppress(OSError):  # swap accounting may be off
            (group / "memory.memsw.limit_in_bytes").write_text(str(size))
        return True
    return False


def _limit_cpu(group: Path, cores: Decimal) -> bool:
    quota = max(_LEAST_QUOTA_US, math.ceil(cores * _PERIOD_US))
    if (group / "cpu.max").exists():
        (group / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
        return True
    if (group / "cpu.cfs_quota_us").exists():
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(quota))
        return True
    return False


def members(groups: tuple[Path, ...]) -> set[int]:
    """Return the pids in these groups and those below them."""
    pids: set[int] = set()
    for group in groups:
        for folder, _, _ in os.walk(group):
            with contextlib.suppress(OSError):
                pids.update(int(line) for line in Path(folder, "cgroup.procs").read_text().split())
    return pids


def kill(groups: tuple[Path, ...]) -> bool:
    """Kill all processes of a v2 group at once (Linux 5.14); False where the kernel has no such file."""
    done = False
    for group in groups:
        with contextlib.suppress(OSError):
            if (group / "cgroup.kill").exists():
                (group / "cgroup.kill").write_text("1")
                done = True
    return done


def out_of_memory(groups: tuple[Path, ...]) -> bool:
    """Return whether the kernel killed a process of these groups because its memory limit was reached."""
    for group in groups:
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError, ValueError):
                for line in (group / name).read_text().splitlines():
                    key, _, value = line.partition(" ")
                    if key == "oom_kill" and int(value) > 0:
                        return True
    return False


def remove(groups: list[Path] | tuple[Path, ...]) -> bool:
    """Remove empty groups; False if one still has processes."""
    gone = True
    for group in groups:
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        gone = gone and not group.exists()
        with contextlib.suppress(OSError):
            os.rmdir(group.parent)
    return gone
