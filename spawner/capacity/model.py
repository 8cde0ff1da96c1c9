"""The capacity snapshot: what the controller counts and publishes, and all others read. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import TypeAdapter

from profiles.model import Engine

__all__ = ["Count", "DeviceState", "Fit", "Snapshot", "from_json", "to_json"]


@dataclass(frozen=True)
class Fit:
    """What one node, or this machine, can take at once: so many accelerators, cpu in thousandths of a core, memory
    in bytes.
    """

    count: int
    cpu_m: int
    memory: int


@dataclass(frozen=True)
class Count:
    """How many of one accelerator there are, and who has them.

    `total` is always `free + used_by_us + used_by_others + held_back`. `used_by_us` are those of this deployment's
    own sessions. `held_back` exist but cannot be had now: (why, how many) in `held_because`, such as
    ("cordoned", 7). `fits_now` and `fits_empty` are the maximal requests that one node can take now, and could take
    if nothing ran there; no fit in the list is within another one of it. `unknown` says in words for a person why
    this accelerator cannot be counted; the numbers are 0 then and mean nothing.
    """

    total: int = 0
    free: int = 0
    used_by_us: int = 0
    used_by_others: int = 0
    held_back: int = 0
    held_because: tuple[tuple[str, int], ...] = ()
    fits_now: tuple[Fit, ...] = ()
    fits_empty: tuple[Fit, ...] = ()
    unknown: str = ""
    simulated: bool = False


@dataclass(frozen=True)
class DeviceState:
    """One device of this machine (local engine).

    `uuid` as NVML gives it (`GPU-…`, `MIG-…`), or `SIMULATED-<accelerator>-<number>`. `accelerator` is its key in the
    catalogue. `replicas` sessions may share it. `problem` says in words why it is not handed out; empty: it is.
    """

    uuid: str
    accelerator: str
    replicas: int = 1
    problem: str = ""
    simulated: bool = False


@dataclass(frozen=True)
class Snapshot:
    """All counts at one moment.

    `accelerators` is by key of the catalogue, with `none` for sessions without one (only its fits mean anything).
    `taken_at` is in UTC. `blind_since` is set while the source (API server, NVML) cannot be seen: the counts are those
    of that moment. `versions` are the resource versions that it shows, by kind. `devices` is for the local engine only.
    """

    engine: Engine
    taken_at: datetime
    accelerators: Mapping[str, Count]
    blind_since: datetime | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[DeviceState, ...] = ()


_SNAPSHOT = TypeAdapter(Snapshot)


def to_json(snapshot: Snapshot) -> str:
    """Return the snapshot as it is published."""
    return _SNAPSHOT.dump_json(snapshot).decode()


def from_json(text: str) -> Snapshot:
    """Read what `to_json` wrote.

    Raises
    ------
    pydantic.ValidationError
        It is something else, perhaps of another version.
    """
    return _SNAPSHOT.validate_json(text)
