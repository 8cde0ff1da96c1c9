"""What the engines need of the hub, as Protocols; `hub.config` injects the implementations."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from spawner.capacity.availability import Availability
from spawner.reservation import Reservation

__all__ = ["CapacityDesk", "UidRegistry"]


@runtime_checkable
class UidRegistry(Protocol):
    """Gives each person a numeric user id of their own, for good."""

    async def uid_of(self, user_name: str) -> int:
        """Return the uid of this person, making one on the first call; never the same for two names."""
        ...


@runtime_checkable
class CapacityDesk(Protocol):
    """Tells what is free, and hands it out so that nothing is promised twice."""

    async def availability(self) -> Availability:
        """Return what is known now; at most a second old, O(1), and never an exception: nothing known is an answer."""
        ...

    async def reserve(self, wanted: Reservation, *, expires_in_s: float) -> Reservation:
        """Hold what is wanted, in one transaction with the check that it is free; return it with its devices.

        A second call with the same id returns the first one's answer. A reservation that no running server of this
        id was seen for within `expires_in_s` is given back by the controller.

        Raises
        ------
        spawner.refusal.Refusal
            `full` (409), `does-not-fit` (409), `capacity-unknown` (503, local engine only) or `database-away` (503).
        """
        ...

    async def release(self, spawn_id: str) -> None:
        """Give back what was held under this id; nothing happens if nothing is.

        Raises
        ------
        OSError
            The database did not answer; the controller gives it back later.
        """
        ...
