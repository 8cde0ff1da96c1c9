"""The times over which use is counted: calendar days, weeks and months of a time zone, and sliding windows.

Everything begins at a quarter of an hour: that is how finely use is summed, and every time zone's midnight is one. Days
are those of the calendar, so one is 23 or 25 hours long when the clocks change. Knows no database.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from math import floor
from typing import Literal, NamedTuple, get_args

__all__ = [
    "QUARTER_S",
    "WINDOWS",
    "Bounds",
    "Window",
    "bounds",
    "day_of",
    "day_start",
    "days_of",
    "month_of",
    "quarters_of",
    "week_of",
]

Window = Literal["day", "week", "month", "24h", "7d", "30d"]
"""Calendar windows of the quotas' zone (a week begins on Monday, ISO 8601), and sliding ones."""

WINDOWS: tuple[Window, ...] = get_args(Window)

QUARTER_S = 900
"""Seconds in the smallest span that is summed."""

_SLIDING: dict[str, int] = {"24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}


class Bounds(NamedTuple):
    """Since when a window counts, and when it renews, in seconds since 1970.

    A calendar window begins anew at `renews_at`; of a sliding one the oldest quarter of an hour leaves it then.
    """

    since: float
    renews_at: float


def bounds(window: Window, now: float, zone: tzinfo) -> Bounds:
    """Return the bounds of the window that `now` lies in.

    A sliding window counts from the quarter of an hour in which it would begin, so it is up to 15 minutes longer than
    its name says.
    """
    return _bounds_at(window, now // QUARTER_S * QUARTER_S, zone)


@lru_cache(maxsize=1024)
def _bounds_at(window: Window, now: float, zone: tzinfo) -> Bounds:
    """Return the bounds at the beginning of a quarter of an hour: they are the same until its end."""
    length = _SLIDING.get(window)
    if length is not None:
        since = (now - length) // QUARTER_S * QUARTER_S
        return Bounds(since, since + length + QUARTER_S)
    today = day_of(now, zone)
    if window == "week":
        first = today - timedelta(days=today.weekday())
        following = first + timedelta(days=7)
    elif window == "month":
        first = today.replace(day=1)
        following = first + timedelta(days=monthrange(first.year, first.month)[1])
    else:
        first, following = today, today + timedelta(days=1)
    return Bounds(day_start(first, zone), day_start(following, zone))


def day_of(moment: float, zone: tzinfo) -> date:
    """Return the calendar day of a moment: the last one that has begun."""
    # Whole seconds: `fromtimestamp` rounds to the nearest microsecond, which may be the next day's first.
    day = datetime.fromtimestamp(floor(moment), zone).date()
    # Newfoundland's clocks went from 00:01 back to 23:01 until 2011: the new day goes on then.
    following = day + timedelta(days=1)
    return following if day_start(following, zone) <= moment else day


def day_start(day: date, zone: tzinfo) -> float:
    """Return the moment at which a day begins, in seconds since 1970; where clocks skip midnight, that is later."""
    # Of a time that the clocks skip, `fold=0` is counted by the offset before, which is the moment of the change
    # (PEP 495); of a midnight that comes twice it is the first.
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC).timestamp()


def days_of(since: float, until: float, zone: tzinfo) -> Iterator[tuple[date, float, float]]:
    """Cut a time into calendar days: each with its part of it, from and to in seconds since 1970."""
    while since < until:
        day = day_of(since, zone)
        end = min(until, day_start(day + timedelta(days=1), zone))
        yield day, since, end
        since = end


def quarters_of(since: float, until: float) -> Iterator[tuple[int, float]]:
    """Cut a time into quarters of an hour: each (seconds since 1970 by 900) with its seconds of it."""
    quarter = int(since // QUARTER_S)
    while since < until:
        end = min(until, float((quarter + 1) * QUARTER_S))
        yield quarter, end - since
        since = end
        quarter += 1


def week_of(year: int, week: int, zone: tzinfo) -> tuple[float, float]:
    """Return when a week of ISO 8601 begins and ends; ValueError: the year has no such week."""
    first = date.fromisocalendar(year, week, 1)
    return day_start(first, zone), day_start(first + timedelta(days=7), zone)


def month_of(year: int, month: int, zone: tzinfo) -> tuple[float, float]:
    """Return when a month begins and ends; ValueError: there is none."""
    first = date(year, month, 1)
    return day_start(first, zone), day_start(first + timedelta(days=monthrange(year, month)[1]), zone)
