"""What one process remembers of what is held and who waits, so that a decision reads only what is new.

Whoever decides needs hundreds or thousands of rows, of which one or two have changed since the last decision; the
journal says which (`hub.db.journal`). Whenever it cannot, everything is read.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from functools import cached_property
from itertools import chain
from operator import attrgetter
from types import MappingProxyType
from typing import NamedTuple

from sqlalchemy import Connection

from hub.admission import reservations, tickets
from hub.admission.glance import Published, glance
from hub.admission.standing import Holders
from hub.admission.tickets import Moment, Ticket
from hub.db import journal
from hub.db.journal import Entry
from hub.idle import sessions
from hub.quotas.budgets import Used
from hub.quotas.model import Quotas
from hub.usage.sums import by_window, times_of
from hub.usage.windows import Window
from spawner.capacity.holds import Holds
from spawner.reservation import Reservation

__all__ = ["Known", "Memory", "Sight", "Windows"]

Windows = Mapping[str, Collection[Window]]
_NO_WINDOWS: Windows = MappingProxyType({})


@dataclass(frozen=True)
class Known:
    """All that is held, all who wait and when sessions end, as of one entry of the journal; None: as of none.

    `held` are the reservations, the oldest first, and `granted_at` says since when; `waiting` those first who have the
    highest priority and the lowest rank, and `starting` the other tickets that have not ended; `ends` is as
    `hub.idle.sessions.ends` tells. All are by id. `holders` are those of `held`, `waiters` those of `waiting`, and
    `reservations` is all that is held, the oldest first.
    """

    entry: Entry | None = None
    held: Mapping[str, Reservation] = field(default_factory=dict)
    granted_at: Mapping[str, float] = field(default_factory=dict)
    waiting: Mapping[str, Ticket] = field(default_factory=dict)
    starting: Mapping[str, Ticket] = field(default_factory=dict)
    ends: Mapping[str, float] = field(default_factory=dict)
    holders: Holders[Reservation] = field(default_factory=Holders)
    waiters: Holders[Ticket] = field(default_factory=Holders)

    @cached_property
    def reservations(self) -> Holds:
        """All that is held, the oldest first."""
        return Holds.known(self.held.values(), self.held, self.holders.by_kind)

    def ticket_of(self, user: str, server: str) -> Ticket | None:
        """Return the ticket of this server that has not ended."""
        tickets = chain(self.waiters.by_user.get(user, ()), self.starting.values())
        return next((one for one in tickets if one.user == user and one.server == server), None)

    def held_for(self, user: str, server: str) -> list[Reservation]:
        """Return what is held for this server, the oldest first."""
        held = [one for one in self.holders.by_user.get(user, ()) if one.server == server]
        return sorted(held, key=lambda one: (self.granted_at[one.id], one.id))

    @cached_property
    def last_rank(self) -> float | None:
        """The highest rank of those who wait; None: nobody does."""
        return max(map(attrgetter("rank"), self.waiting.values()), default=None)

    @property
    def slots_taken(self) -> int:
        """How many start slots are taken, as `hub.admission.tickets.number_starting` counts them."""
        return sum(one.replaces is None or one.replaces not in self.held for one in self.starting.values())


class Sight(NamedTuple):
    """All that was seen in one transaction: when, what is published, what is held and who waits; the limits of these
    subjects; and what some have used in some windows: those that are named in `windows`, by subject."""

    now: float
    published: Published
    known: Known
    subjects: frozenset[str] = frozenset()
    quotas: Quotas = Quotas()
    windows: Windows = _NO_WINDOWS
    used: Mapping[str, Used] = MappingProxyType({})

    @property
    def moment(self) -> Moment:
        """After whom a new ticket comes."""
        return Moment(self.now, self.known.last_rank)


class Memory:
    """Of one process, for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: Known | None = None
        self._ahead: float | None = None  # of the database's clock before this process' one

    def look(
        self, connection: Connection, subjects: Collection[str] = (), windows: Windows = _NO_WINDOWS, zone: tzinfo = UTC
    ) -> Sight:
        """Return what there is in this transaction, with the limits of these subjects.

        Parameters
        ----------
        windows
            By subject, of which it is of use to know what was used in them. It may be left out of what is returned.
        zone
            In which windows begin.
        """
        known = self._known  # replaced as a whole, never changed
        # When the windows begin is asked by, so it has to be known before.
        named, times = times_of(windows, zone, time.monotonic() + self._ahead) if self._ahead is not None else ((), ())
        now, published, entries, quotas, sums = glance(
            connection, known.entry if known is not None else None, subjects, times
        )
        self._ahead = now - time.monotonic()
        right = named and (named, times) == times_of(windows, zone, now)
        used = by_window(windows, named, sums) if right else {}
        if known is None or entries is None:
            known = self._remember(_everything(connection))
        elif entries:
            known = self._remember(_changed(connection, known, entries))
        return Sight(now, published, known, frozenset(subjects), quotas, windows if right else _NO_WINDOWS, used)

    def _remember(self, known: Known) -> Known:
        with self._lock:
            self._known = known
        return known


