"""What limits leave to those who wait, while those in front of them are planned. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import NamedTuple

from hub.admission.standing import Bounds, Standing, Waiting
from hub.quotas.check import YOU, Broken, check
from hub.quotas.holdings import Held, Holdings
from hub.quotas.subjects import group_of

__all__ = ["Allowance", "Blocked", "Delay", "whose"]

_NONE = Bounds()


class Blocked(NamedTuple):
    """The limit that keeps somebody from starting now; `own`: the person's own, else that of all who charge the
    account."""

    own: bool
    broken: Broken


class Delay(NamedTuple):
    """The limit by which a start would keep back somebody in front, and until when it would (`inf`: nobody knows)."""

    broken: Broken
    until: float


class _Planned(NamedTuple):
    """Somebody who charges an account with limits and starts at this moment; `start` None: at any moment."""

    start: float | None
    end: float
    wanted: Waiting


class _Sum(NamedTuple):
    """What so many servers come to together."""

    number: int
    holdings: Holdings


_NOTHING = _Sum(0, Holdings())

Key = tuple[str, str | None, int, int | None, int | None, float]


class _Growing(dict[str, list[Held]]):
    """What each has, copied when it is first asked for: few are asked for, and the lists grow."""

    def __init__(self, known: Mapping[str, Sequence[Held]]) -> None:
        super().__init__()
        self._known = known

    def __missing__(self, who: str) -> list[Held]:
        found = self[who] = [*self._known.get(who, ())]
        return found


class Allowance:
    """Who holds how much under which limit. Grows as tickets are planned to start now."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self._of_user = _Growing(standing.held_by_user)
        self._of_account = _Growing(standing.held_by_account)
        self._end: dict[int, float] = {}
        self._later: dict[str, list[_Planned]] = {}
        self._verdicts: dict[Key, tuple[int, Broken | None]] = {}
        self._sums_now: dict[str, _Sum] = {}
        self._sums_later: dict[str, _Sum] = {}

    def bounds(self, wanted: Waiting) -> Bounds:
        """Return the limits of this one."""
        return self._standing.bounds.get((wanted.user, wanted.account), _NONE)

    def blocked(self, wanted: Waiting) -> Blocked | None:
        """Return the limit that keeps this one from starting now; the account's first, which is quicker to know."""
        bounds = self.bounds(wanted)
        if bounds.shared.bind_starts:
            broken = self._shared(bounds, wanted)
            if broken is not None:
                return Blocked(False, broken)
        if bounds.own.bind_starts:
            held = Holdings.of(self._held(self._of_user[wanted.user], wanted))
            broken = self._check(bounds, wanted, held, own=True)
            if broken is not None:
                return Blocked(True, broken)
        return None

    def start(self, wanted: Waiting, end: float) -> None:
        """Note that this one starts now and lasts until then (`inf`: nobody knows)."""
        self._of_user[wanted.user].append(wanted)
        self._of_account[wanted.account].append(wanted)
        self._end[id(wanted)] = end

    def later(self, wanted: Waiting, start: float | None, lasts: float) -> None:
        """Note that this one is planned for a later moment, or must be able to start at any (None)."""
        if wanted.account.startswith("group:"):
            end = inf if start is None else start + lasts
            self._later.setdefault(wanted.account, []).append(_Planned(start, end, wanted))

    def delays(self, wanted: Waiting, start: float, lasts: float) -> Delay | None:
        """Return how this one, if it started at this moment, would by a shared limit keep somebody of the same account
        from starting as planned, or now if a card came back early; None: nobody."""
        bounds = self.bounds(wanted)
        later = self._later.get(wanted.account)
        if not bounds.shared.bind_starts or not later or self._all_may(bounds, wanted):
            return None
        for planned in later:
            if start >= planned.end or self.blocked(planned.wanted) is not None:
                continue  # who is kept back by a limit holds nothing back
            broken, until = None, planned.end
            if planned.start is None or planned.start < start + lasts:
                broken = self._beside(bounds, planned, wanted, max(start, planned.start or start))
            if broken is None and start <= self._standing.now:
                broken, until = self._beside_now(bounds, planned, wanted), planned.start or planned.end
            if broken is not None:
                return Delay(broken, until)
        return None

    def _all_may(self, bounds: Bounds, wanted: Waiting) -> bool:
        """Whether all of this account, who hold something or are planned, may run at once beside it."""
        account = wanted.account
        held = self._sum(self._sums_now, account, self._of_account[account])
        later = self._sum(self._sums_later, account, [one.wanted for one in self._later[account]])
        return self._check(bounds, wanted, held + later, own=False) is None

    @staticmethod
    def _sum(known: dict[str, _Sum], account: str, held: Sequence[Held]) -> Holdings:
        """Add what is new to what was known: the lists only grow."""
        found = known.get(account, _NOTHING)
        if found.number != len(held):
            found = known[account] = _Sum(len(held), found.holdings + Holdings.of(held[found.number :]))
        return found.holdings

    def _beside_now(self, bounds: Bounds, planned: _Planned, wanted: Waiting) -> Broken | None:
        held = self._sum(self._sums_now, wanted.account, self._of_account[wanted.account])
        return self._check(bounds, planned.wanted, held + Holdings.of([wanted]), own=False)

    def _beside(self, bounds: Bounds, planned: _Planned, wanted: Waiting, moment: float) -> Broken | None:
        others = Holdings.of(self._at(wanted.account, planned, moment))
        if self._check(bounds, planned.wanted, others, own=False) is not None:
            return None  # it would not run then anyway
        return self._check(bounds, planned.wanted, others + Holdings.of([wanted]), own=False)

    def _at(self, account: str, planned: _Planned, moment: float) -> list[Held]:
        """Who else holds something of this account at this moment."""
        others = [
            other.wanted
            for other in self._later[account]
            if other is not planned and (other.start is None or other.start <= moment) and other.end > moment
        ]
        return [one for one in self._of_account[account] if self._ends(one) > moment] + others

    def _ends(self, one: Held) -> float:
        known = self._end.get(id(one))
        if known is None:
            end = self._standing.ends_at(one)  # type: ignore[arg-type]  # it is no ticket, so it is a reservation
            known = self._end[id(one)] = inf if end is None else end
        return known

    def _shared(self, bounds: Bounds, wanted: Waiting) -> Broken | None:
        """All who charge one account and ask for the same get the same answer until one of them starts."""
        holders = self._of_account[wanted.account]
        if wanted.replaces is not None:
            return self._check(bounds, wanted, Holdings.of(self._held(holders, wanted)), own=False)
        key = (wanted.account, wanted.accelerator, wanted.count, wanted.cpu_m, wanted.memory, wanted.share)
        known = self._verdicts.get(key)
        if known is None or known[0] != len(holders):
            known = (len(holders), self._check(bounds, wanted, Holdings.of(holders), own=False))
            self._verdicts[key] = known
        return known[1]

    @staticmethod
    def _held(holders: list[Held], wanted: Waiting) -> list[Held]:
        """Without the session that this one takes the place of."""
        if wanted.replaces is None:
            return holders
        return [one for one in holders if getattr(one, "id", None) != wanted.replaces]

    def _check(self, bounds: Bounds, wanted: Waiting, held: Holdings, *, own: bool) -> Broken | None:
        return check(
            bounds.own if own else bounds.shared,
            held,
            bounds.used_own if own else bounds.used_shared,
            Holdings.of([wanted]),
            YOU if own else whose(wanted.account),
            user=wanted.user,
            renews=self._standing.renews,
            titles=self._standing.titles,
        )


def whose(account: str) -> str:
    """Return who charges this account together, for texts: `group cms`."""
    group = group_of(account)
    return account if group is None else f"group {group}"
