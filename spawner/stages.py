"""When a start reached which stage: where its time went."""

from __future__ import annotations

import time

__all__ = ["Stages"]


class Stages:
    """Remembers when each stage was reached first, in seconds since the start began."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._reached: dict[str, float] = {}

    def reach(self, stage: str) -> None:
        """Note that this stage is reached; only the first time counts."""
        self._reached.setdefault(stage, time.monotonic() - self._began)

    @property
    def reached(self) -> dict[str, float]:
        """Stages in the order in which they were reached, with the seconds since the start began."""
        return dict(self._reached)

    def __str__(self) -> str:
        return ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in self._reached.items())
