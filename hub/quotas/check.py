"""Whether a request would break a limit, and the words for it. Pure: no clock, no database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from hub.quotas.amounts import say_amount, say_hours, say_number
from hub.quotas.budgets import Budget, Used, budgets
from hub.quotas.holdings import Holdings
from hub.quotas.model import Field, Limit, Limits, Parts, parts
from hub.quotas.subjects import holds_for

__all__ = ["YOU", "Broken", "breaks", "check"]

YOU = "you"
"""Whose holdings are checked, where that is the reader."""

_CODES = {
    "hours": "budget-spent",
    "queued": "queue-full",
    "session_s": "quota-session",
}
_SOONEST: Mapping[str, str] = {
    "day": "It renews at midnight.",
    "week": "It renews on Monday at 00:00.",
    "month": "It renews on the first of the month at 00:00.",
    "24h": "It frees little by little: what was used more than 24 hours ago no longer counts.",
    "7d": "It frees little by little: what was used more than 7 days ago no longer counts.",
    "30d": "It frees little by little: what was used more than 30 days ago no longer counts.",
}
_ADMINISTRATORS = "ask your administrators for more"


@dataclass(frozen=True)
class Broken:
    """A limit that a request would break.

    `limit`, `have` and `want` in the field's unit (of hours: the window's limit, what is used, 0). `never`: it would be
    broken even if nothing else ran, so that waiting helps nobody. `code` is that of the refusal. `why` says which
    limit, whose, and how much of it is used; `advice` when that changes and what to do now.
    """

    field: Field
    limit: Limit
    have: Decimal
    want: Decimal
    never: bool
    code: str
    why: str
    advice: str

    @property
    def text(self) -> str:
        """All of it, for the person who asked."""
        return f"{self.why} {self.advice}"


def check(
    limits: Limits,
    holdings: Holdings,
    used: Used,
    wanted: Holdings,
    whose: str = YOU,
    *,
    user: str = "",
    renews: Mapping[str, str] | None = None,
    titles: Mapping[str, str] | None = None,
) -> Broken | None:
    """Return the limit that a request would break; None: none.

    Where it would break several it is one that waiting cannot mend, if there is one, else the first in the order in
    which limits are told. Only what is wanted is looked at: whoever is above a limit of cards may start without one.

    Parameters
    ----------
    holdings
        What is held already, by the person or by all who charge the account, without what is wanted.
    used
        Share-seconds used in the windows of the limits.
    wanted
        What the request would add; hours count against a request as soon as it has a share of a card.
    whose
        Of whom `holdings` are, for the texts: `you`, or `group cms`.
    user
        Name of who reads the texts.
    renews
        When a window renews, as a sentence, by window; default: without a date.
    titles
        What accelerators are called; default: their keys.
    """
    found = list(breaks(limits, holdings, used, wanted, whose, user=user, renews=renews, titles=titles))
    return next((one for one in found if one.never), found[0] if found else None)


def breaks(
    limits: Limits,
    holdings: Holdings,
    used: Used,
    wanted: Holdings,
    whose: str = YOU,
    *,
    user: str = "",
    renews: Mapping[str, str] | None = None,
    titles: Mapping[str, str] | None = None,
) -> Iterator[Broken]:
    """Yield every limit that a request would break; parameters as of `check`."""
    words = _Words(whose, user, renews or {}, titles or {})
    for field, limit in limits.items():
        if limit.value is None:
            continue
        what = parts(field)
        if what.head == "hours":
            if _uses(wanted, what):
                yield from (words.budget(field, limit, one) for one in budgets({field: limit}, used) if one.spent)
        elif what.head == "session_s":
            if limit.value == 0 and wanted.servers:
                yield words.at_once(field, limit, Decimal(0), Decimal(wanted.servers), limit.value)
        else:
            have, want = holdings.amount(field), wanted.amount(field)
            if want > 0 and have + want > limit.value:
                yield words.at_once(field, limit, have, want, limit.value)


def _uses(wanted: Holdings, what: Parts) -> bool:
    """Whether a request uses hours of this kind, or of any."""
    return wanted.by_kind.get(what.kind, 0) > 0 if what.kind else wanted.share > 0


@dataclass(frozen=True)
class _Words:
    whose: str
    user: str
    renews: Mapping[str, str]
    titles: Mapping[str, str]

    @property
    def _who(self) -> str:
        return self.whose[:1].upper() + self.whose[1:]

    @property
    def _has(self) -> str:
        return "have" if self.whose == YOU else "has"

    def at_once(self, field: Field, limit: Limit, have: Decimal, want: Decimal, most: Decimal) -> Broken:
        """Return a limit of what is held at one moment."""
        what = parts(field)
        title = self.titles.get(what.kind or "", "")
        whom = holds_for(limit.source, self.user)
        never = want > most
        if most == 0:
            why, advice = self._nothing(what, title, whom, limit.source)
        elif never:
            why = f"You asked for {say_amount(field, want, title)}; the limit is {self._most(field, most)} {whom}."
            advice = f"Ask for less, or {_ADMINISTRATORS}."
        else:
            why = (
                f"{self._who} {self._has} {say_amount(field, have, title)}"
                f"{self._asked(what, field, want, title)}; the limit is {self._most(field, most)} {whom}."
            )
            advice = self._make_room(what, limit.source)
        code = _CODES.get(what.head, f"quota-{what.head}")
        return Broken(field, limit, have, want, never, code, why, advice)

    def budget(self, field: Field, limit: Limit, budget: Budget) -> Broken:
        """Return a budget that is spent."""
        title = self.titles.get(budget.kind, "") or budget.kind
        whom = holds_for(limit.source, self.user)
        nothing = budget.limit_s == 0
        if nothing:
            why = f"No {title or 'accelerator'} may be used: the limit is 0 hours {whom}."
            advice = f"{_otherwise(title)} or {_ADMINISTRATORS}."
        else:
            used = say_hours(budget.used_hours, title)
            most = say_amount(field, budget.limit_hours, title)
            why = f"{self._who} {self._has} used {used}; the limit is {most} {whom}."
            else_ = "or charge another account" if _narrow(limit.source) else f"or {_ADMINISTRATORS}"
            renews = self.renews.get(budget.window, _SOONEST[budget.window])
            advice = f"{renews} Until then: {_lower(_otherwise(title))} {else_}."
        return Broken(field, limit, budget.used_hours, Decimal(0), nothing, _CODES["hours"], why, advice)

    def _most(self, field: Field, most: Decimal) -> str:
        """The limit, without a unit that was just said where the number alone is clear."""
        what = parts(field)
        if what.head in ("memory", "cpu"):
            return say_amount(field, most)
        return f"{say_number(most)} at once"

    def _asked(self, what: Parts, field: Field, want: Decimal, title: str) -> str:
        """What was asked for, where it is not plain that it is one more."""
        if what.head in ("servers", "queued", "jobs"):
            return ""
        more = f"{say_number(want)} more" if what.kind else f"{say_amount(field, want, title)} more"
        return f" and {'' if self.whose == YOU else 'you '}asked for {more}"

    def _nothing(self, what: Parts, title: str, whom: str, source: str) -> tuple[str, str]:
        named = title or what.kind
        thing = {
            "servers": "server may be started",
            "accelerators": f"{named or 'accelerator'} may be used",
            "cpu": "CPU may be used",
            "memory": "memory may be used",
            "session_s": "session may run",
            "queued": "place in the queue may be taken",
            "jobs": "remote job may be sent",
        }[what.head]
        if what.head == "accelerators":
            first = f"{_otherwise(named)} or "
        elif what.head == "queued":
            first = "Try again when there is room, or "
        else:
            first = "Charge another account, or " if _narrow(source) else ""
        advice = first + _ADMINISTRATORS
        return f"No {thing}: the limit is 0 {whom}.", f"{advice[:1].upper()}{advice[1:]}."

    def _make_room(self, what: Parts, source: str) -> str:
        mine = self.whose == YOU
        other = "ask for less, or charge another account" if _narrow(source) else "or ask for less"
        match what.head:
            case "queued" if mine:
                return "Leave a place in the queue, or wait until one of your servers has started."
            case "queued":
                return "Wait until somebody of the group starts or leaves the queue, or charge another account."
            case "jobs":
                return "Cancel a job, or wait until one has ended."
            case "servers" if mine:
                return "Stop a server of yours, then start this one."
            case "servers":
                return "Wait until a server of the group stops, or charge another account."
            case _:
                return f"{'Stop a server of yours' if mine else 'Wait until others stop'}, {other}."


def _narrow(source: str) -> bool:
    """Whether a limit holds for one account only, so that charging another avoids it."""
    return source.startswith(("member:", "group:"))


def _otherwise(title: str | None) -> str:
    return f"Choose another accelerator than {title}," if title else "Start without an accelerator,"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
