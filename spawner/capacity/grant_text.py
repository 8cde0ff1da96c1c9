"""The words of a refusal for want of room: what there is, who has it, what to do now. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from profiles.quantities import say_memory
from spawner.capacity.availability import Free
from spawner.capacity.model import Fit

__all__ = [
    "beside",
    "cores",
    "full",
    "largest",
    "never_fits",
    "no_room_now",
    "none_here",
    "none_there",
    "reasons",
    "shares_of_too_few",
    "too_many",
    "unknown_here",
]

_OTHERWISE = "Try again later, or choose another accelerator."


def full(title: str, asked: int, seen: Free, held_because: Sequence[tuple[str, int]]) -> str:
    """Return why so many are not to be had: who has them, and what cannot be used."""
    users = [f"{seen.others} by others"] * bool(seen.others) + [f"{seen.mine} by you"] * bool(seen.mine)
    held = [f"{seen.held_back} cannot be used now: {reasons(held_because)}"] if seen.held_back else []
    if seen.free:
        used = [f"{', '.join(users)} in use"] if users else []
        why = f": {'; '.join(used + held)}" if used or held else ""
        only = f"Only {seen.free} of {seen.total} {title} {'is' if seen.free == 1 else 'are'} free"
        return f"{only}, you asked for {asked}{why}. Ask for fewer, try again later, or choose another accelerator."
    if not held:
        by = f": {', '.join(users)}" if users else ""
        beginning = f"All {seen.total} {title} are in use" if seen.total > 1 else f"The only {title} is in use"
        return f"{beginning}{by}. {_OTHERWISE}"
    if not users:
        which = f"None of the {seen.total} {title}" if seen.total > 1 else f"The only {title}"
        return f"{which} {'can' if seen.total > 1 else 'cannot'} be used now: {reasons(held_because)}. {_OTHERWISE}"
    return f"None of the {seen.total} {title} is free: in use {', '.join(users)}; {'; '.join(held)}. {_OTHERWISE}"


def reasons(held_because: Sequence[tuple[str, int]]) -> str:
    """Return why some cannot be used: `cordoned`, or `3 cordoned, 1 not ready`."""
    if len(held_because) == 1:
        return held_because[0][0]
    return ", ".join(f"{number} {why}" for why, number in held_because) or "held back"


def shares_of_too_few(title: str, asked: int, seen: Free, devices: int) -> str:
    """Return why so many are not to be had although as many are free: they are shares of fewer devices."""
    of = "one device" if devices == 1 else f"{devices} devices"
    return (
        f"{seen.free} of {seen.total} {title} are free, but as shares of {of}, and a session gets one share of each: "
        f"you asked for {asked}. Ask for fewer, try again later, or choose another accelerator."
    )


def none_there(title: str) -> str:
    """Return what is said where the whole cluster has none."""
    return f"No node of the cluster has {title} at the moment. {_OTHERWISE}"


def none_here(title: str) -> str:
    """Return what is said where this machine has none."""
    return f"This machine has no {title} at the moment. Choose another accelerator, or tell your administrators."


def unknown_here(title: str, why: str) -> str:
    """Return what is said where devices cannot be handed out because nobody knows which are free."""
    return f"It is not known which {title} are free ({why}). Try again in a minute, or choose no accelerator."


def too_many(title: str, asked: int, most: int, *, now: bool = False, free: int = 0) -> str:
    """Return what is said where one node has fewer than were asked for; `now`: free ones, of which others have more."""
    if now:
        return (
            f"{free} {title} are free, but on one node at most {most} at the moment, and a session runs on one. "
            "Ask for fewer, or try again later."
        )
    return f"You asked for {asked} {title}, but a session gets at most {most}: no node has more. Ask for fewer."


def never_fits(cpu_m: int | None, memory: int | None, fits: Iterable[Fit], title: str, count: int) -> str:
    """Return what is said where so much cpu and memory beside the accelerator fits no node, empty or not."""
    asked = " and ".join(_amounts(cpu_m, memory))
    plural = "do" if cpu_m is not None and (memory is not None or cpu_m != 1000) else "does"
    return f"{asked} {plural} not fit: at most {largest(fits)}{beside(title, count)} on any node. Ask for less."


def no_room_now(cpu_m: int | None, memory: int | None, fits: Iterable[Fit], title: str, count: int) -> str:
    """Return what is said where no node has so much cpu and memory free beside a free accelerator."""
    asked = " and ".join(_amounts(cpu_m, memory))
    found = largest(fits)
    most = f": at most {found.rstrip(',')}" if found else ""
    return f"No node has {asked} free{beside(title, count)} at the moment{most}. Ask for less, or try again later."


def largest(fits: Iterable[Fit]) -> str:
    """Return `14 CPU cores and 90 GiB`, or the two extremes where neither is the largest in both."""
    found = list(fits)
    if not found:
        return ""
    most_cpu = max(found, key=lambda fit: (fit.cpu_m, fit.memory))
    most_memory = max(found, key=lambda fit: (fit.memory, fit.cpu_m))
    ends = dict.fromkeys(" and ".join(_amounts(fit.cpu_m, fit.memory)) for fit in (most_cpu, most_memory))
    return ", or ".join(ends) + ("," if len(ends) > 1 else "")


def _amounts(cpu_m: int | None, memory: int | None) -> list[str]:
    return [*([cores(cpu_m)] if cpu_m is not None else []), *([say_memory(memory)] if memory is not None else [])]


def cores(cpu_m: int) -> str:
    """Return `14 CPU cores`, `1 CPU core`, `0.5 CPU cores`."""
    return f"{cpu_m / 1000:.10g} CPU core{'' if cpu_m == 1000 else 's'}"


def beside(title: str, count: int) -> str:
    """Return ` beside one T4` or ` beside 2 T4`; nothing for a session without accelerator."""
    if not title:
        return ""
    return f" beside {'one' if count == 1 else count} {title}"
