"""The counts of one machine: its devices, its cores and its memory, less what is granted. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from profiles.model import NO_ACCELERATOR, Catalogue
from spawner.capacity.model import Count, DeviceState, Fit, Snapshot
from spawner.reservation import Reservation

__all__ = ["FOREIGN", "STRAY", "Room", "snapshot"]

FOREIGN = "in use by a program that was not started here"
STRAY = "held by a session whose reservation is lost"


@dataclass(frozen=True)
class Room:
    """What this machine has for sessions: cpu in thousandths of a core, memory in bytes."""

    cpu_m: int
    memory: int


def snapshot(
    catalogue: Catalogue,
    devices: Sequence[DeviceState],
    reservations: Iterable[Reservation],
    room: Room,
    now: datetime,
    *,
    busy: Collection[str] = (),
    stray: Collection[str] = (),
    unknown: str = "",
) -> Snapshot:
    """Return what is free on this machine.

    Parameters
    ----------
    reservations
        Those to count: what is granted and not among them is taken off by whoever reads the snapshot.
    busy
        Devices on which something computes. Where no reservation holds one, that is somebody else's program.
    stray
        Devices that a living session holds without a reservation; nobody else may get them.
    unknown
        Why the real devices cannot be seen now; empty: they can.
    """
    held = tuple(reservations)
    load = Counter(uuid for one in held for uuid in one.devices)
    states = tuple(_with_use(device, load, busy, stray) for device in devices)
    left = Room(
        max(0, room.cpu_m - sum(one.cpu_m or 0 for one in held)),
        max(0, room.memory - sum(one.memory or 0 for one in held)),
    )
    counts = {NO_ACCELERATOR: _without_devices(room, left)}
    for key, accelerator in catalogue.accelerators.items():
        if accelerator.local is None and accelerator.simulated is None:
            continue  # offered on Kubernetes only
        if accelerator.local is not None and unknown:
            counts[key] = Count(unknown=unknown)
            continue
        own = [state for state in states if state.accelerator == key]
        simulated = accelerator.simulated is not None
        counts[key] = replace(_count(own, load, room, left), simulated=simulated)
    return Snapshot(engine="local", taken_at=now, accelerators=counts, devices=states)


def _with_use(
    device: DeviceState, load: Mapping[str, int], busy: Collection[str], stray: Collection[str]
) -> DeviceState:
    """Return the device with who else has it as its problem, since nobody may get it then."""
    if device.problem or load.get(device.uuid):
        return device
    if device.uuid in stray:
        return replace(device, problem=STRAY)
    return replace(device, problem=FOREIGN) if device.uuid in busy else device


def _without_devices(room: Room, left: Room) -> Count:
    return Count(fits_now=(Fit(0, left.cpu_m, left.memory),), fits_empty=(Fit(0, room.cpu_m, room.memory),))


def _count(devices: Sequence[DeviceState], load: Mapping[str, int], room: Room, left: Room) -> Count:
    free = ours = others = 0
    held_because: Counter[str] = Counter()
    takeable = 0
    for device in devices:
        # More than fit, after the catalogue lowered `replicas`: total never says less than what is in use.
        used = load.get(device.uuid, 0)
        idle = max(0, device.replicas - used)
        ours += used
        if device.problem == STRAY:
            ours += idle
        elif device.problem == FOREIGN:
            others += idle
        elif device.problem:
            held_because[device.problem] += idle
        else:
            free += idle
            takeable += bool(idle)
    held_because = +held_because
    held_back = held_because.total()
    return Count(
        total=free + ours + others + held_back,
        free=free,
        used_by_us=ours,
        used_by_others=others,
        held_back=held_back,
        held_because=tuple(sorted(held_because.items())),
        # One session gets different devices: what it can have at once are devices, not their shares.
        fits_now=(Fit(takeable, left.cpu_m, left.memory),) if takeable else (),
        fits_empty=(Fit(len(devices), room.cpu_m, room.memory),) if devices else (),
    )
