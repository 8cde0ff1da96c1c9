"""Who comes before whom in the queue: priority, then fair share between accounts, then who asked first. Pure.

Fair share goes by what an account used lately (share-seconds, decayed, over its weight), in coarse steps: each step is
twice as much as the one before, from one hour of a whole card on. So places do not flicker while sessions run, and who
used a little more does not stand behind for it. Within an account it is always who asked first.

Every card that an account holds or has asked for before counts like an hour of use (Kueue's admission fair sharing
knows this as an entry penalty). So an account that asks for ten at once gets its first in its turn and the others
between those of other accounts.

Waiting makes up for use: for each `AGE_S` of it a ticket goes one step up. That is why nobody waits for ever behind a
stream of accounts that used nothing yet. Only priority is not made up for; administrators give it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from hub.admission.standing import Standing, Waiting

__all__ = ["AGE_S", "ENTRY_S", "in_order", "keeps_place", "line", "places", "step"]

AGE_S = 4 * 3600.0
"""For so many seconds of waiting a ticket goes one step up."""

ENTRY_S = 3600.0
"""What each card that is held, or asked for before, counts as: seconds of use of a whole one."""

W = TypeVar("W", bound=Waiting)


class _Charged(Protocol):
    @property
    def account(self) -> str: ...
    @property
    def share(self) -> float: ...


def step(used_s: float) -> int:
    """Return the step of fair share at so many share-seconds: 0 below 1 hour, 1 below 3, 2 below 7, 3 below 15."""
    return int(1.0 + max(0.0, used_s) / 3600.0).bit_length() - 1


def in_order(
    tickets: Iterable[W],
    fair: Mapping[str, float],
    *,
    now: float = 0.0,
    held: Iterable[_Charged] = (),
    weights: Mapping[str, float] | None = None,
) -> list[W]:
    """Return the tickets, first who comes first.

    Parameters
    ----------
    fair
        Decayed share-seconds over weight, by account; only those of the tickets' accounts are looked up.
    now
        The present moment; ranks are moments too.
    held
        What is held already.
    weights
        Of accounts whose weight is not 1.
    """
    weights = weights or {}
    by_account: dict[tuple[int, str], list[W]] = {}
    for ticket in tickets:
        by_account.setdefault((-ticket.priority, ticket.account), []).append(ticket)
    used = {account: fair.get(account, 0.0) for _, account in by_account}
    for one in held:
        if one.share and one.account in used:
            used[one.account] += ENTRY_S * one.share / weights.get(one.account, 1.0)
    found: list[W] = []
    for priority in sorted({priority for priority, _ in by_account}):
        mine = {account: tickets for (of, account), tickets in by_account.items() if of == priority}
        found += _by_turns(mine, used, weights, now)
    return found


def _by_turns(
    by_account: Mapping[str, list[W]], used: dict[str, float], weights: Mapping[str, float], now: float
) -> Iterable[W]:
    """Yield the tickets of one priority; `used` grows by what they count as."""
    heap: list[tuple[int, float, str, str, int]] = []

    def push(account: str, index: int) -> None:
        ticket = by_account[account][index]
        age = max(0.0, now - ticket.rank) // AGE_S
        heapq.heappush(heap, (step(used[account]) - int(age), ticket.rank, ticket.id, account, index))

    for account, tickets in by_account.items():
        tickets.sort(key=lambda ticket: (ticket.rank, ticket.id))
        push(account, 0)
    while heap:
        *_, account, index = heapq.heappop(heap)
        ticket = by_account[account][index]
        yield ticket
        if ticket.share:
            used[account] += ENTRY_S * ticket.share / weights.get(account, 1.0)
        if index + 1 < len(by_account[account]):
            push(account, index + 1)


def line(standing: Standing, extra: Waiting | None = None) -> list[Waiting]:
    """Return everybody who waits, first who comes first; `extra` takes the place of its own ticket if there is one."""
    tickets: list[Waiting] = list(standing.tickets)
    if extra is not None:
        tickets = [
            one for one in tickets if (one.user, one.server) != (extra.user, extra.server) and one.id != extra.id
        ]
        tickets.append(extra)
    return in_order(tickets, standing.fair, now=standing.now, held=standing.held, weights=standing.weights)


def places(ordered: Sequence[Waiting]) -> dict[str, tuple[int, int]]:
    """Return (place, of how many) by ticket: who waits for the same accelerator stands in one line."""
    reached: dict[str | None, int] = {}
    found = {}
    for ticket in ordered:
        reached[ticket.accelerator] = reached.get(ticket.accelerator, 0) + 1
        found[ticket.id] = (reached[ticket.accelerator], ticket.accelerator)
    return {ticket_id: (place, reached[accelerator]) for ticket_id, (place, accelerator) in found.items()}


def keeps_place(before: Waiting, after: Waiting) -> bool:
    """Return whether a changed request keeps its place: it is charged to the same account, and asks for no more of the
    same accelerator (cards, cpu, memory, time). Another profile, image or option does not matter.

    More would be taken from those behind, and another accelerator has a line of its own. What the profile leaves open
    (None) is as much as it was if it was open before, else it may be more; a time that is not limited is the longest.
    """
    if (before.account, before.accelerator) != (after.account, after.accelerator) or after.count > before.count:
        return False
    return (
        _no_more(before.cpu_m, after.cpu_m)
        and _no_more(before.memory, after.memory)
        and (before.session_s is None or _no_more(before.session_s, after.session_s))
    )


def _no_more(before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return before is after
    return after <= before
