"""What a card of the form says about one accelerator, in words and as a picture. Pure.

The page's script (`hub/templates/form-words.js`) says the same in the same words when the counts change; a test
compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from spawner.capacity.availability import Availability, Free
from spawner.capacity.grant import room
from spawner.capacity.grant_text import beside, largest, reasons
from spawner.capacity.model import Fit

__all__ = ["Card", "card", "fits_line"]

MOST_DOTS = 24
"""How many are drawn one by one; more are a bar."""

State = Literal["free", "full", "unknown"]
Dot = Literal["mine", "others", "held", "free"]


@dataclass(frozen=True)
class Card:
    """`text` and `held` are sentences without an end; `dots` are drawn one by one, or `parts` (per cent) as a bar."""

    state: State
    text: str
    held: str = ""
    dots: tuple[Dot, ...] = ()
    parts: tuple[tuple[Dot, float], ...] = ()


def card(availability: Availability, accelerator: str, user: str) -> Card:
    """Return what is known now of one accelerator, for this person."""
    free = availability.free(accelerator, user)
    count = availability.count(accelerator)
    if free.free is None:
        return Card("unknown", f"how many are free is not known now: {free.why}" if free.why else _UNKNOWN)
    if free.total == 0:
        return Card("full", "none there at the moment")
    held = _held(free, count.held_because if count else ())
    numbers: tuple[tuple[Dot, int], ...] = (
        ("mine", free.mine), ("others", free.others), ("held", free.held_back), ("free", free.free)
    )  # fmt: skip
    state: State = "free" if free.free else "full"
    if free.total > MOST_DOTS:
        parts = tuple((dot, round(100 * number / free.total, 2)) for dot, number in numbers if number)
        return Card(state, _text(free), held, parts=parts)
    return Card(state, _text(free), held, dots=tuple(dot for dot, number in numbers for _ in range(number)))


_UNKNOWN = "how many are free is not known now"


def _text(free: Free) -> str:
    if free.free:
        return f"{free.free} of {free.total} free" + (f", {free.mine} used by you" if free.mine else "")
    users = [f"{free.others} by others"] * bool(free.others) + [f"{free.mine} by you"] * bool(free.mine)
    if not users:
        return "none free"
    return f"none free: in use {', '.join(users)}" if free.held_back else f"all in use: {', '.join(users)}"


def _held(free: Free, because: Sequence[tuple[str, int]]) -> str:
    return f"{free.held_back} cannot be used now: {reasons(because)}" if free.held_back else ""


def fits_line(availability: Availability, accelerator: str | None, title: str, count: int) -> str:
    """Return how much cpu and memory one node has now for a session with so many accelerators.

    On one machine it is what the whole machine has: sessions share it, and none is refused for want of room there.
    Empty where it is not known, and where so many accelerators are not free: nothing fits then, and the card says why.
    """
    counted = availability.count(accelerator)
    if not availability.fresh or counted is None or counted.unknown or not counted.fits_empty:
        return ""
    if accelerator is not None and (availability.free(accelerator).free or 0) < count:
        return ""
    here = availability.snapshot is not None and availability.snapshot.engine == "local"
    now = room(availability, accelerator)
    if here and accelerator is not None and all(fit.count < count for fit in now):
        return ""
    fits: Iterable[Fit] = counted.fits_empty if here else now
    found = largest(fit for fit in fits if fit.count >= count).rstrip(",")
    if not found:
        return "" if here else f"Nothing fits{beside(title, count)} at the moment."
    return f"Fits{beside(title, count)}{'' if here else ' now'}: up to {found}."
