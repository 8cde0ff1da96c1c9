"""The one decision: admitted, queued or refused. Pure; what is known goes in as a `Standing`.

Refused is what waiting does not help, or what was not asked to wait: a person's own limits, budgets that are spent,
what no node could ever take, too many places in the queue. Queued is what fits, but not now or not before others.
Somebody who has a ticket is never refused here: what speaks against a start then is said, and the place is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import NamedTuple

from hub.admission.allowance import Blocked, whose
from hub.admission.backfill import Cause, Planned, plan, plan_each, plan_now
from hub.admission.estimate import Estimate
from hub.admission.order import line, places
from hub.admission.reasons import estimated, why
from hub.admission.standing import Asked, Bounds, Standing, Waiting
from hub.quotas.budgets import session_length
from hub.quotas.check import YOU, Broken, check
from hub.quotas.holdings import Holdings
from profiles.model import Catalogue, Engine
from spawner.capacity.grant import grant
from spawner.refusal import Refusal
from spawner.reservation import Reservation

__all__ = [
    "Admitted",
    "Asked",
    "Queued",
    "Stand",
    "decide",
    "limited",
    "queue",
    "refuse_without_slot",
    "startable",
]

_PASSING = frozenset({"full", "no-room-now"})
"""Codes of refusals of `grant` that pass by themselves, so that one can wait for it."""

_CAUSES: Mapping[str, Cause] = {"full": "full", "no-room-now": "room", "none-there": "full", "does-not-fit": "room"}


@dataclass(frozen=True)
class Admitted:
    """Yes: what is to be reserved, in the same transaction."""

    reservation: Reservation


class Stand(NamedTuple):
    """Where somebody stands: at `place` of `of` who wait for the same accelerator, and when the start will be."""

    place: int
    of: int
    estimate: Estimate


@dataclass(frozen=True)
class Queued:
    """Not now. `why` is a sentence or two for the person, `cause` the same as a word. `session_s` is how long the
    session may last then, which is what a ticket stores; `now` is the moment of the decision. Place and estimate are
    worked out, from what was known then, when they are first asked for: after the transaction."""

    why: str
    cause: Cause
    session_s: float | None
    now: float
    look: Callable[[], Stand] = field(repr=False, compare=False)

    @cached_property
    def _stand(self) -> Stand:
        return self.look()

    @property
    def place(self) -> int:
        """Which in line for the accelerator: 1 is the next."""
        return self._stand.place

    @property
    def of(self) -> int:
        """How many are in that line."""
        return self._stand.of

    @property
    def estimate(self) -> Estimate:
        """When the start will be."""
        return self._stand.estimate


def decide(
    asked: Asked,
    standing: Standing,
    catalogue: Catalogue,
    engine: Engine,
    nodes_may_appear: bool = False,
    *,
    slot: bool = True,
) -> Admitted | Queued:
    """Return whether this request starts now or waits, and where.

    Parameters
    ----------
    slot
        Whether a start slot is free. Without one nobody starts now, so whether those in front leave anything is not
        worked out, which takes as long as they are many: `Admitted` says then that nothing else is known to be missing.

    Raises
    ------
    Refusal
        409: `quota-…`, `budget-spent`, `queue-full`, `does-not-fit`, `none-there`; where it may not wait also `full`,
        `no-room-now`, `queue` (free, but for those in front), `quota-…` of a group. 503: `capacity-unknown`. Never for
        somebody who has a ticket.
    """
    try:
        return _decide(asked, standing, _Rules(standing, catalogue, engine, nodes_may_appear), slot)
    except Refusal as refusal:
        # As a value it went through functions that it would keep, with all that they know, until the garbage collector
        # finds out.
        raise refusal.with_traceback(None) from None


def _decide(asked: Asked, standing: Standing, rules: _Rules, slot: bool) -> Admitted | Queued:
    bounds = standing.bounds.get((asked.user, asked.account), Bounds())
    asked = limited(asked, standing)
    blocked = _blocked(asked, bounds, standing)
    if blocked is not None and not asked.id and (blocked.own or _is_final(blocked.broken)):
        raise _refusal(blocked.broken)
    granted, refused = _granted(asked, rules)
    if refused is not None and not asked.id and refused.code not in _PASSING:
        raise refused
    if not slot and blocked is None and granted is not None:
        return Admitted(granted)
    if blocked is not None:
        planned = Planned(None, False, "own-limit" if blocked.own else "limit", limit=blocked)
    elif refused is not None:
        planned = Planned(None, False, _CAUSES.get(refused.code, "unknown"), False)
    else:
        planned = rules.planned(asked, bounds)
    if planned.now and granted is not None:
        return Admitted(granted)
    queued = Queued(
        rules.why(asked, planned), planned.cause, asked.session_s, standing.now, partial(rules.stand, asked)
    )
    if not asked.id:
        _refuse_to_queue(asked, bounds, standing, queued, planned, refused)
    return queued


def limited(asked: Asked, standing: Standing) -> Asked:
    """Return a request with the time that the person's limits, and those of the account, leave its session."""
    bounds = standing.bounds.get((asked.user, asked.account), Bounds())
    session_s = session_length(bounds.shared, session_length(bounds.own, asked.session_s))
    return asked if session_s == asked.session_s else replace(asked, session_s=session_s)


