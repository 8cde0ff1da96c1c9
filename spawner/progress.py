"""The feed of progress messages of one start: written by an engine, followed by any number of browser tabs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

__all__ = ["Feed", "Step"]

_MOST_STEPS = 200
# A start has about ten steps; a bound so that a pod that flaps for an hour cannot grow the hub's memory.


@dataclass(frozen=True)
class Step:
    """One message in plain words, and how far the start is (0 to 99 %; 100 is JupyterHub's own to say)."""

    text: str
    percent: int


class Feed:
    """Messages in order; whoever follows sees those already said, then each new one at once."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was said so far."""
        return tuple(self._steps)

    def say(self, text: str, percent: int | None = None) -> None:
        """Add a message; one that repeats the last is dropped, and the percentage never goes back."""
        last = self._steps[-1] if self._steps else Step("", 0)
        step = Step(text, min(99, max(last.percent, percent if percent is not None else last.percent)))
        if step == last or self._closed or len(self._steps) >= _MOST_STEPS:
            return
        self._steps.append(step)
        self._wake()

    def close(self) -> None:
        """Nothing more will be said: whoever follows comes to the end."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self) -> AsyncIterator[Step]:
        """Yield each step, from the first one on, until the feed is closed."""
        seen = 0
        while True:
            changed = self._changed
            while seen < len(self._steps):
                seen += 1
                yield self._steps[seen - 1]
            if self._closed:
                return
            await changed.wait()
