"""What is to be done with a running session now: nothing, announce a stop, take that back, or stop it. Pure.

Whatever the cause (nobody uses it, it lasts too long, a budget is used up), a stop is announced first and happens no
sooner than was announced, also when nobody looked for a while. Only what is known counts against a session: a session
that fell silent, or of which the hub cannot tell when it was used, is not idle because of that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "FRESH_S",
    "OURS",
    "Announce",
    "Because",
    "Facts",
    "Leave",
    "Rules",
    "Spent",
    "Stop",
    "Verdict",
    "Withdraw",
    "idle_since",
    "judge",
]

Because = Literal["idle", "limit", "budget"]

OURS: frozenset[str] = frozenset({"idle", "limit", "budget"})
"""Causes of announced stops that are judged here. An administrator's is only carried out. That of a switch is carried
out by whoever sees to the switch, and can be taken back at any time, so it puts no other off."""

FRESH_S = 150.0
"""How old measures may be that still tell what a session does: five intervals of 30 s."""


@dataclass(frozen=True)
class Rules:
    """What holds for one session. None: no limit."""

    idle_s: float | None = None
    warn_s: float = 900.0
    silent_s: float = 86_400.0
    grace_s: float = 600.0
    """Between the end of a budget and the stop."""


@dataclass(frozen=True)
class Spent:
    """A budget that is used up."""

    field: str
    text: str


@dataclass(frozen=True)
class Facts:
    """What is known of one session; moments by one clock."""

    now: float
    ready_at: float | None = None
    """None: it was not seen to run yet."""
    active_at: float = 0.0
    """Last sign of work, by its own measures or its owner's wish to keep it."""
    measured_at: float | None = None
    """None: it never measured itself."""
    hub_active_at: float | None = None
    """When the hub last saw it used, through the proxy or by what it reports; None: not known."""
    ends_at: float | None = None
    spent: tuple[Spent, ...] = ()
    stop_at: float | None = None
    stop_because: str = ""


@dataclass(frozen=True)
class Leave:
    """Nothing is to be done."""


@dataclass(frozen=True)
class Withdraw:
    """The announced stop has lost its cause."""


@dataclass(frozen=True)
class Announce:
    """Its owner is to be told that it will be stopped."""

    stop_at: float
    because: Because
    since: float | None = field(default=None, compare=False)
    """Since when it has done nothing, where that is why."""


@dataclass(frozen=True)
class Stop:
    """It is to be stopped now."""

    because: str
    since: float | None = None
    """Since when it has done nothing, where that is why."""


Verdict = Leave | Withdraw | Announce | Stop


@dataclass(frozen=True)
class _Due:
    """A cause for a stop: `due_at` when it holds, `warn_s` before that its owner is told."""

    because: Because
    due_at: float
    warn_s: float
    least_s: float
    """Time between the announcement and the stop, at least."""
    slack_s: float = 0.0
    """By so much a moment that is measured again and again may wander without anything having happened."""


def judge(facts: Facts, rules: Rules) -> Verdict:
    """Return what is to be done with a session."""
    if facts.stop_because and facts.stop_because not in (*OURS, "switch"):
        due = facts.stop_at is not None and facts.now >= facts.stop_at
        return Stop(facts.stop_because) if due and facts.stop_because == "admin" else Leave()
    live = {one.because: _stop_at(one, facts) for one in _causes(facts, rules) if facts.now >= one.due_at - one.warn_s}
    if facts.stop_because == "switch":
        live.pop("idle", None)  # somebody has just asked for something
    if facts.stop_because == "budget" and "budget" in live:
        live.pop("idle", None)  # its owner can take that back, and the budget's grace would begin anew each time
    if not live:
        return Withdraw() if facts.stop_because in OURS else Leave()
    # Of two at the same moment the one that was announced.
    because = min(live, key=lambda cause: (live[cause], cause != facts.stop_because))
    if because != facts.stop_because or live[because] != facts.stop_at:
        return Announce(live[because], because, idle_since(facts) if because == "idle" else None)
    if facts.now < live[because]:
        return Leave()
    return Stop(because, idle_since(facts) if because == "idle" else None)


def idle_since(facts: Facts) -> float | None:
    """Return since when a session has done nothing; None: nobody can tell.

    Its own measures tell. If it makes none (its image has no extension), or fell silent, the hub must have seen nobody
    use it either, and if the hub does not know, nobody does.
    """
    if facts.ready_at is None:
        return None
    known = max(facts.ready_at, facts.active_at)
    if _fresh(facts):
        return known
    if facts.hub_active_at is None:
        return None
    return max(known, facts.measured_at or 0.0, facts.hub_active_at)


def _fresh(facts: Facts) -> bool:
    return facts.measured_at is not None and facts.now - facts.measured_at <= FRESH_S


def _causes(facts: Facts, rules: Rules) -> list[_Due]:
    found = []
    since = idle_since(facts) if rules.idle_s is not None else None
    if since is not None and rules.idle_s is not None:
        silent = facts.measured_at is not None and not _fresh(facts)
        limit_s = max(rules.idle_s, rules.silent_s) if silent else rules.idle_s
        # A limit shorter than the warning still lets the session be idle for half of it unmolested.
        warn_s = min(rules.warn_s, limit_s / 2)
        # Real work after the warning moves the end by half of the limit at least.
        found.append(_Due("idle", since + limit_s, warn_s, warn_s, slack_s=min(60.0, limit_s / 4)))
    if facts.ends_at is not None:
        length_s = rules.warn_s if facts.ready_at is None else facts.ends_at - facts.ready_at
        warn_s = min(rules.warn_s, max(0.0, length_s) / 2)  # as above
        found.append(_Due("limit", facts.ends_at, warn_s, warn_s))
    if facts.spent:
        found.append(_Due("budget", facts.now, 0.0, rules.grace_s))
    return found


def _stop_at(cause: _Due, facts: Facts) -> float:
    """Return when a session is stopped for this cause: as was announced, if the cause still holds by then."""
    announced = facts.stop_at if facts.stop_because == cause.because else None
    if announced is not None and (cause.because == "budget" or cause.due_at <= announced + cause.slack_s):
        return announced
    # Work that began and ended since the announcement has moved the end; what is left of the warning need not be less.
    return max(cause.due_at, facts.now + cause.least_s)