def refuse_without_slot(asked: Asked, standing: Standing) -> None:
    """Refuse somebody who could start but for a start slot, where there may be no place in the queue for them.

    Raises
    ------
    Refusal
        `no-slot` (503): it was not asked to wait, or nobody queues here. `queue-full` (409).
    """
    bounds = standing.bounds.get((asked.user, asked.account), Bounds())
    broken = _too_many_places(asked, bounds, standing)
    if not asked.may_wait or (broken is not None and broken.limit.value == 0):
        raise Refusal(
            "no-slot",
            "As many servers as can be are starting just now. Try again in some seconds.",
            status=503,
            headers={"Retry-After": "5"},
        )
    if broken is not None:
        raise _refusal(broken)


def queue(
    standing: Standing, catalogue: Catalogue, engine: Engine, nodes_may_appear: bool = False
) -> dict[str, Queued]:
    """Return where everybody in the queue stands, by ticket id, first who comes first: for pages.

    Those whose turn it is have the cause "" and a start now.
    """
    rules = _Rules(standing, catalogue, engine, nodes_may_appear)
    everybody = line(standing)
    planned = plan(everybody, standing, catalogue, engine, nodes_may_appear=nodes_may_appear)
    where = places(everybody)

    def queued(one: Waiting) -> Queued:
        mine = planned[one.id]
        stand = Stand(*where[one.id], estimated(one, mine, standing))
        return Queued(rules.why(one, mine), mine.cause, one.session_s, standing.now, lambda: stand)

    return {one.id: queued(one) for one in everybody}


def startable(
    standing: Standing, catalogue: Catalogue, engine: Engine, nodes_may_appear: bool = False
) -> Iterator[Waiting]:
    """Find those whose turn it is, first who comes first, and no more of them than are taken: whether it is somebody's
    turn depends only on who is in front. Each is decided again when its start is reserved."""
    everybody = line(standing)
    for one, planned in plan_each(everybody, standing, catalogue, engine, nodes_may_appear=nodes_may_appear):
        if planned.now:
            yield one


@dataclass(frozen=True)
class _Rules:
    """By what, and on what, one decision is made."""

    standing: Standing
    catalogue: Catalogue
    engine: Engine
    nodes_may_appear: bool

    def why(self, one: Waiting, planned: Planned) -> str:
        """Return why this one does not start now."""
        return why(one, planned, self.standing, self.catalogue, self.engine)

    def planned(self, asked: Asked, bounds: Bounds) -> Planned:
        """Return whether this one starts now, for whom there is enough and whom no limit blocks; or why not."""
        front: list[Waiting] = []
        # Who waits for the same, or shares a limit that may bind, has a say in it; and all others then, through theirs.
        if self.standing.waiting.by_kind.get(asked.accelerator or "") or not self._enough_for_all(asked, bounds):
            everybody = line(self.standing, asked)
            front = everybody[: everybody.index(asked)]
        if not front and not asked.id:
            return Planned(self.standing.now, True)  # what is free and what limits leave was seen to before
        return plan_now(
            front, asked, self.standing, self.catalogue, self.engine, nodes_may_appear=self.nodes_may_appear
        )

    def _enough_for_all(self, asked: Asked, bounds: Bounds) -> bool:
        """Return whether the limits leave enough for all who wait under them, together: so nobody is in another's way,
        and those who wait for other accelerators need not be planned."""
        for limits, used, own in ((bounds.own, bounds.used_own, True), (bounds.shared, bounds.used_shared, False)):
            if not limits.bind_starts:
                continue
            waiting = _waiting(asked, self.standing, own=own)
            held = Holdings.of(_held(asked, self.standing, own=own))
            if check(limits, held, used, Holdings.of([*waiting, asked])) is not None:
                return False
        return True

    def stand(self, asked: Asked) -> Stand:
        """Return where this one stands among everybody."""
        everybody = line(self.standing, asked)
        front = everybody[: everybody.index(asked) + 1]
        planned = plan(front, self.standing, self.catalogue, self.engine, nodes_may_appear=self.nodes_may_appear)
        return Stand(*places(everybody)[asked.id], estimated(asked, planned[asked.id], self.standing))


