"""May this start have what it asks for? The decision, pure: what is known goes in, a reservation or a refusal
comes out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from profiles.model import Catalogue, Engine, Profile
from profiles.offers import title_of
from spawner.capacity import grant_text as say
from spawner.capacity.availability import Availability, Free
from spawner.capacity.model import Count, DeviceState, Fit
from spawner.refusal import Refusal
from spawner.reservation import Reservation

__all__ = ["grant", "placed_by_hand", "room"]

_PLACING = frozenset({"tolerations", "extra_pod_config", "scheduler_name"})
"""Settings of KubeSpawner by which a profile may reach nodes that are not counted for it."""


def grant(
    availability: Availability,
    wanted: Reservation,
    catalogue: Catalogue,
    engine: Engine,
    *,
    nodes_may_appear: bool = False,
) -> Reservation:
    """Return the reservation to be stored, on the local engine with the devices that were chosen for it.

    On Kubernetes the scheduler has the last word, so what is not known (never counted, stale, uncountable) is
    granted. On the local engine this is the only guard, so without a fresh count no device is handed out.

    Parameters
    ----------
    availability
        What is known, with all reservations that are held; one of the wanted id is passed over.
    nodes_may_appear
        The cluster makes nodes when pods wait (an autoscaler): that all are in use, or that none is there, is no
        reason to refuse then; that no node is large enough still is, where there are nodes to tell from.

    Raises
    ------
    Refusal
        409: `full`, `none-there`, `no-room-now` (may pass by itself), `does-not-fit` (does not). 503:
        `capacity-unknown` (local engine).
    """
    if wanted.accelerator is not None and wanted.count < 1:
        raise ValueError(f"a reservation of {wanted.count} {wanted.accelerator}")
    if wanted.id in availability.holds.by_id:
        others = tuple(held for held in availability.reservations if held.id != wanted.id)
        availability = replace(availability, reservations=others)
    if engine == "local":
        return _grant_here(availability, wanted, catalogue)
    count = availability.count(wanted.accelerator)
    if not availability.fresh or count is None or count.unknown:
        return wanted
    _refuse_in_cluster(availability, wanted, count, catalogue, nodes_may_appear)
    return wanted


def _refuse_in_cluster(
    availability: Availability, wanted: Reservation, count: Count, catalogue: Catalogue, nodes_may_appear: bool
) -> None:
    title = _title(wanted, catalogue, "kubernetes")
    by_hand = wanted.by_hand or availability.by_hand or placed_by_hand(catalogue.profiles.get(wanted.profile))
    if wanted.accelerator is not None and count.total == 0:
        if nodes_may_appear:
            return
        raise Refusal("none-there", say.none_there(title), status=409)
    if not by_hand:
        _refuse_what_never_fits(wanted, count, title)
    if nodes_may_appear:
        return
    if wanted.accelerator is not None and not (by_hand and count.held_back):
        seen = availability.free(wanted.accelerator, wanted.user)
        if (seen.free or 0) < wanted.count:
            raise Refusal("full", say.full(title, wanted.count, seen, count.held_because), status=409)
    if not by_hand:
        _refuse_what_has_no_room(availability, wanted, count, title)


def _title(wanted: Reservation, catalogue: Catalogue, engine: Engine) -> str:
    if wanted.accelerator is None:
        return ""
    accelerator = catalogue.accelerators.get(wanted.accelerator)
    return title_of(accelerator, engine) if accelerator is not None else wanted.accelerator


def placed_by_hand(profile: Profile | None) -> bool:
    """Return whether the deployer's own settings take part in the choice of a node: then only the scheduler knows."""
    if profile is None:
        return False
    parts = [profile.kubespawner_override]
    for option in profile.options.choices.values():
        parts += [choice.kubespawner_override for choice in option.choices.values()]
        parts += [option.unlisted.kubespawner_override] if option.unlisted is not None else []
    return any(not _PLACING.isdisjoint(part) for part in parts)


# --- does it fit one node? ---------------------------------------------------------------------------------------


def _refuse_what_never_fits(wanted: Reservation, count: Count, title: str) -> None:
    if not count.fits_empty:
        return  # no node to tell from
    beside = _with_count(count.fits_empty, wanted.count)
    if not beside:
        most = max(fit.count for fit in count.fits_empty)
        raise Refusal("does-not-fit", say.too_many(title, wanted.count, most), status=409)
    if not _fits(wanted, beside):
        text = say.never_fits(wanted.cpu_m, wanted.memory, beside, title, wanted.count)
        raise Refusal("does-not-fit", text, status=409)


def _refuse_what_has_no_room(availability: Availability, wanted: Reservation, count: Count, title: str) -> None:
    if not count.fits_empty:
        return
    now = room(availability, wanted.accelerator)
    beside = _with_count(now, wanted.count)
    if wanted.accelerator is not None and not beside:
        free = availability.free(wanted.accelerator).free or 0
        most = max((fit.count for fit in now), default=0)
        if most:
            text = say.too_many(title, wanted.count, most, now=True, free=free)
        else:
            text = say.no_room_now(wanted.cpu_m, wanted.memory, (), title, wanted.count)
        raise Refusal("no-room-now", text, status=409)
    if not _fits(wanted, beside):
        text = say.no_room_now(wanted.cpu_m, wanted.memory, beside, title, wanted.count)
        raise Refusal("no-room-now", text, status=409)


