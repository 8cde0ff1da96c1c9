"""The words for those who wait: why they do not start now, and what their start waits for. Pure."""

from __future__ import annotations

from hub.admission.allowance import whose
from hub.admission.backfill import Planned
from hub.admission.estimate import Estimate
from hub.admission.standing import Standing, Waiting
from profiles.model import Catalogue, Engine
from profiles.offers import title_of
from profiles.quantities import say_memory
from spawner.capacity import grant_text as say

__all__ = ["estimated", "why"]


def why(one: Waiting, planned: Planned, standing: Standing, catalogue: Catalogue, engine: Engine) -> str:
    """Return in a sentence or two why this one does not start now; where it does, that it does."""
    title = _title(one.accelerator, catalogue, engine)
    match planned.cause:
        case "":
            return "It is your turn."
        case "login":
            return "Your login has run out. Log in again, then your server is started in your turn."
        case "unknown":
            return f"What is free is not known at the moment{_since(standing)}. Nobody is started before it is known."
        case "limit" | "own-limit" if planned.limit is not None:
            return f"{planned.limit.broken.why} You keep your place; others pass until there is room."
        case "group" if planned.limit is not None:
            return f"{planned.limit.broken.why} Somebody of your group who comes before you needs what is left of it."
        case "retry":
            return "The last attempt to start it failed. The next one follows soon."
        case "room":
            return _no_room(one, title)
        case "behind":
            return f"Enough {title or 'room'} is free, but kept for those who come before you."
        case _:
            return _full(one, title, standing)


def estimated(one: Waiting, planned: Planned, standing: Standing) -> Estimate:
    """Return when this one starts, and what that waits for; or why it is not known."""
    if planned.start is None:
        return Estimate(None, _unknown(one, planned, standing))
    if planned.now:
        return Estimate(planned.start, "")
    if planned.cause == "retry":
        return Estimate(planned.start, "when it is tried again")
    in_group = planned.cause == "group"
    because = "after somebody of your group who comes before you" if in_group else "when a session's time limit ends"
    if not planned.firm or (
        one.count > 1 and standing.availability.snapshot is not None and _many_nodes(one, standing)
    ):
        return Estimate(planned.start, f"at the earliest, {because}")
    return Estimate(planned.start, because)


def _unknown(one: Waiting, planned: Planned, standing: Standing) -> str:
    match planned.cause:
        case "login":
            return "it waits until you log in"
        case "unknown":
            return "what is free cannot be counted at the moment"
        case "own-limit":
            return "it waits until one of your own sessions ends"
        case "limit" | "group":
            return f"it depends on the sessions of {whose(one.account)}"
        case "room":
            return "nobody knows when one node has enough room"
        case "behind" if planned.any_known is False and not planned.firm:
            return "those who come before you wait for room, and nobody knows when they get it"
    if planned.any_known:
        return "not enough of those who hold one, or come before you, have a time limit"
    if any(held.accelerator == one.accelerator for held in standing.held):
        return "nobody who holds one has a time limit"
    return "nobody knows when one can be used again"


def _title(accelerator: str | None, catalogue: Catalogue, engine: Engine) -> str:
    if accelerator is None:
        return ""
    known = catalogue.accelerators.get(accelerator)
    return accelerator if known is None else title_of(known, engine)


def _since(standing: Standing) -> str:
    as_of = standing.availability.as_of
    return "" if as_of is None else f" (last known at {as_of.astimezone():%H:%M})"


def _no_room(one: Waiting, title: str) -> str:
    amounts = [say.cores(one.cpu_m)] if one.cpu_m is not None else []
    amounts += [say_memory(one.memory)] if one.memory is not None else []
    if amounts:
        return f"No node has {' and '.join(amounts)} free{say.beside(title, one.count)} at the moment."
    return f"No node has {one.count} {title} free together at the moment, and a session runs on one."


def _full(one: Waiting, title: str, standing: Standing) -> str:
    if one.accelerator is None:
        return "There is no room at the moment."
    seen = standing.availability.free(one.accelerator, one.user)
    held = f"; {seen.held_back} cannot be used now" if seen.held_back else ""
    if seen.free:
        is_are = "is" if seen.free == 1 else "are"
        return f"Only {seen.free} of {seen.total} {title} {is_are} free, you asked for {one.count}{held}."
    if seen.total == 0:
        return f"There is no {title} at the moment."
    beginning = f"All {seen.total} {title} are in use" if seen.total > 1 else f"The only {title} is in use"
    return f"None of the {seen.total} {title} is free{held}." if held else f"{beginning}."


def _many_nodes(one: Waiting, standing: Standing) -> bool:
    """Whether so many may be free without one node having them."""
    count = standing.availability.count(one.accelerator)
    return count is not None and max((fit.count for fit in count.fits_empty), default=0) < count.total
