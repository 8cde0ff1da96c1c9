"""How a page of the hub proves to the service that it is one, so that the start form can ask the service.

The hub writes a value into its page that only the hub can make, for the person whom the page is for. Pages of users'
servers lie on the same site, but JupyterHub gives them none of its own pages to read (its check of Sec-Fetch-Mode),
so they cannot know it.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

__all__ = ["is_proof", "make_proof"]

_GOOD_S = 12 * 3600
"""A form may lie open over a working day; then the page is to be loaded again."""


def make_proof(secret: str, user: str, clock: Callable[[], float] = time.time) -> str:
    """Return the proof for a page of this person.

    Parameters
    ----------
    secret
        The service's token, which the hub knows too.
    clock
        Seconds since 1970, on hub and service alike.
    """
    until = int(clock()) + _GOOD_S
    return f"hub.{until}.{_sign(secret, user, until)}"


def is_proof(secret: str, user: str, text: str, clock: Callable[[], float] = time.time) -> bool:
    """Whether a text is a proof for this person, and still good."""
    kind, _, rest = text.partition(".")
    until, _, signature = rest.partition(".")
    if kind != "hub" or not (until.isascii() and until.isdecimal() and len(until) <= 12):
        return False
    same = hmac.compare_digest(signature.encode("utf-8", "replace"), _sign(secret, user, int(until)).encode())
    return same and int(until) > clock()


def _sign(secret: str, user: str, until: int) -> str:
    key = hashlib.sha256(b"armillary hub page\n" + secret.encode()).digest()
    return hmac.new(key, f"{until}\n{user}".encode(), hashlib.sha256).hexdigest()
