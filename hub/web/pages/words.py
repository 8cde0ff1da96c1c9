"""Numbers as the pages say them: with their units, rounded for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

from markupsafe import Markup

from hub.usage.windows import Window, bounds
from profiles.quantities import say_memory

__all__ = ["duration", "hours", "moment", "pace", "say_memory", "total", "window_of"]

_CALENDAR: Mapping[str, Window] = {"day": "day", "week": "week", "month": "month"}
_SLIDING_S: Mapping[str, float] = {"24h": 86_400.0, "7d": 7 * 86_400.0, "30d": 30 * 86_400.0}
_SAID = {
    "day": "today",
    "week": "this week",
    "month": "this month",
    "24h": "in the last 24 hours",
    "7d": "in the last 7 days",
    "30d": "in the last 30 days",
}


def hours(value: float) -> str:
    """Return a number of hours: `0.14`, `12.4`, `1 203`; what is not zero is never said to be."""
    if 0 < value < 0.01:
        return "less than 0.01"
    if value < 10:
        return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"
    return (
        f"{value:.1f}".removesuffix(".0") if value < 1000 else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    )


def duration(seconds: float) -> str:
    """Return a time: `less than a minute`, `12 min`, `1 h 12 min`, `3 d 4 h`."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return "less than a minute"
    days, rest = divmod(minutes, 1440)
    whole, left = divmod(rest, 60)
    if days:
        return f"{days} d" + (f" {whole} h" if whole else "")
    return (f"{whole} h" if whole else "") + (" " if whole and left else "") + (f"{left} min" if left else "")


def moment(seconds: float | str | None, zone: tzinfo, *, only_time: bool = False) -> Markup:
    """Return a moment as an element that the pages' script turns into the reader's own time.

    Parameters
    ----------
    seconds
        Since 1970, or as ISO 8601; None: never.
    zone
        Of the text without script; it is named in the tooltip and, without script, behind the time.
    """
    if seconds is None:
        return Markup("never")
    when = datetime.fromisoformat(seconds) if isinstance(seconds, str) else datetime.fromtimestamp(seconds, UTC)
    local = when.astimezone(zone)
    text = local.strftime("%H:%M" if only_time else "%Y-%m-%d %H:%M")
    pattern = '<time datetime="{}" data-show="{}" title="{}">{} {}</time>'
    show = "time" if only_time else "moment"
    iso = when.astimezone(UTC).isoformat(timespec="seconds")
    return Markup(pattern).format(iso, show, str(zone), text, local.tzname() or "")  # noqa: S704  # format escapes


def window_of(field: str) -> str:
    """Return what a budget's window is called, by its field; empty: it is no budget."""
    head, _, rest = field.partition(":")
    return _SAID.get(rest.partition(":")[0], "") if head == "hours" else ""


def pace(limit: Mapping[str, Any], now: float, zone: tzinfo) -> tuple[str, float | None]:
    """Return how long a budget lasts as it is being used, as the end of a sentence, and until when if it does not.

    The rate is that of the window so far: what was used divided by the time that the window has lasted.

    Parameters
    ----------
    limit
        As `/api/quotas` tells it.
    """
    head, _, rest = str(limit["field"]).partition(":")
    window = rest.partition(":")[0]
    used, value, left = limit["used"], limit["value"], limit["left"]
    if head != "hours" or value is None or not used or left is None:
        return "", None
    if left <= 0:
        return "used up", None
    if window in _SLIDING_S:
        a_day = used / (_SLIDING_S[window] / 86_400)
        return f"{hours(a_day)} a day on average", None
    since, renews_at = bounds(_CALENDAR[window], now, zone)
    # A quarter of an hour at least: of the first minutes of a window nothing can be concluded.
    rate = used / max(now - since, 900.0)
    empty_at = now + left / rate
    if empty_at >= renews_at:
        return "at this pace enough until it begins anew", None
    return "at this pace enough until", empty_at


def total(rows: Iterable[Mapping[str, Any]], what: str) -> float:
    """Return the sum of one figure."""
    return float(sum(row[what] for row in rows))
