"""How Python's threads share the interpreter and the memory of our processes, and how much of it is looked through for
garbage at once."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import time
from collections.abc import Mapping

__all__ = ["few_arenas", "hand_over_soon", "look_through_what_is_new"]

_SWITCH_S = 0.0005
_M_ARENA_MAX = -8  # malloc.h of the GNU C library
_ARENAS = 2
_GROWN = 1.5
_GROWN_MUCH = 8
_REST_S = 600.0
_COUNTED_EVERY = 8


def hand_over_soon() -> None:
    """Let a thread that waits for the interpreter get it within half a millisecond, where Python's default is five.

    A thread gives it away for each statement that it sends to the database, and may have to wait for it after each, a
    dozen times in one transaction; so long nobody else can write. Beside two threads that compute, on a machine under
    load, a transaction took 36 ms in the mean instead of 52, and the slowest tenth 81 instead of 112.
    """
    sys.setswitchinterval(_SWITCH_S)


def few_arenas() -> None:
    """Let all threads take memory from the same two places, where the GNU C library gives eight to each core.

    Those are for threads that ask at the same moment, which Python's do not. Each keeps a megabyte or two of its own:
    some 15 MB of a hub whose threads have all asked the database once. Another C library is left as it is.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def look_through_what_is_new(rest_s: float = _REST_S) -> None:
    """Let Python's garbage collector leave alone what it has looked through, until half as much has come; once.

    By itself it looks through all that there is each time a quarter has come. Of a hub with 2,000 people that is 0.3 s
    and more, every dozen seconds while many start, in which no thread does anything. Garbage that has come of what is
    left alone waits until all is looked through again.

    Parameters
    ----------
    rest_s
        How many seconds lie between two looks through everything at least: hundreds who come at once are there, and
        served, in less. Where there is eight times as much it is looked through sooner.
    """
    if not any(isinstance(one, _Spared) for one in gc.callbacks):
        gc.callbacks.append(_Spared(rest_s))


class _Spared:
    """What the collector leaves alone (`gc.freeze`), as it is called by the collector.

    Nothing here takes hold of objects that are not its own (`gc.get_objects`): some are just being taken apart.
    """

    def __init__(self, rest_s: float) -> None:
        gc.freeze()
        self._rest_s = rest_s
        self._rested_at = time.monotonic() + rest_s
        self._known = gc.get_freeze_count()
        self._looks = 0
        self._whole = False

    def __call__(self, phase: str, said: Mapping[str, int]) -> None:
        if phase != "stop" or said["generation"] != 2:
            return
        gc.freeze()
        self._looks += 1
        if self._whole:
            self._known, self._whole = gc.get_freeze_count(), False
            self._rested_at = time.monotonic() + self._rest_s
        elif self._looks % _COUNTED_EVERY == 0:
            grown = _GROWN if time.monotonic() >= self._rested_at else _GROWN_MUCH
            if gc.get_freeze_count() > grown * self._known:  # counting is 20 ms of a large hub
                gc.unfreeze()
                self._whole = True
