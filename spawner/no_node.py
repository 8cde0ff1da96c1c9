"""Why no node takes a session, in words: what the scheduler says, made better by what was counted. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from spawner.capacity import grant_text as say
from spawner.capacity.availability import Availability
from spawner.capacity.model import Count, Fit
from spawner.reason import ADVICE, Reason
from spawner.reservation import Reservation
from spawner.scheduling import Verdict, verdict

__all__ = ["Known", "no_node"]

_NAMES = {"cpu": "cpu cores", "memory": "memory", "ephemeral-storage": "disk space", "pods": "room for pods"}
_OTHERWISE = f"Choose something else. {ADVICE}"

_ABOUT_VOLUMES: Mapping[str, str] = {
    "volume": "The volume of your home {}.",
    "volume-going": "The volume of your home is being deleted.",
    "volume-elsewhere": "Your home lies on a node or in a zone where this session cannot run.",
}


@dataclass(frozen=True)
class Known:
    """What the hub knows about a start beside the cluster's own words.

    Parameters
    ----------
    wanted
        What was asked for.
    title
        Of the accelerator; empty without one.
    resource
        Extended resource that the accelerator is; None where it is none.
    availability
        The newest counts; None where nobody counts.
    """

    wanted: Reservation
    title: str = ""
    resource: str | None = None
    availability: Availability | None = None


def no_node(message: str, known: Known | None = None) -> Reason:
    """Return why a pod waits for a node, from the scheduler's message.

    Numbers are used only if they are fresh, and only to say more about what the scheduler says too: it has the last
    word, and counts may be some seconds behind.
    """
    found = verdict(message)
    counted = _counted(found, known) if known is not None else None
    return counted or _said(found, known)


# --- by the counts ------------------------------------------------------------------------------------------------


def _counted(found: Verdict, known: Known) -> Reason | None:
    available, wanted = known.availability, known.wanted
    if (
        available is None
        or not available.fresh
        or found.why not in ("claims", "labels", "lacking", "nodes-away", "taint")
    ):
        return None
    # Not to count the start that waits among those it waits for.
    available = replace(available, reservations=tuple(one for one in available.reservations if one.id != wanted.id))
    count = available.count(wanted.accelerator)
    if count is None or count.unknown:
        return None
    if wanted.accelerator is None:
        return _beside(found, known, count)
    if count.total == 0:
        return Reason("none-there", say.none_there(known.title), True)
    if found.why == "labels":
        text = (
            f"The cluster has {known.title}, but no node that has it meets what else this profile asks of a node. "
            f"{_OTHERWISE}"
        )
        return Reason("node-selector", text, found.hopeless)
    most = max((fit.count for fit in count.fits_empty), default=wanted.count)
    if most < wanted.count:
        return Reason("does-not-fit", say.too_many(known.title, wanted.count, most), True)
    seen = available.free(wanted.accelerator, wanted.user)
    if seen.free is not None and seen.free < wanted.count:
        return Reason("no-room", say.full(known.title, wanted.count, seen, count.held_because), False)
    if found.why in ("nodes-away", "taint"):  # not the nodes that have it, which are counted as they are
        text = (
            f"The cluster has {known.title} free, but no node that has it takes this session at the moment, "
            "perhaps for what else this profile asks of a node."
        )
        return Reason("no-room", text, False)
    return _beside(found, known, count)


def _beside(found: Verdict, known: Known, count: Count) -> Reason | None:
    """Cpu and memory that no node has beside what was picked, with the largest that one has."""
    if found.why != "lacking" or not {"cpu", "memory"} & set(found.lacking):
        return None
    wanted = known.wanted
    empty = [fit for fit in count.fits_empty if fit.count >= wanted.count]
    if empty and not _fits(wanted, empty):
        text = say.never_fits(wanted.cpu_m, wanted.memory, empty, known.title, wanted.count)
        return Reason("does-not-fit", text, True)
    now = [fit for fit in count.fits_now if fit.count >= wanted.count]
    if _fits(wanted, now):
        return None  # the counts are behind, or ahead
    return Reason("no-room", say.no_room_now(wanted.cpu_m, wanted.memory, now, known.title, wanted.count), False)


def _fits(wanted: Reservation, room: list[Fit]) -> bool:
    return any((wanted.cpu_m or 0) <= fit.cpu_m and (wanted.memory or 0) <= fit.memory for fit in room)


# --- by the scheduler's words alone -------------------------------------------------------------------------------


def _said(found: Verdict, known: Known | None) -> Reason:
    title = known.title if known is not None else ""
    if found.why in _ABOUT_VOLUMES:
        return _about_volume(found)
    if found.why in ("no-class", "selector-error", "claim-not-made", "claims"):
        return _about_claim(found, title)
    if found.why == "lacking":
        return _lacking(found, known)
    if found.why == "labels":
        if title:
            return Reason(
                "none-there", f"No node of the cluster has {title} as this profile asks for it. {_OTHERWISE}", True
            )
        text = f"No node of the cluster has the hardware that this profile asks for. {_OTHERWISE}"
        return Reason("unschedulable", text, True)
    if found.why == "taint" and found.hopeless:
        return Reason(
            "tainted", f"All nodes that this session could use are reserved for something else. {_OTHERWISE}", True
        )
    if found.why == "taint":
        text = (
            "No node that takes this session at the moment has what it asks for; "
            "nodes that are reserved or do not work may have it."
        )
        return Reason("no-room", text, False)
    if found.why == "nodes-away":
        text = (
            "No node that takes sessions at the moment has what this one asks for; "
            "nodes that are away, for example for maintenance, may have it."
        )
        return Reason("no-room", text, False)
    return Reason("no-room", "No node of the cluster can take the session at the moment.", False)


def _about_volume(found: Verdict) -> Reason:
    text = _ABOUT_VOLUMES[found.why].format(found.detail)
    if found.hopeless:
        return Reason("home-unreachable", f"{text} {_OTHERWISE}", True)
    return Reason("no-room", text, False)


def _about_claim(found: Verdict, title: str) -> Reason:
    what = title or "the accelerator"
    if found.why == "no-class":
        text = f"The cluster does not know how to hand out {what}: it has no device class {found.detail}. {_OTHERWISE}"
        return Reason("no-device-class", text, True)
    if found.why == "selector-error":
        text = (
            f"The cluster cannot tell which devices are {what}: “{found.detail}”. Choose another accelerator, and tell "
            "your administrators: a selector in the catalogue does not fit the devices."
        )
        return Reason("device-selector", text, True)
    if found.why == "claim-not-made":
        return Reason("claim-pending", f"The cluster is making the claim for {what}.", False)
    return Reason(
        "no-room", f"No node has {what} free at the moment; it is free again when somebody else stops.", False
    )


def _lacking(found: Verdict, known: Known | None) -> Reason:
    names = dict(_NAMES)
    if known is not None and known.resource is not None:
        names[known.resource] = known.title
    what = " and ".join(names.get(resource, resource) for resource in found.lacking)
    if found.hopeless:
        text = f"No node of the cluster is large enough: not enough {what}, even if it were empty. {_OTHERWISE}"
        return Reason("does-not-fit", text, True)
    text = f"No node has enough free {what} at the moment; it is free again when somebody else stops."
    return Reason("no-room", text, False)
