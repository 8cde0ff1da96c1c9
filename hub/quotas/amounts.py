"""Values of limits: read as people write them, exact, and said as people read them. Pure.

A value is stored as a double; only what such a number holds to the last digit is accepted, so that what is read back
is what was written.
"""

from __future__ import annotations

import re
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from functools import lru_cache

from hub.quotas.model import Field, QuotaProblem, Window, parts
from profiles.quantities import QuantityError, format_cpu, format_memory, parse_quantity, say_memory
from profiles.syntax import shown

__all__ = [
    "UNIT",
    "UNLIMITED",
    "exact_share",
    "from_store",
    "parse_amount",
    "say_amount",
    "say_hours",
    "say_limited",
    "written",
]

UNLIMITED = "unlimited"
"""How "no limit" is written where a wider limit would hold otherwise."""

UNIT = {
    "servers": "servers",
    "accelerators": "cards",
    "cpu": "cores",
    "memory": "bytes",
    "hours": "card-hours",
    "session_s": "seconds",
    "queued": "tickets",
    "jobs": "jobs",
}
"""The unit of a value, by the head of its field; `accelerators:KIND` counts pieces."""

_LARGEST = Decimal(10) ** 9
_MOST_BYTES = Decimal(2) ** 53
_SHARES = Decimal("0.000001")
_LENGTH = re.compile(r"(?P<number>[0-9]{1,9}(\.[0-9]{1,3})?)\s*(?P<unit>[smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PLAIN = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?")

_IN_WINDOW: dict[Window, str] = {
    "day": "a day",
    "week": "a week",
    "month": "a month",
    "24h": "in any 24 hours",
    "7d": "in any 7 days",
    "30d": "in any 30 days",
}


def parse_amount(field: Field, value: object) -> Decimal | None:
    """Return how much a value allows; None: it says that there is no limit.

    Raises
    ------
    QuotaProblem
        It cannot be used for this field; the text says what could.
    """
    if value == UNLIMITED:
        return None
    found = parts(field)
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
            raise QuotaProblem("")
        if found.head == "memory":
            return _bytes(value)
        if found.head == "session_s":
            return _seconds(value)
        if found.head == "cpu":
            return _digits(parse_quantity(value), Decimal("0.001"))
        finest = _SHARES if found.head == "hours" or (found.head == "accelerators" and not found.kind) else Decimal(1)
        return _digits(_number(value), finest)
    except (QuotaProblem, QuantityError, InvalidOperation):
        raise QuotaProblem(f"{shown(value)} is no value of {field}: {_legal(field)}") from None


def _legal(field: Field) -> str:
    found = parts(field)
    match found.head:
        case "memory":
            what = "bytes, a number or a quantity such as 64Gi, at most 8Pi"
        case "cpu":
            what = "cores, such as 8, 1.5 or 500m"
        case "session_s":
            what = "a time, in seconds or such as 90m, 12h or 2d"
        case "hours":
            what = "hours of whole cards, such as 40 or 0.5"
        case "accelerators" if found.kind is None:
            what = "whole cards, such as 2 or 0.5"
        case _:
            what = "a whole number"
    return f"write {what}; 0: nothing is allowed; {UNLIMITED}: no limit"


def _number(value: str | int | float | Decimal) -> Decimal:
    if isinstance(value, str):
        if not _PLAIN.fullmatch(value):
            raise QuotaProblem("")
        return Decimal(value)
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def _digits(number: Decimal, finest: Decimal) -> Decimal:
    """Return the number if it is within bounds and has no more digits than are kept."""
    if not number.is_finite() or not 0 <= number <= _LARGEST or number % finest:
        raise QuotaProblem("")
    return _plain(number)


def _bytes(value: str | int | float | Decimal) -> Decimal:
    number = parse_quantity(value)
    if not 0 <= number <= _MOST_BYTES or number % 1:
        raise QuotaProblem("")
    return _plain(number)


