"""What the engines need of the hub, as Protocols; `hub.config` injects the implementations."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["UidRegistry"]


@runtime_checkable
class UidRegistry(Protocol):
    """Gives each person a numeric user id of their own, for good."""

    async def uid_of(self, user_name: str) -> int:
        """Return the uid of this person, making one on the first call; never the same for two names."""
        ...
