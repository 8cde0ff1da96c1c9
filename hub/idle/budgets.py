"""Which budgets the sessions that run are using, and how much of each is left. Functions of a connection; they read.

The same limits and sums as at a request (`hub.quotas`, `hub.usage`): a budget that would refuse a new session is one
that ends those that run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from sqlalchemy import Connection, select

from hub.db.clock import Now
from hub.quotas.budgets import Budget, Used, budgets
from hub.quotas.check import YOU
from hub.quotas.model import Limits, Quotas, Window
from hub.quotas.resolve import own_limits, shared_limits, subjects_of
from hub.quotas.store import load
from hub.quotas.subjects import group_of, say_account
from hub.usage.sums import used_by_each
from hub.usage.windows import Bounds, bounds

__all__ = ["Charged", "Payer", "charged"]

Payer = tuple[str, str]
"""Somebody's name, and the account that is charged for their session."""

_ASKED_AT_ONCE = 60
"""Subjects in one statement: with all six windows of each that is below what SQLite joins (500)."""


@dataclass(frozen=True)
class Charged:
    """A budget that a payer's sessions use; `whose` as in `hub.quotas.check.check`, `subject` as in the sums."""

    whose: str
    subject: str
    budget: Budget
    bounds: Bounds

    @property
    def renews_at(self) -> float | None:
        """When it begins anew; None: its window slides."""
        return self.bounds.renews_at if self.budget.window in ("day", "week", "month") else None


def charged(connection: Connection, payers: Collection[Payer], zone: tzinfo) -> Mapping[Payer, tuple[Charged, ...]]:
    """Return the budgets of each payer: their own, and those shared with all who charge the account.

    Parameters
    ----------
    zone
        In which days, weeks and months begin (`quotas.zone`).
    """
    subjects: set[str] = set()
    for user, account in payers:
        group = group_of(account)
        subjects.update(subjects_of(user, [] if group is None else [group]))
    quotas = load(connection, subjects) if subjects else Quotas()
    limits = {payer: list(_limits(quotas, *payer)) for payer in payers}
    windows: dict[str, tuple[Window, ...]] = {}
    for found_limits in limits.values():
        for _, subject, limit in found_limits:
            windows[subject] = tuple(dict.fromkeys((*windows.get(subject, ()), *limit.windows)))
    now = float(connection.scalar(select(Now())) or 0.0)
    used = _used(connection, {subject: some for subject, some in windows.items() if some}, zone, now)
    return {
        payer: tuple(
            Charged(whose, subject, budget, bounds(budget.window, now, zone))
            for whose, subject, limit in found_limits
            for budget in budgets(limit, used.get(subject, {}))
        )
        for payer, found_limits in limits.items()
    }


def _limits(quotas: Quotas, user: str, account: str) -> Iterator[tuple[str, str, Limits]]:
    """Yield whose limits, under which subject they are summed, and the limits."""
    yield YOU, f"by:{user}", own_limits(quotas, user, account)
    shared = shared_limits(quotas, account)
    if shared:
        yield say_account(account, user), account, shared


def _used(
    connection: Connection, windows: Mapping[str, Sequence[Window]], zone: tzinfo, now: float
) -> Mapping[str, Used]:
    found: dict[str, Used] = {}
    names = sorted(windows)
    for start in range(0, len(names), _ASKED_AT_ONCE):
        some = {name: windows[name] for name in names[start : start + _ASKED_AT_ONCE]}
        found.update(used_by_each(connection, some, zone, now=now))
    return found
