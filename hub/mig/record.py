"""What is remembered on a node while its layout is changed, so that another run can go on where one was ended."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from hub.mig.names import RECORD

__all__ = ["Record", "me", "record_of", "surely_gone", "told_of"]


@dataclass(frozen=True)
class Record:
    """A change that was begun and is not finished.

    Parameters
    ----------
    layout
        What the node shall get.
    previous
        What its label said before; empty: it had none.
    cordoned
        Whether it was cordoned before: it stays so then.
    holder
        Who works on it now; empty: nobody. `renewed` counts up while they live.
    asked
        What the label was last set to since the change was begun; empty: it was not touched.
    told
        When each pod was told that it is stopped, by its uid; who is not named was told nothing.
    """

    layout: str
    previous: str
    cordoned: bool
    holder: str = ""
    renewed: int = 0
    asked: str = ""
    told: dict[str, AwareDatetime] = field(default_factory=dict)

    def as_annotation(self) -> str:
        """Return what is written to the node."""
        return _RECORD.dump_json(self).decode()

    def but(self, **changes: Any) -> Record:
        """Return it with some things different, and with the sign of life."""
        return Record(**{**asdict(self), "renewed": self.renewed + 1, **changes})


_RECORD = TypeAdapter(Record)


def record_of(node: Mapping[str, Any]) -> Record | None:
    """Return what a node remembers; None: nothing, or nothing that can be read."""
    text = ((node.get("metadata") or {}).get("annotations") or {}).get(RECORD)
    try:
        return _RECORD.validate_json(text) if text else None
    except ValidationError:
        return None


def told_of(node: Mapping[str, Any]) -> dict[str, datetime]:
    """Return when pods were told that they are stopped, by their uid, as far as that still holds.

    Who makes a node schedulable again by hand has called it off.
    """
    record = record_of(node)
    cordoned = (node.get("spec") or {}).get("unschedulable")
    return dict(record.told) if record is not None and cordoned else {}


def me() -> str:
    """Return a name for this process that no other one ever has: host, boot, pid namespace, pid, its start."""
    place = _place()
    started = _started(os.getpid()) if place else ""
    return f"{place} {os.getpid()} {started}" if place and started else f"{socket.gethostname()} - - {uuid.uuid4()} -"


def _place() -> str:
    """This machine since it was booted, and the processes that can be seen here; empty where that cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process was started, in ticks since the boot (proc(5), `stat`); empty: there is none, or it is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def surely_gone(holder: str) -> bool:
    """Whether that process cannot live any more, as far as can be told from here."""
    parts = holder.split()
    if not parts:
        return True
    if len(parts) != 5 or " ".join(parts[:3]) != _place() or not parts[3].isdecimal():
        return False
    return _started(int(parts[3])) != parts[4]
