"""The token by which Prometheus reads metrics, where the hub need not be asked for it. Knows no web framework."""

from __future__ import annotations

import hmac

__all__ = ["carries"]


def carries(authorization: str | None, token: str) -> bool:
    """Whether a header `Authorization` has this token; never for an empty one, which means that there is none."""
    word, _, given = (authorization or "").strip().partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())
    return bool(token) and word.lower() in ("bearer", "token") and same
