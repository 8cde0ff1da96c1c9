"""What is known at the moment of a decision: who holds what, who waits, who may have how much. Values only.

The store reads all of it in the transaction that writes the answer; whoever decides looks at nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any, Generic, Protocol, TypeVar

from hub.quotas.budgets import Used
from hub.quotas.model import Limits
from spawner.capacity.availability import Availability
from spawner.reservation import Reservation

__all__ = ["PATIENCE_S", "Asked", "Bounds", "Holders", "Standing", "Waiting"]

PATIENCE_S = 1800.0
"""How long somebody whose start cannot be foreseen is passed by those who fit; see `hub.admission.backfill`."""


class Waiting(Protocol):
    """Somebody in the queue: a `hub.admission.tickets.Ticket`, or an `Asked` that has no ticket yet."""

    @property
    def id(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def server(self) -> str: ...
    @property
    def profile(self) -> str: ...
    @property
    def options(self) -> Mapping[str, Any]: ...
    @property
    def account(self) -> str: ...
    @property
    def accelerator(self) -> str | None: ...
    @property
    def count(self) -> int: ...
    @property
    def cpu_m(self) -> int | None: ...
    @property
    def memory(self) -> int | None: ...
    @property
    def share(self) -> float: ...
    @property
    def session_s(self) -> float | None: ...
    @property
    def priority(self) -> int: ...
    @property
    def rank(self) -> float: ...
    @property
    def not_before(self) -> float: ...
    @property
    def needs_login(self) -> bool: ...
    @property
    def replaces(self) -> str | None: ...


@dataclass(frozen=True)
class Asked:
    """A request that is decided now.

    `spawn_id` is the id that its reservation would get. `id` is that of its ticket where it has one already (the
    controller asks for it, or its owner changes it), else empty: then `rank` stands behind everybody of the same
    account. `share` is of whole cards, all of the count together; `session_s` how long it wants to last at most, None:
    as long as may be. With `may_wait` False it is refused where it would be queued. `by_hand` is what its spawner knows
    of its placing, where one asks; see `spawner.reservation.Reservation`.
    """

    spawn_id: str
    user: str
    server: str
    profile: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    accelerator: str | None = None
    count: int = 0
    cpu_m: int | None = None
    memory: int | None = None
    account: str = ""
    share: float = 0.0
    session_s: float | None = None
    priority: int = 0
    may_wait: bool = True
    id: str = ""
    rank: float = inf
    not_before: float = 0.0
    needs_login: bool = False
    replaces: str | None = None
    by_hand: bool = False

    @classmethod
    def again(cls, ticket: Waiting, spawn_id: str) -> Asked:
        """Return what a ticket asks for, to be decided under this spawn id."""
        return cls(
            spawn_id,
            ticket.user,
            ticket.server,
            ticket.profile,
            ticket.options,
            ticket.accelerator,
            ticket.count,
            ticket.cpu_m,
            ticket.memory,
            ticket.account,
            ticket.share,
            ticket.session_s,
            ticket.priority,
            id=ticket.id,
            rank=ticket.rank,
            not_before=ticket.not_before,
            needs_login=ticket.needs_login,
            replaces=ticket.replaces,
        )

    def reservation(self) -> Reservation:
        """Return the hold that is asked for, still without devices."""
        return Reservation(
            id=self.spawn_id,
            user=self.user,
            server=self.server,
            profile=self.profile,
            accelerator=self.accelerator,
            count=self.count,
            cpu_m=self.cpu_m,
            memory=self.memory,
            account=self.account,
            share=self.share,
            state="granted",
            ticket=self.id or None,
            options=self.options,
            session_s=self.session_s,
            by_hand=self.by_hand,
        )


@dataclass(frozen=True)
class Bounds:
    """What limits one person who charges one account: the person's own limits and those of all who charge it, with the
    share-seconds that either has used in the windows of these limits."""

    own: Limits = field(default_factory=Limits)
    shared: Limits = field(default_factory=Limits)
    used_own: Used = field(default_factory=dict)
    used_shared: Used = field(default_factory=dict)


class Theirs(Protocol):
    """What is somebody's: a reservation, or somebody in the queue."""

    @property
    def id(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def accelerator(self) -> str | None: ...


W = TypeVar("W", bound=Theirs)


@dataclass(frozen=True)
class Holders(Generic[W]):
    """Who holds what, or waits for what: by person, by the account that is charged, and by accelerator ("": none)."""

    by_user: Mapping[str, Sequence[W]] = field(default_factory=dict)
    by_account: Mapping[str, Sequence[W]] = field(default_factory=dict)
    by_kind: Mapping[str, Sequence[W]] = field(default_factory=dict)

    @classmethod
    def of(cls, held: Iterable[W]) -> Holders[W]:
        """Return who holds these."""
        return cls().changed((), held)

    def changed(self, gone: Iterable[W], new: Iterable[W]) -> Holders[W]:
        """Return the same without some and with others: cheap where most stay as they are."""
        gone, new = tuple(gone), tuple(new)
        if not gone and not new:
            return self
        return Holders(
            _changed(self.by_user, gone, new, lambda one: one.user),
            _changed(self.by_account, gone, new, lambda one: one.account),
            _changed(self.by_kind, gone, new, lambda one: one.accelerator or ""),
        )


@dataclass(frozen=True)
class Standing:
    """Everything that a decision is made from, at one moment.

    Parameters
    ----------
    now
        Seconds since 1970 by the database's clock.
    availability
        The counts, how fresh they are, and all reservations that are held.
    tickets
        Everybody who waits, in any order; those that are starting hold reservations instead.
    ends
        When the session of a reservation ends by a limit, by spawn id; None: nobody knows. One that is not named lasts
        `session_s` from now.
    granted_at
        When each reservation was granted, by spawn id.
    bounds
        By (user, account) of the asker and of everybody who waits. What is not in it has no limits. It may work them
        out when it is asked; only few are looked up.
    fair
        Share-seconds that each account used lately, decayed, divided by its weight; what is not in it used nothing.
    weights
        Weights of accounts other than 1.
    patience_s
        How long those whose start cannot be foreseen are passed by others.
    holders, waiters
        Who holds what, and who waits for what, where that is known already; it is that of `availability`, and of
        `tickets`.
    titles, renews
        For texts: what accelerators are called, and when windows renew, as `hub.quotas.check.check` takes them.
    """

    now: float
    availability: Availability
    tickets: Sequence[Waiting] = ()
    ends: Mapping[str, float | None] = field(default_factory=dict)
    granted_at: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[tuple[str, str], Bounds] = field(default_factory=dict)
    fair: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    patience_s: float = PATIENCE_S
    holders: Holders[Reservation] | None = None
    waiters: Holders[Any] | None = None
    titles: Mapping[str, str] = field(default_factory=dict)
    renews: Mapping[str, str] = field(default_factory=dict)

    @property
    def held(self) -> tuple[Reservation, ...]:
        """Every reservation that is held."""
        return self.availability.reservations

    @property
    def held_by_account(self) -> Mapping[str, Sequence[Reservation]]:
        """What each account holds."""
        return self._holders.by_account

    @property
    def held_by_user(self) -> Mapping[str, Sequence[Reservation]]:
        """What each person holds."""
        return self._holders.by_user

    @cached_property
    def _holders(self) -> Holders[Reservation]:
        return Holders.of(self.held) if self.holders is None else self.holders

    @cached_property
    def waiting(self) -> Holders[Waiting]:
        """Who waits for what."""
        return Holders.of(self.tickets) if self.waiters is None else self.waiters

    def ends_at(self, held: Reservation) -> float | None:
        """Return when this one's cards come back by a limit; None: nobody knows."""
        if held.id in self.ends:
            return self.ends[held.id]
        return None if held.session_s is None else self.now + held.session_s


def _changed(
    known: Mapping[str, Sequence[W]],
    gone: Sequence[W],
    new: Sequence[W],
    whose: Callable[[W], str],
) -> dict[str, Sequence[W]]:
    found = dict(known)
    lost = {one.id for one in gone}
    for who in {whose(one) for one in gone}:
        found[who] = [one for one in found.get(who, ()) if one.id not in lost]
    added: defaultdict[str, list[W]] = defaultdict(list)
    for one in new:
        added[whose(one)].append(one)
    for who, theirs in added.items():
        found[who] = [*found.get(who, ()), *theirs]
    return {who: theirs for who, theirs in found.items() if theirs} if gone else found