def _granted(asked: Asked, rules: _Rules) -> tuple[Reservation | None, Refusal | None]:
    """Return what is to be had if nobody else waited, or why there is nothing."""
    known, may_appear = rules.standing.availability, rules.nodes_may_appear
    try:
        return grant(known, asked.reservation(), rules.catalogue, rules.engine, nodes_may_appear=may_appear), None
    except Refusal as refusal:
        return None, refusal.with_traceback(None)  # it is a value here: with it all of this decision would be kept


def _blocked(asked: Asked, bounds: Bounds, standing: Standing) -> Blocked | None:
    """Return the limit that what is held now leaves too little of: the person's own, or the account's."""
    found = []
    for limits, used, own in ((bounds.own, bounds.used_own, True), (bounds.shared, bounds.used_shared, False)):
        if not limits.bind_starts:
            continue
        held = [one for one in _held(asked, standing, own=own) if one.id != asked.replaces]
        broken = check(
            limits, Holdings.of(held), used, Holdings.of([asked]), YOU if own else whose(asked.account),
            user=asked.user, renews=standing.renews, titles=standing.titles,
        )  # fmt: skip
        if broken is not None:
            found.append(Blocked(own, broken))
    return next((one for one in found if one.own or _is_final(one.broken)), found[0] if found else None)


def _held(asked: Asked, standing: Standing, *, own: bool) -> Sequence[Reservation]:
    """Return what the asker holds, or all who charge the same account."""
    if own:
        return standing.held_by_user.get(asked.user, ())
    return standing.held_by_account.get(asked.account, ())


def _waiting(asked: Asked, standing: Standing, *, own: bool) -> Sequence[Waiting]:
    """Return the asker's tickets that wait, or those of all who charge the same account."""
    if own:
        return standing.waiting.by_user.get(asked.user, ())
    return standing.waiting.by_account.get(asked.account, ())


def _is_final(broken: Broken) -> bool:
    """Whether nobody is queued for want of this, although all who charge the account share it."""
    return broken.never or broken.code == "budget-spent"


def _refuse_to_queue(
    asked: Asked, bounds: Bounds, standing: Standing, queued: Queued, planned: Planned, refused: Refusal | None
) -> None:
    if not asked.may_wait:
        if planned.limit is not None:
            raise _refusal(planned.limit.broken)
        if refused is not None:
            raise refused
        raise Refusal("queue", f"{queued.why} Join the queue, or choose another accelerator.", status=409)
    broken = _too_many_places(asked, bounds, standing)
    if broken is not None:
        # Where there is no queue at all it is of more use to hear what is missing.
        raise refused if broken.limit.value == 0 and refused is not None else _refusal(broken)


def _too_many_places(asked: Asked, bounds: Bounds, standing: Standing) -> Broken | None:
    """Return the limit of places in the queue that another one would break: of the person, or of all who charge the
    account."""
    some = (_waiting(asked, standing, own=own) for own in (True, False))
    mine, ours = (
        Holdings(queued=sum((one.user, one.server) != (asked.user, asked.server) for one in theirs)) for theirs in some
    )
    one_more = Holdings(queued=1)
    return check(bounds.own, mine, {}, one_more, user=asked.user) or check(
        bounds.shared, ours, {}, one_more, whose(asked.account), user=asked.user
    )


def _refusal(broken: Broken) -> Refusal:
    return Refusal(broken.code, broken.text, status=409)
