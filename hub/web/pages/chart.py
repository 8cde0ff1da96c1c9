"""Pictures of figures, drawn on the server: stacked bars by day, and small lines. Pure geometry; a template draws it.

Every picture stands beside the same figures as a table, so it is hidden from screen readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

__all__ = ["Bar", "Chart", "bars", "spark"]

WIDTH, HEIGHT = 480.0, 210.0
_LEFT, _RIGHT, _BOTTOM, _TOP = 52.0, 18.0, 30.0, 10.0
_MOST_SERIES = 8
_REST = "others"


@dataclass(frozen=True)
class Bar:
    """One rectangle: which series, and what the tooltip says."""

    series: int
    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Chart:
    """What is drawn; `ticks` are (height, text), `labels` are (x, text), `series` what the colours stand for."""

    width: float
    height: float
    left: float
    base: float
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    labels: tuple[tuple[float, str], ...]
    series: tuple[str, ...]
    categories: tuple[str, ...]
    figures: Mapping[tuple[str, str], float]
    """By category and series, for the table."""


def bars(
    categories: Sequence[str],
    values: Mapping[tuple[str, str], float],
    titles: Mapping[str, str],
    unit: str,
    *,
    top: float | None = None,
) -> Chart:
    """Return stacked bars, one for each category.

    Parameters
    ----------
    categories
        From left to right: days, as `2026-11-21`.
    values
        By category and key of a series.
    titles
        What series are called, the lowest in the bar first; all but the largest seven are drawn as one.
    unit
        Of the values, for tooltips.
    top
        The axis' end; default: what the highest bar needs.
    """
    keys, merged = _largest(values, titles)
    highest = max((sum(merged.get((day, key), 0.0) for key in keys) for day in categories), default=0.0)
    end, step = _axis(top if top is not None else highest)
    room = HEIGHT - _TOP - _BOTTOM
    base = HEIGHT - _BOTTOM
    pitch = (WIDTH - _LEFT - _RIGHT) / max(1, len(categories))
    wide = max(1.0, pitch * 0.78)
    drawn = []
    for place, day in enumerate(categories):
        y = base
        for number, key in enumerate(keys):
            value = merged.get((day, key), 0.0)
            if value <= 0:
                continue
            height = min(value / end * room, y - _TOP)
            y -= height
            text = f"{day}, {_title(titles, key)}: {value:.2f} {unit}"
            drawn.append(
                Bar(number, round(_LEFT + place * pitch, 2), round(y, 2), round(wide, 2), round(height, 2), text)
            )
    count = round(end / step)
    ticks = tuple((round(base - room * tick / count, 2), f"{tick * step:g}") for tick in range(count + 1))
    every = max(1, ceil(len(categories) / 5))
    labels = tuple(
        (round(_LEFT + place * pitch + wide / 2, 2), _short(day))
        for place, day in enumerate(categories)
        if (len(categories) - 1 - place) % every == 0
    )
    names = tuple(_title(titles, key) for key in keys)
    figures = {(day, _title(titles, key)): merged.get((day, key), 0.0) for day in categories for key in keys}
    return Chart(WIDTH, HEIGHT, _LEFT, base, tuple(drawn), ticks, labels, names, tuple(categories), figures)


def spark(values: Sequence[float], *, top: float | None = None, width: float = 120.0, height: float = 24.0) -> str:
    """Return the points of a small line, as SVG's `polyline` takes them; fewer than two values are no line."""
    if len(values) < 2:
        return ""
    end = max([*values, top or 0.0]) or 1.0
    pitch = width / (len(values) - 1)
    return " ".join(
        f"{place * pitch:.1f},{height - 1 - min(max(value / end, 0.0), 1.0) * (height - 2):.1f}"
        for place, value in enumerate(values)
    )


def _largest(
    values: Mapping[tuple[str, str], float], titles: Mapping[str, str]
) -> tuple[list[str], dict[tuple[str, str], float]]:
    """Return the keys to draw, in the order of the titles, and the values with the rest of the keys as one."""
    sums: dict[str, float] = {}
    for (_, key), value in values.items():
        sums[key] = sums.get(key, 0.0) + value
    order = [key for key in titles if sums.get(key)] + sorted(key for key in sums if key not in titles and sums[key])
    if len(order) <= _MOST_SERIES:
        return order, dict(values)
    kept = set(sorted(order, key=lambda key: -sums[key])[: _MOST_SERIES - 1])
    merged: dict[tuple[str, str], float] = {}
    for (day, key), value in values.items():
        place = (day, key if key in kept else _REST)
        merged[place] = merged.get(place, 0.0) + value
    return [*(key for key in order if key in kept), _REST], merged


def _title(titles: Mapping[str, str], key: str) -> str:
    return titles.get(key, key)


def _axis(highest: float) -> tuple[float, float]:
    """Return the end of the axis and the distance of its lines: 1, 2 or 5 times a power of ten, 2 to 5 of them."""
    if highest <= 0:
        return 1.0, 0.5
    raw = highest / 4
    power: float = 10.0 ** floor(log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999999)
    return step * max(1, ceil(highest / step * 0.999999)), step


def _short(day: str) -> str:
    """Month and day of `2026-11-21`; anything else as it is."""
    return day[5:] if len(day) == 10 and day[4] == day[7] == "-" else day
