"""What is free for whom: a snapshot and the reservations that it does not show yet. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from profiles.model import NO_ACCELERATOR
from spawner.capacity.holds import Holds
from spawner.capacity.model import Count, Snapshot
from spawner.reservation import Reservation

__all__ = ["Availability", "Free"]


@dataclass(frozen=True)
class Free:
    """One accelerator as a person sees it: `free` of `total`, of which `mine` are theirs and `others` somebody else's.

    `free` is None where nobody can tell now (`why` says it in words): it is never a number then.
    """

    free: int | None
    total: int
    mine: int = 0
    others: int = 0
    held_back: int = 0
    why: str = ""
    simulated: bool = False


@dataclass(frozen=True)
class Availability:
    """What a reader knows at one moment.

    Parameters
    ----------
    snapshot
        The newest one that was published; None: there never was one.
    fresh
        Whether it may be taken for the truth: it is young, and its source was seen.
    as_of
        When it was last known to be true, in UTC.
    reservations
        All that are held.
    by_hand
        Settings of every session that the counts do not know take part in the choice of its node.
    """

    snapshot: Snapshot | None = None
    fresh: bool = False
    as_of: datetime | None = None
    reservations: tuple[Reservation, ...] = ()
    by_hand: bool = False

    def count(self, accelerator: str | None) -> Count | None:
        """Return the published count (`None`: of sessions without accelerator); None where there is none."""
        return None if self.snapshot is None else self.snapshot.accelerators.get(accelerator or NO_ACCELERATOR)

    def unseen(self, accelerator: str | None) -> int:
        """Return how many were granted that the snapshot still counts as free."""
        return sum(held.count for held in self.of(accelerator) if not held.seen)

    def of(self, accelerator: str | None) -> Sequence[Reservation]:
        """Return what is held of this accelerator (`None`: without any), in any order."""
        return self.holds.by_kind.get(accelerator or "", ())

    @cached_property
    def holds(self) -> Holds:
        """All that are held, to be found by id and by accelerator."""
        return self.reservations if isinstance(self.reservations, Holds) else Holds(self.reservations)

    def mine(self, accelerator: str, seen: int, unseen: int) -> int:
        """Return how many somebody has to whom so many are granted, which the snapshot shows and does not show yet."""
        count = self.count(accelerator)
        if count is None or count.unknown:
            return seen + unseen
        return min(seen, count.used_by_us) + min(unseen, self.unseen(accelerator), count.free)

    def free(self, accelerator: str, user: str = "") -> Free:
        """Return how many are free, and how many this person has.

        Where more are granted than there are, as when nodes may appear, only those that there are have an owner.
        """
        count = self.count(accelerator)
        own = [held for held in self.of(accelerator) if held.user == user] if user else []
        granted = [sum(held.count for held in own if held.seen == seen) for seen in (True, False)]
        mine = self.mine(accelerator, *granted)
        if count is None:
            return Free(None, 0, mine, why="it is not counted yet")
        if count.unknown:
            return Free(None, count.total, mine, why=count.unknown, simulated=count.simulated)
        unseen = min(self.unseen(accelerator), count.free)
        used = count.used_by_us + count.used_by_others + unseen
        seen = Free(
            count.free - unseen,
            count.total,
            mine,
            used - mine,
            count.held_back,
            simulated=count.simulated,
        )
        if not self.fresh:
            return Free(
                None,
                seen.total,
                mine,
                seen.others,
                seen.held_back,
                why="the counts are old",
                simulated=seen.simulated,
            )
        return seen
