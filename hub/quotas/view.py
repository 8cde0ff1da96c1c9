"""What limits somebody, and how much of each limit is used at this moment: for pages and the API. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Connection, select

from hub.admission import reservations, tickets
from hub.db.clock import Now
from hub.quotas.accounts import accounts_of
from hub.quotas.budgets import Used, budgets
from hub.quotas.holdings import Holdings
from hub.quotas.model import Field, Limits, Quotas, parts
from hub.quotas.resolve import own_limits, shared_limits, subjects_of
from hub.quotas.store import load
from hub.settings.quotas import QuotaSettings
from hub.usage.sums import used_by_each
from hub.usage.windows import bounds
from profiles.access import Person

__all__ = ["AccountView", "LimitView", "view_of"]

_CALENDAR = ("day", "week", "month")


@dataclass(frozen=True)
class LimitView:
    """One limit that holds for somebody, and how much of it is used; both in the field's unit.

    `value` None: expressly no limit. `used` None: nothing is added up against it (session length, remote jobs).
    `renews_at` in seconds since 1970: when a budget begins anew; None: it slides, or it is no budget.
    """

    field: Field
    value: Decimal | None
    source: str
    declared: bool
    shared: bool
    used: Decimal | None
    renews_at: float | None = None

    @property
    def left(self) -> Decimal | None:
        """How much may still be used; None: there is no limit, or nothing to count."""
        if self.value is None or self.used is None:
            return None
        return max(Decimal(0), self.value - self.used)


@dataclass(frozen=True)
class AccountView:
    """An account that somebody may charge, and what limits them when they do: their own limits, then those of all who
    charge it."""

    account: str
    limits: tuple[LimitView, ...]


def view_of(connection: Connection, person: Person, settings: QuotaSettings) -> tuple[AccountView, ...]:
    """Return the accounts that somebody may charge, the default first."""
    quotas = load(connection, subjects_of(person.name, person.groups))
    accounts = accounts_of(person, quotas, settings.accounts)
    now = float(connection.scalar(select(Now())) or 0.0)
    limits = {
        account: (own_limits(quotas, person.name, account), shared_limits(quotas, account)) for account in accounts
    }
    windows = {window for both in limits.values() for some in both for window in some.windows}
    by_person = f"by:{person.name}"
    used = used_by_each(connection, dict.fromkeys([by_person, *accounts], sorted(windows)), settings.zone, now=now)
    held = reservations.all(connection)
    queued = tickets.number_waiting(connection, person.name)
    waiting = Counter(one.account for one in tickets.waiting(connection))
    mine = Holdings.of((one for one in held if one.user == person.name), queued=queued)
    found = []
    for account, (own, shared) in limits.items():
        of_all = Holdings.of((one for one in held if one.account == account), queued=waiting[account])
        lines = [
            *_lines(quotas, own, mine, used.get(by_person, {}), now, settings, shared=False),
            *_lines(quotas, shared, of_all, used.get(account, {}), now, settings, shared=True),
        ]
        found.append(AccountView(account, tuple(lines)))
    return tuple(found)


def _lines(
    quotas: Quotas, limits: Limits, held: Holdings, used: Used, now: float, settings: QuotaSettings, *, shared: bool
) -> Iterator[LimitView]:
    spent = {budget.field: budget for budget in budgets(limits, used)}
    for field, limit in limits.items():
        what = parts(field)
        row = quotas.row(limit.source, field)
        declared = row is not None and row.declared
        if what.window is not None:
            budget = spent.get(field)
            renews_at = bounds(what.window, now, settings.zone).renews_at if what.window in _CALENDAR else None
            hours = None if budget is None else budget.used_hours
            yield LimitView(field, limit.value, limit.source, declared, shared, hours, renews_at)
        else:
            amount = None if what.head in ("session_s", "jobs") else held.amount(field)
            yield LimitView(field, limit.value, limit.source, declared, shared, amount)
