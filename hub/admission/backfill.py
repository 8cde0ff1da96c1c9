"""Who starts now and who starts when: everybody's start is planned, in order, on what becomes free. Pure.

This is conservative backfill: each ticket in line gets the first moment at which enough is free for as long as it
lasts, beside what those in front of it will have then; so whoever passes somebody ends early enough, or takes what
that one does not need. A ticket starts now if, and only if, its planned start is now.

Three rules go beyond the textbook, since people's sessions often have no end that is known:

- What ends at an unknown time never becomes free in the plan. A start that cannot be foreseen delays nobody at first:
  who fits may pass. After `Standing.patience_s` of waiting that ends, and what it needs is kept for it.
- Who waits for room on one node (cards together, cpu and memory beside them) has no planned start either: no one knows
  what frees which node. When it has waited long enough nobody behind it gets the same accelerator until the sessions
  that were there then have ended.
- Who is kept back by a limit, its own or its group's, or by a login, keeps its place and holds nothing back; nor does
  who could not start even if none of our sessions ran, because less can be used at the moment.

What several of one account are planned to hold together counts too: nobody uses up a limit of a group that somebody of
that group in front is planned to start on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from typing import Literal, NamedTuple

from hub.admission.allowance import Allowance, Blocked, Delay
from hub.admission.cards import Cards, cards_of
from hub.admission.standing import Asked, Standing, Waiting
from profiles.model import Catalogue, Engine

__all__ = ["Cause", "Planned", "plan", "plan_now"]

Cause = Literal["", "full", "behind", "room", "limit", "own-limit", "group", "unknown", "login", "retry"]
"""Why somebody does not start now. `full`: fewer are free than it needs. `behind`: enough are free, but they are for
those in front. `room`: no one node has it together. `limit`, `own-limit`: of the account, of the person. `group`: it
would use up the account's limit before the planned start of one in front; its own start is planned for when it would
not, where that is known. `unknown`: what is free is not known.
`login`: its owner has to log in. `retry`: a start failed, the next attempt comes later."""


_PASSED_OVER = frozenset({"limit", "own-limit", "group", "login"})


class Planned(NamedTuple):
    """When somebody starts: `start` is None where nobody can know. `firm`: nobody in front has an unknown start.
    `limit` says which limit, where it is one."""

    start: float | None
    now: bool
    cause: Cause = ""
    firm: bool = True
    limit: Blocked | None = None
    any_known: bool = False


def plan(
    line: Iterable[Waiting],
    standing: Standing,
    catalogue: Catalogue,
    engine: Engine,
    *,
    nodes_may_appear: bool = False,
) -> dict[str, Planned]:
    """Return when each of these starts, by ticket id; they are given in the order of `hub.admission.order.line`."""
    planner = _Planner(standing, catalogue, engine, nodes_may_appear, True)
    return {one.id: planner.place(one) for one in line}


def plan_each(
    line: Iterable[Waiting],
    standing: Standing,
    catalogue: Catalogue,
    engine: Engine,
    *,
    nodes_may_appear: bool = False,
) -> Iterator[tuple[Waiting, Planned]]:
    """Plan one after the other, as far as they are asked for: who starts now, and who does not.

    The limits of those for whom nothing is free now are not looked up. Nobody starts by that who should not, and it is
    quicker; but estimates behind those who are kept back by a limit come out too long.
    """
    planner = _Planner(standing, catalogue, engine, nodes_may_appear, False)
    for one in line:
        yield one, planner.place(one)


def plan_now(
    front: Iterable[Waiting],
    asked: Waiting,
    standing: Standing,
    catalogue: Catalogue,
    engine: Engine,
    *,
    nodes_may_appear: bool = False,
) -> Planned:
    """Return whether this one starts now if those in front of it come first; looks no further than it takes to know.

    `start` is known only where it is now.
    """
    planner = _Planner(standing, catalogue, engine, nodes_may_appear, False)
    cards = planner.cards_of(asked.accelerator)
    for one in front:
        planner.place(one)
        if not cards.any_now and not cards.limitless(asked):
            return Planned(None, False, "behind" if cards.free >= asked.count else "full", False)
    return planner.place(asked)


class _Planner:
    def __init__(
        self, standing: Standing, catalogue: Catalogue, engine: Engine, nodes_may_appear: bool, thorough: bool
    ) -> None:
        self._standing = standing
        self._catalogue = catalogue
        self._engine: Engine = engine
        self._nodes_may_appear = nodes_may_appear
        self._thorough = thorough
        self._allowance = Allowance(standing)
        self._cards: dict[str | None, Cards] = {}

    def place(self, one: Waiting) -> Planned:
        """Plan the start of the next in line."""
        cards = self.cards_of(one.accelerator)
        planned = self._placed(one, cards)
        if planned.start is None and planned.cause in _PASSED_OVER:
            cards.unsure = True  # it keeps its place, and takes it up when what keeps it back is over
        elif not planned.now:
            cards.in_front += 1
        return planned

    def _placed(self, one: Waiting, cards: Cards) -> Planned:
        if one.needs_login:
            return Planned(None, False, "login")
        blocked = self._allowance.blocked(one) if self._thorough or cards.any_now else None
        if blocked is not None:
            return Planned(None, False, "own-limit" if blocked.own else "limit", limit=blocked)
        if cards.state == "blind" and not self._may_go_blind(one, cards):
            return Planned(None, False, "unknown")
        now = self._standing.now
        lasts = inf if one.session_s is None else one.session_s
        free_of_cards = cards.state == "blind" or cards.limitless(one)
        if cards.closed and not free_of_cards:
            return Planned(None, False, "behind", False)
        start, delayed = self._first(one, None if free_of_cards else cards, lasts)
        if delayed is not None and start is None:
            return Planned(None, False, "group", False, Blocked(False, delayed.broken))
        if start is not None and start <= now:
            return self._now(one, cards, lasts)
        planned = self._unforeseen(one, cards) if start is None else self._later(one, cards, start, lasts)
        if start is not None or (self._has_waited_long(one) and cards.possible(one)):
            self._allowance.later(one, start, lasts)
        if delayed is not None and planned.cause != "retry" and (free_of_cards or cards.free >= one.count):
            return planned._replace(cause="group", limit=Blocked(False, delayed.broken))
        return planned

    def _first(self, one: Waiting, cards: Cards | None, lasts: float) -> tuple[float | None, Delay | None]:
        """Return the first moment at which enough is free and nobody of the account in front is delayed; and who was.

        Whether a card is free now makes no difference to who is kept back for others of its account: else it would
        hold back those behind it as soon as somebody took that card.
        """
        start, delayed = self._earliest(one, cards, lasts, one.not_before), None
        while start is not None:
            found = self._allowance.delays(one, start, lasts)
            if found is None:
                return start, delayed
            delayed = found
            start = None if found.until == inf else self._earliest(one, cards, lasts, found.until)
        return None, delayed or self._allowance.delays(one, self._standing.now, lasts)

    def _earliest(self, one: Waiting, cards: Cards | None, lasts: float, not_before: float) -> float | None:
        if cards is None:
            return max(self._standing.now, not_before)
        return cards.timeline.earliest(one.count, lasts, not_before)

    def _now(self, one: Waiting, cards: Cards, lasts: float) -> Planned:
        now = self._standing.now
        if cards.closed:
            return Planned(None, False, "behind", False)
        if not cards.fits(one):
            self._wait_for_room(one, cards)
            return Planned(None, False, "room", False)
        if not cards.limitless(one) and cards.state == "counted":
            cards.timeline.take(now, lasts, one.count)
        cards.start(one)
        self._allowance.start(one, now + lasts)
        return Planned(now, True)

    def _later(self, one: Waiting, cards: Cards, start: float, lasts: float) -> Planned:
        if one.not_before > self._standing.now and start == one.not_before:
            cause: Cause = "retry"
        else:
            cause = self._full_or_behind(one, cards)
        if not cards.limitless(one):
            cards.timeline.take(start, lasts, one.count)
        return Planned(start, False, cause, not cards.unsure)

    def _unforeseen(self, one: Waiting, cards: Cards) -> Planned:
        cause = self._full_or_behind(one, cards)
        known = cards.timeline.known
        cards.unsure = True
        if self._has_waited_long(one) and cards.possible(one):
            cards.timeline.take(self._standing.now, inf, one.count)
        return Planned(None, False, cause, False, any_known=known)

    @staticmethod
    def _full_or_behind(one: Waiting, cards: Cards) -> Cause:
        return "behind" if cards.in_front and cards.free >= one.count else "full"

    def _wait_for_room(self, one: Waiting, cards: Cards) -> None:
        """Keep the whole kind for one that has waited long enough, as long as that can help it."""
        cards.unsure = True
        if not self._has_waited_long(one) or not cards.possible(one):
            return
        since = one.rank + self._standing.patience_s
        granted_at = self._standing.granted_at
        cards.closed = any(
            held.accelerator == one.accelerator and granted_at.get(held.id, -inf) < since
            for held in self._standing.held
        )
        if cards.closed:
            self._allowance.later(one, None, inf)

    def _has_waited_long(self, one: Waiting) -> bool:
        return self._standing.now - one.rank >= self._standing.patience_s

    def _may_go_blind(self, one: Waiting, cards: Cards) -> bool:
        """Whether the scheduler shall have the word, as long as nobody waits."""
        return self._engine == "kubernetes" and isinstance(one, Asked) and not one.id and not cards.in_front

    def cards_of(self, key: str | None) -> Cards:
        """Return this accelerator, as far as it is planned."""
        found = self._cards.get(key)
        if found is None:
            found = self._cards[key] = cards_of(
                key, self._standing, self._catalogue, self._engine, nodes_may_appear=self._nodes_may_appear
            )
        return found
