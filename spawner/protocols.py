"""What the engines need of the hub, as Protocols; `hub.config` injects the implementations."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from profiles.access import Person
from spawner.capacity.availability import Availability
from spawner.reservation import Reservation

__all__ = ["CapacityDesk", "PlacingDesk", "QueueDesk", "UidRegistry"]


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

    async def reserve(self, wanted: Reservation, *, expires_in_s: float, person: Person | None = None) -> Reservation:
        """Hold what is wanted, in one transaction with the decision that it may be had; return it with its devices.

        A second call with the same id returns the first one's answer. What was granted before for this server and the
        same request (the queue did, which then asked for this start) is returned with its own id: the start has to go
        on under that one. A reservation that no running server of its id was seen for within `expires_in_s` is given
        back by the controller.

        Parameters
        ----------
        person
            Whose server it is, for the accounts that may be charged; None: somebody in no group.

        Raises
        ------
        spawner.refusal.Refusal
            With the code of the cause. `queued` (409): it is not free now, and there is a place in the queue by which
            the server will be started; asking again with the same request keeps that place.
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


@runtime_checkable
class PlacingDesk(Protocol):
    """Decides also where no spawner is asked (the queue), by what the spawners are configured with."""

    def placing(self, by_hand: bool) -> None:
        """Hear whether settings that the counts do not know take part in the choice of every session's node.

        Called whenever a spawner is made, from the event loop: it must not block, and never fails.
        """
        ...


@runtime_checkable
class QueueDesk(Protocol):
    """A desk at which starts were waited for."""

    async def unwanted(self, spawn_id: str) -> None:
        """Hear that somebody has stopped the server of this start: whoever waited for it does so no more.

        Raises
        ------
        OSError
            The database did not answer.
        """
        ...
