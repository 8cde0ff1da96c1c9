"""What the tests of the queue are made from: a catalogue, machines and clusters in few words, tickets, standings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hub.admission.standing import Asked, Bounds, Standing, Waiting
from hub.admission.tickets import Ticket
from hub.quotas.model import Limit, Limits, parse_field
from profiles.loader import loads
from spawner.capacity.availability import Availability
from spawner.capacity.model import Count, DeviceState, Fit, Snapshot
from spawner.reservation import Reservation

__all__ = [
    "CATALOGUE",
    "GIB",
    "MINUTE",
    "NOW",
    "asked",
    "cluster",
    "held",
    "limits",
    "machine",
    "standing",
    "ticket",
]

NOW = 1_000_000_020.0
"""A full minute, so that times in tests are not rounded."""
MINUTE = 60.0
GIB = 1024**3

CATALOGUE = loads("""
accelerators:
  slice: {title: A100 1g slice, share: 1/7, kubernetes: {resource: nvidia.com/mig-1g.5gb}, simulated: {count: 8}}
  t4: {title: T4, kubernetes: {resource: nvidia.com/gpu}, simulated: {count: 8}}
images: {lab: {title: Lab, reference: "example.org/lab:1", local: {}}}
profiles:
  gpu: {title: GPU, options: {image: lab, accelerator: [slice, t4, none], count: [1, 2, 3, 8]}}
  chosen:
    title: Chosen
    options:
      image: lab
      accelerator: [t4, none]
    kubespawner_override: {tolerations: [{key: far, operator: Exists}]}
""")


def ticket(name: str, accelerator: str | None = "t4", count: int = 1, **more: Any) -> Ticket:
    """Return a place in the queue; the user is called like the ticket, and asked at NOW unless it says otherwise."""
    share = {"t4": 1.0, "slice": 1 / 7, None: 0.0}[accelerator] * count
    user = more.pop("user", name)
    values: dict[str, Any] = {"account": f"user:{user}", "share": share, "rank": NOW, "server": name}
    count = count if accelerator else 0
    return Ticket(name, user, profile="gpu", accelerator=accelerator, count=count, **{**values, **more})


def asked(user: str = "ann", accelerator: str | None = "t4", count: int = 1, **more: Any) -> Asked:
    """Return a request without ticket."""
    share = {"t4": 1.0, "slice": 1 / 7, None: 0.0}[accelerator] * count
    values: dict[str, Any] = {"account": f"user:{user}", "share": share, "server": "", "profile": "gpu"}
    count = count if accelerator else 0
    return Asked("new", user, accelerator=accelerator, count=count, **{**values, **more})


def held(name: str, accelerator: str | None = "t4", count: int = 1, **more: Any) -> Reservation:
    """Return what is held; the snapshot counts it."""
    share = {"t4": 1.0, "slice": 1 / 7, None: 0.0}[accelerator] * count
    values: dict[str, Any] = {"account": f"user:{name}", "share": share, "seen": True, "server": ""}
    count = count if accelerator else 0
    return Reservation(name, name, profile="gpu", accelerator=accelerator, count=count, **{**values, **more})


def machine(
    reservations: Iterable[Reservation] = (),
    *,
    devices: Mapping[str, int] | None = None,
    replicas: int = 1,
    broken: Sequence[str] = (),
    fresh: bool = True,
) -> Availability:
    """Return one machine with so many devices of each kind; those who hold some get the least used ones."""
    numbers = {"t4": 2} if devices is None else devices
    states = [
        DeviceState(f"{kind}-{number}", kind, replicas, "broken" if f"{kind}-{number}" in broken else "")
        for kind, many in numbers.items()
        for number in range(many)
    ]
    load = {state.uuid: 0 for state in states}
    given = []
    for one in reservations:
        usable = [state.uuid for state in states if state.accelerator == one.accelerator and not state.problem]
        chosen = one.devices or tuple(sorted(usable, key=lambda uuid: load[uuid])[: one.count])
        for uuid in chosen:
            load[uuid] += 1
        given.append(Reservation(**{**vars(one), "devices": chosen}))
    counts = {}
    for kind, many in numbers.items():
        mine = [state for state in states if state.accelerator == kind]
        used = sum(load[state.uuid] for state in mine)
        lost = sum(replicas - load[state.uuid] for state in mine if state.problem)
        why = (("broken", lost),) if lost else ()
        counts[kind] = Count(many * replicas, many * replicas - used - lost, used, 0, lost, why)
    snapshot = Snapshot("local", datetime.fromtimestamp(NOW, UTC), counts, devices=tuple(states))
    return Availability(snapshot, fresh, datetime.fromtimestamp(NOW, UTC), tuple(given))


def cluster(
    reservations: Sequence[Reservation] = (),
    *,
    total: int = 2,
    kind: str = "t4",
    others: int = 0,
    fits_now: tuple[Fit, ...] | None = None,
    fits_empty: tuple[Fit, ...] | None = None,
    fresh: bool = True,
    unknown: str = "",
    held_back: int = 0,
) -> Availability:
    """Return a cluster with so many of one kind; all that is held is counted."""
    used = sum(one.count for one in reservations if one.accelerator == kind)
    free = total - used - others - held_back
    roomy = Fit(total, 64_000, 256 * GIB)
    now = (Fit(free, 64_000, 256 * GIB),) if fits_now is None and free > 0 else fits_now or ()
    count = Count(
        total, free, used, others, held_back, ((("cordoned", held_back),) if held_back else ()),
        now, (roomy,) if fits_empty is None else fits_empty, unknown,
    )  # fmt: skip
    none = Count(fits_now=(roomy,), fits_empty=(roomy,))
    snapshot = Snapshot("kubernetes", datetime.fromtimestamp(NOW, UTC), {kind: count, "none": none})
    return Availability(snapshot, fresh, datetime.fromtimestamp(NOW, UTC), tuple(reservations))


def limits(source: str = "default", **values: float) -> Limits:
    """Return limits; a field `accelerators:t4` is written `accelerators__t4`."""
    return Limits(
        {parse_field(name.replace("__", ":")): Limit(Decimal(str(value)), source) for name, value in values.items()}
    )


def standing(availability: Availability, *tickets: Waiting, now: float = NOW, **more: Any) -> Standing:
    """Return what is known; ends of sessions that are not given are not known."""
    ends = {one.id: None for one in availability.reservations if one.session_s is None}
    bounds: Mapping[tuple[str, str], Bounds] = more.pop("bounds", {})
    return Standing(now, availability, tickets, **{"ends": {**ends, **more.pop("ends", {})}, **more}, bounds=bounds)