def _everything(connection: Connection) -> Known:
    held, granted_at = _by_age(reservations.granted(connection))
    open_ones = tickets.open_ones(connection)
    waiting = {one.id: one for one in open_ones if one.state == "waiting"}
    starting = {one.id: one for one in open_ones if one.state == "starting"}
    ends = sessions.ends(connection)
    holders, waiters = Holders.of(held.values()), Holders.of(waiting.values())
    return Known(journal.newest(connection), held, granted_at, waiting, starting, ends, holders, waiters)


def _changed(connection: Connection, known: Known, entries: Sequence[Entry]) -> Known:
    last = {(entry.subject, entry.id): entry.gone for entry in entries}
    named: defaultdict[str, set[str]] = defaultdict(set)
    there: defaultdict[str, set[str]] = defaultdict(set)
    for (subject, id), gone in last.items():
        named[subject].add(id)
        if not gone:
            there[subject].add(id)
    held, granted_at, ends, holders = known.held, known.granted_at, known.ends, known.holders
    waiting, starting, waiters = known.waiting, known.starting, known.waiters
    if "reservations" in named:
        fresh = reservations.granted(connection, there["reservations"])
        before = [held[id] for id in named["reservations"] if id in held]
        holders = holders.changed(before, [one for _, one in fresh.values()])
        held, granted_at = _with(held, granted_at, named["reservations"], fresh)
    if "tickets" in named:
        changed = tickets.of_ids(connection, there["tickets"])
        left = [waiting[id] for id in named["tickets"] if id in waiting]
        waiters = waiters.changed(left, [one for one in changed if one.state == "waiting"])
        waiting = _of_state("waiting", waiting, named["tickets"], changed)
        starting = _of_state("starting", starting, named["tickets"], changed)
    if "sessions" in named:
        kept_ends = {id: end for id, end in ends.items() if id not in named["sessions"]}
        ends = {**kept_ends, **sessions.ends(connection, there["sessions"])}
    return Known(entries[-1], held, granted_at, waiting, starting, ends, holders, waiters)


def _of_state(
    state: tickets.State, known: Mapping[str, Ticket], named: Collection[str], changed: Collection[Ticket]
) -> Mapping[str, Ticket]:
    """Return the tickets in this state: those that were, without the named ones, and those that are now."""
    new = [one for one in changed if one.state == state]
    if not new and known.keys().isdisjoint(named):
        return known
    kept = [one for id, one in known.items() if id not in named]
    return {one.id: one for one in (sorted([*kept, *new], key=_place) if new else kept)}


_Granted = Mapping[str, tuple[float, Reservation]]


def _with(
    held: Mapping[str, Reservation], granted_at: Mapping[str, float], changed: Collection[str], fresh: _Granted
) -> tuple[dict[str, Reservation], dict[str, float]]:
    """Return these with what has changed, the oldest first."""
    held, granted_at = dict(held), dict(granted_at)
    for id in changed:
        if id in fresh and granted_at.get(id) == fresh[id][0]:
            held[id] = fresh[id][1]  # it keeps its place
        else:
            held.pop(id, None)
            granted_at.pop(id, None)
    last = next(reversed(granted_at.items()), None)
    new = sorted((fresh[id][0], id) for id in changed if id in fresh and id not in held)
    held.update({id: fresh[id][1] for _, id in new})
    granted_at.update({id: moment for moment, id in new})
    if last is None or not new or new[0] > (last[1], last[0]):
        return held, granted_at  # as a rule what is new is the newest
    return _by_age({id: (granted_at[id], one) for id, one in held.items()})


def _by_age(held: _Granted) -> tuple[dict[str, Reservation], dict[str, float]]:
    ordered = sorted(held.items(), key=lambda item: (item[1][0], item[0]))
    return {id: one for id, (_, one) in ordered}, {id: moment for id, (moment, _) in ordered}


def _place(ticket: Ticket) -> tuple[int, float, str]:
    return -ticket.priority, ticket.rank, ticket.id
