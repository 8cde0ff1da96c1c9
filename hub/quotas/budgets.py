"""Budgets: limits of accelerator-hours over a window, and how much of each is used. Pure.

What is charged is the share of whole cards times the time, so an hour of a seventh of a card is a seventh of an hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from hub.quotas.model import Field, Limit, Limits, Window, parts

__all__ = ["Budget", "Used", "budgets", "session_length"]

Used = Mapping[tuple[Window, str], float]
"""Share-seconds by window and accelerator (empty: all together), as `hub.usage.sums.used` tells; what is not in it is
not used at all."""


@dataclass(frozen=True)
class Budget:
    """One limit of hours, and what is used of it, in seconds of whole cards. `kind` empty: every accelerator counts."""

    field: Field
    window: Window
    kind: str
    source: str
    limit_s: Decimal
    used_s: Decimal

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        return self.used_s >= self.limit_s

    @property
    def left_s(self) -> Decimal:
        """What is left; never below 0."""
        return max(Decimal(0), self.limit_s - self.used_s)

    @property
    def used_hours(self) -> Decimal:
        """As people are told it."""
        return self.used_s / 3600

    @property
    def limit_hours(self) -> Decimal:
        """As it was written."""
        return self.limit_s / 3600

    def reached(self, fraction: Decimal | float) -> bool:
        """Whether this fraction of it is used up; of a budget of nothing every fraction is."""
        exact = Decimal(repr(fraction)) if isinstance(fraction, float) else fraction
        return self.used_s >= self.limit_s * exact

    def concerns(self, accelerator: str | None) -> bool:
        """Whether a session with this accelerator uses it."""
        return bool(accelerator) and self.kind in ("", accelerator)


def budgets(limits: Mapping[Field, Limit], used: Used) -> tuple[Budget, ...]:
    """Return the budgets among these limits, in the order in which they are told."""
    found = []
    for field, limit in limits.items():
        what = parts(field)
        if what.head != "hours" or what.window is None or limit.value is None:
            continue
        # The exact value of the double that the database added up; no rounding decides.
        seconds = Decimal(used.get((what.window, what.kind or ""), 0.0))
        found.append(Budget(field, what.window, what.kind or "", limit.source, limit.value * 3600, seconds))
    return tuple(found)


def session_length(limits: Limits, asked_s: float | None = None) -> float | None:
    """Return how long a session may last, in seconds; None: no limit.

    Parameters
    ----------
    asked_s
        What the profile, or whoever asks, wants at most; None: as long as may be.
    """
    limit = limits.value("session_s")
    if limit is None:
        return asked_s
    return float(limit) if asked_s is None else min(float(limit), asked_s)