def _seconds(value: str | int | float | Decimal) -> Decimal:
    match = _LENGTH.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return _digits(_number(value), Decimal(1))
    return _digits(Decimal(match["number"]) * _SECONDS[match["unit"]], Decimal(1))


def _plain(number: Decimal) -> Decimal:
    """Return the number without zeros at its end and without an exponent; one amount has one form."""
    whole = number.to_integral_value()
    return whole.quantize(Decimal(1)) if number == whole else number.normalize()


def from_store(value: float) -> Decimal | None:
    """Return a value as the database holds it (infinity: no limit) exactly as it was written."""
    number = Decimal(repr(value))
    return _plain(number) if number.is_finite() else None


@lru_cache(maxsize=1024)
def exact_share(share: float | Decimal) -> Decimal:
    """Return a share of cards in millionths, rounded down: seven sevenths are never more than one card."""
    number = Decimal(repr(share)) if isinstance(share, float) else Decimal(share)
    return number.quantize(_SHARES, rounding=ROUND_FLOOR)


def written(field: Field, value: Decimal | None) -> str:
    """Return a value as `parse_amount` reads it and people write it: `64Gi`, `500m`, `12h`, `40`."""
    if value is None:
        return UNLIMITED
    match parts(field).head:
        case "memory":
            return format_memory(int(value))
        case "cpu":
            return format_cpu(value)
        case "session_s":
            for unit in ("d", "h", "m"):
                if value and value % _SECONDS[unit] == 0:
                    return f"{value / _SECONDS[unit]:f}{unit}"
    return f"{value:f}"


def say_amount(field: Field, value: Decimal, title: str = "") -> str:
    """Return an amount with its unit: `2 servers`, `64 GiB of memory`, `40 A100-hours a week`.

    Parameters
    ----------
    title
        Of the accelerator that the field is about; default: its key.
    """
    found = parts(field)
    number, one = say_number(value), value == 1
    match found.head:
        case "servers":
            return f"{number} server{'' if one else 's'}"
        case "accelerators" if found.kind is None:
            return f"{number} of a card" if 0 < value < 1 else f"{number} card{'' if one else 's'}"
        case "accelerators":
            return f"{number} {title or found.kind}"
        case "cpu":
            return f"{number} CPU core{'' if one else 's'}"
        case "memory":
            return f"{say_memory(int(value))} of memory"
        case "hours":
            return f"{say_hours(value, title or found.kind or '')} {_IN_WINDOW[found.window or 'day']}"
        case "session_s":
            return _say_length(value)
        case "queued":
            return f"{number} place{'' if one else 's'} in the queue"
        case _:
            return f"{number} remote job{'' if one else 's'}"


def say_limited(field: Field, title: str = "") -> str:
    """Return what a field limits: `servers`, `A100-hours a week`; parameters as of `say_amount`."""
    found = parts(field)
    match found.head:
        case "accelerators":
            return title or found.kind or "cards"
        case "cpu":
            return "CPU cores"
        case "hours":
            return f"{title or found.kind or 'card'}-hours {_IN_WINDOW[found.window or 'day']}"
        case "session_s":
            return "the length of sessions"
        case "queued":
            return "places in the queue"
        case "jobs":
            return "remote jobs"
        case _:
            return found.head


def say_hours(hours: Decimal, title: str = "") -> str:
    """Return hours of accelerators: `40 card-hours`, `1 A100-hour`."""
    return f"{say_number(hours)} {title or 'card'}-hour{'' if hours == 1 else 's'}"


def say_number(number: Decimal) -> str:
    """Return a number for people: at most two digits after the point, thousands apart."""
    rounded = f"{number:,.2f}".rstrip("0").rstrip(".")
    return "0.01" if rounded == "0" and number > 0 else rounded


def _say_length(seconds: Decimal) -> str:
    for size, name in ((3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size and seconds % size == 0:
            return f"{say_number(seconds / size)} {name}{'' if seconds == size else 's'}"
    return f"{say_number(seconds)} seconds"
