"""When somebody's turn will be, in words for people: rounded, with the reason, and "not known" where it is not."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

__all__ = ["Estimate", "say_duration"]

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


@dataclass(frozen=True)
class Estimate:
    """When a start is planned: `at` in seconds since 1970, or None where nobody can know. `because` says what it waits
    for, as the end of a sentence; where `at` is None, why it is not known."""

    at: float | None
    because: str

    def text(self, now: float) -> str:
        """Return it as a person reads it at this moment: `about 25 minutes, when a session's time limit ends`."""
        if self.at is None:
            return f"not known: {self.because}"
        when = say_duration(self.at - now)
        return f"{when}, {self.because}" if self.because else when


def say_duration(seconds: float) -> str:
    """Return a span of time to come as people say it. Rounded up, since who is told too little waits in vain."""
    if seconds <= _MINUTE:
        return "about a minute"
    if seconds <= 10 * _MINUTE:
        return f"about {ceil(seconds / _MINUTE)} minutes"
    if seconds <= 55 * _MINUTE:
        return f"about {5 * ceil(seconds / (5 * _MINUTE))} minutes"
    if seconds <= 9.5 * _HOUR:
        halves = ceil(seconds / (_HOUR / 2))
        return "about an hour" if halves <= 2 else f"about {halves / 2:g} hours"
    if seconds <= 36 * _HOUR:
        return f"about {ceil(seconds / _HOUR)} hours"
    return f"about {ceil(seconds / _DAY)} days"
