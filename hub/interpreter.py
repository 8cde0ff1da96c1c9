"""How Python's threads share the interpreter in our processes."""

from __future__ import annotations

import sys

__all__ = ["hand_over_soon"]

_SWITCH_S = 0.0005


def hand_over_soon() -> None:
    """Let a thread that waits for the interpreter get it within half a millisecond, where Python's default is five.

    A thread gives it away for each statement that it sends to the database, and waits for it after each, a dozen times
    in one transaction. Beside a busy event loop every one of these waits takes the whole interval (the "convoy
    effect"), and so long nobody else can write: a decision that computes for 3 ms held SQLite's lock for 60 ms while
    2,000 people asked at once.
    """
    sys.setswitchinterval(_SWITCH_S)
