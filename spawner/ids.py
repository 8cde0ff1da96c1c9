"""Names of starts and of places in the queue."""

from __future__ import annotations

import secrets
import time

__all__ = ["new_id"]


def new_id() -> str:
    """Return a name that nothing else ever had, of 32 hexadecimal digits.

    The first 12 are the moment in ms, as in version 7 of RFC 9562: in the tables' indexes names that are made one after
    the other stand together, and each commit writes the page that the one before has written, not one of thousands. The
    other 80 bits are random, so that it cannot be guessed, and a clock that is set back repeats none.
    """
    return f"{time.time_ns() // 1_000_000 & 0xFFFF_FFFF_FFFF:012x}{secrets.token_hex(10)}"
