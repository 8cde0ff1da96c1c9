"""Figures for the pages, from what the API tells: use by day as a picture, sessions as they run, budgets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from hub.web.pages.chart import Chart, bars

__all__ = ["days", "history", "session"]

PERIODS = (7, 30, 90)
"""Days that a history can be asked for."""


def days(last: date, many: int) -> list[str]:
    """Return the days that end with this one, the first one first."""
    return [(last - timedelta(days=back)).isoformat() for back in range(many - 1, -1, -1)]


def history(
    rows: Iterable[Mapping[str, Any]], what: Sequence[str], by: str, figure: str, titles: Mapping[str, str], unit: str
) -> Chart:
    """Return the picture of use by day.

    Parameters
    ----------
    rows
        Of `/api/usage`, by day and `by`.
    what
        The days, whether something was used on them or not.
    figure
        Which of the rows' figures.
    titles
        What the values of `by` are called.
    """
    values: dict[tuple[str, str], float] = {}
    for row in rows:
        place = (str(row["day"]), str(row[by]))
        values[place] = values.get(place, 0.0) + float(row[figure])
    return bars(what, values, titles, unit)


def session(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a running session measured of itself, ready to be drawn; None stands for what is not known."""
    last = one["measures"].get("last")
    last = last if isinstance(last, Mapping) else {}
    past = one["measures"].get("past")
    points = (
        [point for point in past if isinstance(point, Sequence) and len(point) == 4] if isinstance(past, list) else []
    )
    busy = [
        device["utilisation"]
        for device in last.get("devices") or ()
        if isinstance(device, Mapping) and device.get("utilisation") is not None
    ]
    return {
        **one,
        "cpu": last.get("cpu"),
        "memory": last.get("memory"),
        "gpu": max(busy, default=None),
        "past_cpu": [point[1] for point in points if point[1] is not None],
        "past_memory": [point[2] for point in points if point[2] is not None],
        "past_gpu": [point[3] for point in points if point[3] is not None],
    }