def _with_count(fits: Iterable[Fit], number: int) -> list[Fit]:
    return [fit for fit in fits if fit.count >= number]


def _fits(wanted: Reservation, fits: Iterable[Fit]) -> bool:
    return any((wanted.cpu_m or 0) <= fit.cpu_m and (wanted.memory or 0) <= fit.memory for fit in fits)


def room(availability: Availability, accelerator: str | None) -> tuple[Fit, ...]:
    """Return what one node has room for now, once the starts that were granted, but are not counted yet, are placed.

    On one machine it is known which devices they have. In a cluster nobody knows on which nodes they will be. Only
    what cannot be anywhere else is taken off: as many cards as all other nodes together have not free, with the least
    cpu and memory that so many can come with. Never too much, so nothing is refused that has room; and exactly right
    where one node has all the free cards.
    """
    count = availability.count(accelerator)
    if count is None:
        return ()
    if accelerator is None:
        return count.fits_now
    unseen = [held for held in availability.of(accelerator) if not held.seen]
    left = tuple(_without(unseen, fit, count.free - fit.count) for fit in count.fits_now)
    if availability.snapshot is None or availability.snapshot.engine != "local":
        return left
    devices = [device for device in availability.snapshot.devices if device.accelerator == accelerator]
    return tuple(replace(fit, count=len(_usable(devices, _load(availability)))) for fit in left)


def _without(unseen: Sequence[Reservation], fit: Fit, elsewhere: int) -> Fit:
    """Return what is left on a node with this room if all other nodes together have so many free."""
    here = max(0, sum(held.count for held in unseen) - elsewhere)
    return Fit(
        max(0, fit.count - here),
        max(0, fit.cpu_m - _least(here, [(held.count, held.cpu_m or 0) for held in unseen])),
        max(0, fit.memory - _least(here, [(held.count, held.memory or 0) for held in unseen])),
    )


def _least(cards: int, demands: Sequence[tuple[int, int]]) -> int:
    """Return a lower bound of what comes along with so many cards, each demand being (cards, what they bring)."""
    bound = 0
    for number, brings in sorted(demands, key=lambda demand: demand[1] / max(1, demand[0])):
        if cards < max(1, number):
            break
        cards -= number
        bound += brings
    return bound


# --- this machine's own devices ----------------------------------------------------------------------------------


def _grant_here(availability: Availability, wanted: Reservation, catalogue: Catalogue) -> Reservation:
    title = _title(wanted, catalogue, "local")
    count = availability.count(wanted.accelerator)
    if wanted.accelerator is None:
        if availability.fresh and count is not None:
            _refuse_what_never_fits(wanted, count, title)
        return wanted
    if availability.snapshot is None or not availability.fresh or count is None or count.unknown:
        why = availability.free(wanted.accelerator).why or "the counts are old"
        raise Refusal("capacity-unknown", say.unknown_here(title, why), status=503)
    devices = [device for device in availability.snapshot.devices if device.accelerator == wanted.accelerator]
    if not devices:
        raise Refusal("none-there", say.none_here(title), status=409)
    if len(devices) < wanted.count:
        text = f"You asked for {wanted.count} {title}, but this machine has {len(devices)}. Ask for fewer."
        raise Refusal("does-not-fit", text, status=409)
    _refuse_what_never_fits(wanted, count, title)
    load = _load(availability)
    chosen = _least_used(devices, load, wanted.count)
    if chosen is None:
        seen, held_because = _seen_here(devices, load, availability.reservations, wanted.user)
        if (seen.free or 0) >= wanted.count:
            text = say.shares_of_too_few(title, wanted.count, seen, len(_usable(devices, load)))
        else:
            text = say.full(title, wanted.count, seen, held_because)
        raise Refusal("full", text, status=409)
    return replace(wanted, devices=chosen)


def _load(availability: Availability) -> Counter[str]:
    return Counter(uuid for held in availability.reservations for uuid in held.devices)


def _usable(devices: Iterable[DeviceState], load: Counter[str]) -> list[DeviceState]:
    return [device for device in devices if not device.problem and load[device.uuid] < device.replicas]


def _least_used(devices: Sequence[DeviceState], load: Counter[str], number: int) -> tuple[str, ...] | None:
    """Return different devices, the least used first and otherwise in their own order; None: there are not enough."""
    usable = sorted(_usable(devices, load), key=lambda device: load[device.uuid])
    return tuple(device.uuid for device in usable[:number]) if len(usable) >= number else None


def _seen_here(
    devices: Sequence[DeviceState], load: Counter[str], held: Sequence[Reservation], user: str
) -> tuple[Free, tuple[tuple[str, int], ...]]:
    uuids = {device.uuid for device in devices}
    total = sum(max(device.replicas, load[device.uuid]) for device in devices)
    mine = sum(uuid in uuids for one in held if one.user == user for uuid in one.devices)
    used = sum(load[device.uuid] for device in devices)
    left = {device.uuid: max(0, device.replicas - load[device.uuid]) for device in devices}
    held_because: Counter[str] = Counter()
    for device in devices:
        if device.problem:
            held_because[device.problem] += left[device.uuid]
    held_because = +held_because
    free = sum(left[device.uuid] for device in devices if not device.problem)
    return Free(free, total, mine, used - mine, held_because.total()), tuple(sorted(held_because.items()))
