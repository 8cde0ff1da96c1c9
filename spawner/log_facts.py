"""What a line of the log is about: request, person, server and start at hand. Whoever formats lines asks here.

Facts belong to the task or thread that noted them, and to those that it begins afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

__all__ = ["REQUEST_HEADER", "about", "facts", "note", "request_id"]

REQUEST_HEADER = "X-Request-ID"
"""By this header one process tells the other for which request it asks."""

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_facts: ContextVar[Mapping[str, str]] = ContextVar("armillary_log_facts", default=MappingProxyType({}))


def facts() -> Mapping[str, str]:
    """Return what is known here, in the order in which it was noted."""
    return _facts.get()


def note(**known: str | None) -> None:
    """Note facts for the rest of this task; None and empty ones are left out."""
    _facts.set(MappingProxyType({**_facts.get(), **{name: value for name, value in known.items() if value}}))


@contextmanager
def about(**known: str | None) -> Iterator[None]:
    """Note facts while the block runs."""
    before = _facts.get()
    note(**known)
    try:
        yield
    finally:
        _facts.set(before)


def request_id(said: str | None) -> str | None:
    """Return what somebody calls a request, if it can stand in a log: letters, digits and ``. _ -``, 64 at most."""
    return said if said is not None and _ID.fullmatch(said) else None
