"""How two samples compare: the ratio of their medians, with an interval that says how sure it is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Ratio", "percentile", "ratio_of_medians"]

_SEED = 61
# Any number does; fixed, so that the same measurements always give the same interval.


@dataclass(frozen=True)
class Ratio:
    """Median of one sample over median of the other; `low` and `high` bound it with the given confidence."""

    value: float
    low: float
    high: float


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which `percent` of the sample lie, linear between neighbours.

    Raises
    ------
    ValueError
        There are no values, or `percent` is not from 0 to 100.
    """
    if not values:
        raise ValueError("a percentile of no values does not exist")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent must be from 0 to 100, got {percent}")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def ratio_of_medians(
    ours: Sequence[float], other: Sequence[float], *, confidence: float = 0.95, resamples: int = 10_000
) -> Ratio:
    """Return median(ours) / median(other) with its percentile bootstrap interval (Efron 1979).

    Whole pairs are drawn again, not single values: the two of a pair were measured one after the other and share
    what the machine was busy with, which is why they were interleaved.

    Raises
    ------
    ValueError
        The samples are empty, not of the same length, or have a value that is not above 0.
    """
    if len(ours) != len(other) or not ours:
        raise ValueError(f"pairs are needed, got {len(ours)} and {len(other)} values")
    if min(*ours, *other) <= 0:
        raise ValueError("every value must be above 0")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    draw = random.Random(_SEED)
    places = range(len(ours))
    found = []
    for _ in range(resamples):
        again = draw.choices(places, k=len(ours))
        found.append(median([ours[place] for place in again]) / median([other[place] for place in again]))
    tail = (1 - confidence) / 2 * 100
    return Ratio(median(ours) / median(other), percentile(found, tail), percentile(found, 100 - tail))
