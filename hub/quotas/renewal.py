"""When a budget renews, in words, by the local time of the quotas' zone. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, tzinfo

from hub.quotas.model import Window
from hub.usage.windows import bounds

__all__ = ["renewals"]

_SLIDING: dict[Window, str] = {"24h": "24 hours", "7d": "7 days", "30d": "30 days"}
# Not by `strftime`, which speaks the language of the machine.
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def renewals(windows: Iterable[Window], now: float, zone: tzinfo) -> dict[str, str]:
    """Return for each window a sentence that says when what is used in it counts no longer.

    Parameters
    ----------
    now
        Seconds since 1970, by the database's clock.
    zone
        The setting `quotas.timezone`.
    """
    return {window: _sentence(window, now, zone) for window in windows}


def _sentence(window: Window, now: float, zone: tzinfo) -> str:
    if window in _SLIDING:
        return f"It frees little by little: what was used more than {_SLIDING[window]} ago no longer counts."
    renews_at = bounds(window, now, zone).renews_at
    at = datetime.fromtimestamp(renews_at, zone)
    day = f"{_DAYS[at.weekday()]} {at.day} {_MONTHS[at.month - 1]}"
    return f"It renews on {day} at {at:%H:%M} ({_name(at)}), in {_until(renews_at - now)}."


def _name(at: datetime) -> str:
    """The zone as people know it: `CET`; where it has no letters, its offset."""
    name = at.tzname() or "UTC"
    return name if name.isalpha() else f"UTC{name}"


def _until(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    days, hours = divmod(minutes // 60, 24)
    if days >= 3:
        return f"{days} days"
    if days:
        return f"{days} day{'' if days == 1 else 's'}" + (f" {hours} h" if hours else "")
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
