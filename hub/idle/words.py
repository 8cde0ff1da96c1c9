"""What people are told about a session that is to be stopped, or was. Pure.

Plain sentences with times of the quotas' zone; what can be done comes last.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, tzinfo

from hub.idle.budgets import Charged
from hub.quotas.amounts import say_amount, say_number
from hub.quotas.check import YOU

__all__ = ["Named", "announced", "kept", "nearly_spent", "say_length", "say_moment", "spent", "stopped"]

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# Not by `strftime`, which speaks the language of the machine.

_LOST = "Files in your home are kept; variables of notebooks are lost."


@dataclass(frozen=True)
class Named:
    """A session as people know it: `title` of its accelerator, empty without one."""

    server: str = ""
    title: str = ""

    def __str__(self) -> str:
        name = f"session {self.server}" if self.server else "session"
        return f"{name} with {self.title}" if self.title else name


def say_moment(moment: float, now: float, zone: tzinfo) -> str:
    """Return a moment as people read it: `16:40 (CET)`, with its day where that is not today."""
    at, today = datetime.fromtimestamp(moment, zone), datetime.fromtimestamp(now, zone)
    name = at.tzname() or "UTC"
    said = f"{at:%H:%M} ({name if name.isalpha() else f'UTC{name}'})"
    return said if at.date() == today.date() else f"{said} on {_DAYS[at.weekday()]} {at:%Y-%m-%d}"


def say_length(seconds: float) -> str:
    """Return a length of time as people read it: `2 hours`, `1 hour 30 minutes`, `40 seconds`."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} second{'' if whole == 1 else 's'}"
    minutes = round(whole / 60)
    hours, rest = divmod(minutes, 60)
    said = [f"{hours} hour{'' if hours == 1 else 's'}"] if hours else []
    said += [f"{rest} minute{'' if rest == 1 else 's'}"] if rest else []
    return " ".join(said)


def announced(
    named: Named, because: str, stop_at: float, now: float, zone: tzinfo, *, since: float | None, why: str, keeps: int
) -> str:
    """Return the warning of a session.

    Parameters
    ----------
    since
        Since when it has done nothing, where that is why.
    why
        The text of the budget, where that is why.
    keeps
        How often it can still be kept.
    """
    when = say_moment(stop_at, now, zone)
    if because == "idle":
        quiet = f"has done nothing for {say_length(now - since)}" if since is not None else "does nothing"
        end = "Press “Keep my session”, or run something, to go on." if keeps else "Run something to go on."
        return f"Your {named} {quiet}. It will be stopped at {when}, so that others can use what it holds. {end}"
    if because == "limit":
        return f"Your {named} reaches the end of its time: it will be stopped at {when}. Save your work. {_LOST}"
    return f"{why} Your {named} will be stopped at {when}. Save your work. {_LOST}"


def stopped(named: Named, because: str, now: float, zone: tzinfo, *, since: float | None, why: str) -> str:
    """Return what somebody finds who comes back to a session that is no more."""
    causes = {
        "idle": f"it had done nothing for {say_length(now - since)}" if since is not None else "it did nothing",
        "limit": "it had reached the end of its time",
        "budget": "the budget that it was charged to is used up",
        "admin": "an administrator had it stopped",
    }
    said = f"Your {named} was stopped at {say_moment(now, now, zone)}: {causes.get(because, because)}."
    more = f" {why}" if because == "budget" and why else ""
    again = "" if because == "budget" else " Start it again when you need it."
    return f"{said}{more} {_LOST}{again}"


def kept(named: Named, idle_s: float | None, left: int) -> str:
    """Return the answer to *Keep my session*."""
    length = f"for another {say_length(idle_s)}" if idle_s is not None else "for as long as it likes"
    again = "That was the last time" if not left else f"You can do that {'once' if left == 1 else f'{left} times'} more"
    return f"Your {named} is kept: it may do nothing {length}. {again}."


def nearly_spent(one: Charged, fraction: float, title: str, renewal: str) -> str:
    """Return the warning of a budget of which this part is used up."""
    used = say_number(one.budget.used_hours)
    return f"{_who(one)} used {used} of {_most(one, title)}: {fraction:.0%} and more. {renewal}"


def spent(one: Charged, title: str, renewal: str) -> str:
    """Return that a budget is used up."""
    return f"{_who(one)} used all of {_most(one, title)}. {renewal}"


def _who(one: Charged) -> str:
    return "You have" if one.whose == YOU else f"{one.whose[:1].upper()}{one.whose[1:]} has"


def _most(one: Charged, title: str) -> str:
    return f"{'your' if one.whose == YOU else 'its'} {say_amount(one.budget.field, one.budget.limit_hours, title)}"
