"""How many of one accelerator are free from when to when, as far as it is known: steps that can be taken from. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from math import ceil, inf

__all__ = ["OVERDUE_S", "Timeline", "rounded_up"]

_GRIDS, _COARSE = ((3600.0, 60.0), (6 * 3600.0, 300.0)), 900.0
"""Ends of sessions within an hour are known to the minute, within six to five minutes, later to a quarter of an hour.
Each grid has the moments of the next one, so what comes nearer only ever moves to an earlier moment."""

OVERDUE_S = 600.0
"""A session that is still there so long after its end will end nobody knows when."""


def rounded_up(moment: float, now: float) -> float:
    """Return the moment of the grid at or after this one: fewer steps, and nobody is told too early a moment."""
    for within, grid in _GRIDS:
        if moment - now <= within:
            return ceil(moment / grid) * grid
    return ceil(moment / _COARSE) * _COARSE


class Timeline:
    """What is free from now on. Only ever taken from.

    Parameters
    ----------
    free
        How many are free now.
    releases
        (moment, how many) that become free; one in the past is late and counts as the next moment of the grid.
    most
        There are never more free than so many.
    """

    __slots__ = ("_first", "_free", "_most", "_releases", "_taken", "_times")

    def __init__(self, now: float, free: int, releases: Iterable[tuple[float, int]] = (), most: float = inf) -> None:
        self._times = [now]
        self._free = [free]
        self._first = 0
        self._releases: Iterable[tuple[float, int]] | None = releases
        self._most = most
        self._taken: list[tuple[float, float, int]] = []

    def _look_ahead(self) -> None:
        """Work out the steps. Not before somebody asks: many decisions are about what is free now."""
        releases, self._releases = self._releases, None
        if releases is None:
            return
        now, total = self._times[0], self._free[0]
        steps: dict[float, int] = {}
        for moment, number in releases:
            if moment <= now - OVERDUE_S:
                continue
            at = rounded_up(max(moment, now + 1.0), now)
            steps[at] = steps.get(at, 0) + number
        for at in sorted(steps):
            total += steps[at]
            self._times.append(at)
            self._free.append(int(min(self._most, total)))
        for taken in self._taken:
            self.take(*taken)

    @property
    def now(self) -> int:
        """How many are free now; below 0 where more is promised than there is."""
        if self._taken:
            self._look_ahead()
        return self._free[0]

    @property
    def known(self) -> bool:
        """Whether any moment is known at which more become free, for whomever."""
        self._look_ahead()
        return len(self._times) > 1

    def earliest(self, need: int, lasts: float, not_before: float = 0.0) -> float | None:
        """Return the first moment from which so many are free for so many seconds; None: none is known."""
        times, free = self._times, self._free
        if (
            self._releases is not None
            and not self._taken
            and not_before <= times[0]
            and min(free[0], self._most) >= need
        ):
            return times[0]  # nothing was taken yet, and what comes back only makes it more
        self._look_ahead()
        if not_before > times[0]:
            self._split(not_before)
            index = bisect_left(times, not_before)
        else:
            while self._first < len(free) and free[self._first] <= 0:
                self._first += 1  # what is taken is never given back here
            index = self._first
        while index < len(times):
            if free[index] < need:
                index += 1
                continue
            end = len(times) if lasts == inf else bisect_left(times, self._end(times[index], lasts), index + 1)
            if min(free[index:end]) >= need:
                return times[index]
            index = next(at for at in range(index + 1, end) if free[at] < need) + 1
        return None

    def take(self, start: float, lasts: float, need: int) -> None:
        """Take so many from this moment on, for so many seconds (`inf`: they never come back)."""
        if self._releases is not None:
            self._taken.append((start, lasts, need))
            return
        begin = self._split(start)
        end = len(self._times) if lasts == inf else self._split(self._end(start, lasts))
        self._free[begin:end] = [free - need for free in self._free[begin:end]]

    def _end(self, start: float, lasts: float) -> float:
        return rounded_up(start + lasts, self._times[0])

    def _split(self, moment: float) -> int:
        """Make a step at this moment, and return its index."""
        index = bisect_right(self._times, moment) - 1
        if index >= 0 and self._times[index] == moment:
            return index
        index = max(index, 0)
        self._times.insert(index + 1, moment)
        self._free.insert(index + 1, self._free[index])
        if index + 1 <= self._first:
            self._first += 1
        return index + 1
