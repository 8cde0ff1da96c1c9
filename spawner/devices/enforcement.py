"""What a session's control group may open of the devices that are handed out one by one.

A rule closes every character device of some majors but for those granted, and leaves everything else as it is. It is
put into force in a group that no process is in yet: through the files of the `devices` controller (v1), or a BPF
program (v2). Blocks on the kernel only, for a few milliseconds.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from pathlib import Path

from spawner.devices import bpf
from spawner.devices.nodes import Node

__all__ = ["Rule", "apply"]


@dataclass(frozen=True)
class Rule:
    """Which devices are closed.

    Parameters
    ----------
    majors
        The kinds of character devices that are closed.
    granted
        Those of them that are open all the same.
    """

    majors: frozenset[int]
    granted: tuple[Node, ...] = ()

    def numbers(self) -> frozenset[tuple[int, int]]:
        """Return (major, minor) of what is granted."""
        return frozenset((node.major, node.minor) for node in self.granted)


def apply(group: Path, rule: Rule, proc: Path = Path("/proc")) -> bool:
    """Put a rule into force for a group; False: it is of a kind that has nothing to do with devices.

    Raises
    ------
    OSError
        The group is of the right kind, but the kernel refuses.
    """
    if (group / "devices.deny").exists():
        _apply_v1(group, rule, proc)
        return True
    if (group / "cgroup.events").exists():  # only groups of version 2 have it
        bpf.attach(group, bpf.program(rule.majors, rule.numbers()))
        return True
    return False


def _apply_v1(group: Path, rule: Rule, proc: Path) -> None:
    """Close everything, then open what the rule does not close.

    An exception can be taken back only as it was made (Linux, security/device_cgroup.c): after `c 195:*` is denied,
    `c 195:0` cannot be allowed. So the list is one of what is open. A kind of device that appears later is closed to
    sessions that run already; those that there are now are not listed one by one but by major.
    """
    (group / "devices.deny").write_text("a")
    opened = ["b *:* rwm"]
    opened += [f"c {major}:* rwm" for major in sorted(_character_majors(proc) - rule.majors)]
    for line in opened:
        with contextlib.suppress(PermissionError):  # it is closed to the group above, too
            (group / "devices.allow").write_text(line)
    for node in rule.granted:
        try:
            (group / "devices.allow").write_text(f"c {node.major}:{node.minor} rw")
        except PermissionError as error:
            raise OSError(errno.EPERM, f"{node.path} is closed to the hub's own control group") from error


def _character_majors(proc: Path) -> frozenset[int]:
    text = (proc / "devices").read_text(encoding="ascii", errors="replace").partition("Block devices:")[0]
    return frozenset(int(line.split()[0]) for line in text.splitlines() if line.strip()[:1].isdigit())
