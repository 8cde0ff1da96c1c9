"""What somebody is told who has a place in the queue: in a sentence, and as a refusal at the hub's own doors. Pure."""

from __future__ import annotations

from hub.admission.decide import Queued
from hub.admission.doors import Waits
from spawner.refusal import Refusal

__all__ = ["ordinal", "place_of", "queued"]


def ordinal(number: int) -> str:
    """Return `1st`, `2nd`, `3rd`, `11th`."""
    last = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 10 < number % 100 < 14 else last}"


def place_of(found: Queued | None, title: str) -> str:
    """Return where somebody stands: `2nd in line for A100 1g slice`.

    Parameters
    ----------
    title
        What the accelerator is called; empty: none is asked for.
    """
    if found is None or not found.cause:
        return "Your turn has come"
    return f"{ordinal(found.place)} in line" + (f" for {title}" if title else "")


def queued(answer: Waits, page: str, title: str = "") -> Refusal:
    """Return the refusal by which the hub's own doors say that somebody has a place in the queue.

    Parameters
    ----------
    page
        Address of the page that shows the place; empty: there is none.
    """
    found, ticket = answer.queued, answer.ticket
    why = found.why if found is not None else ticket.said
    where = f" Follow it at {page}." if page else ""
    text = (
        f"Not free now, so you are in the queue: {place_of(found, title or ticket.accelerator or '')}. {why} "
        f"Your server is started by itself when it is your turn; asking again changes nothing.{where}"
    )
    headers = {"Armillary-Ticket": ticket.id, **({"Link": f'<{page}>; rel="monitor"'} if page else {})}
    return Refusal("queued", text, log=f"queued: ticket {ticket.id}", status=409, headers=headers)
