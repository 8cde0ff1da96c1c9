"""What one process remembers of what is held and who waits, so that a decision reads only what is new.

Whoever decides needs hundreds or thousands of rows, of which one or two have changed since the last decision; the
journal says which (`hub.db.journal`). Whenever it cannot, everything is read.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from sqlalchemy import Connection

from hub.admission import reservations, tickets
from hub.admission.standing import Holders
from hub.admission.tickets import Ticket
from hub.db import journal
from hub.db.journal import Entry
from hub.idle import sessions
from spawner.reservation import Reservation

__all__ = ["Known", "Memory"]


@dataclass(frozen=True)
class Known:
    """All that is held, all who wait and when sessions end, as of one entry of the journal; None: as of none.

    `held` are the reservations, the oldest first, and `granted_at` says since when; `waiting` those first who have the
    highest priority and the lowest rank; `ends` is as `hub.idle.sessions.ends` tells. All are by id. `holders` are
    those of `held`, and `reservations` is all of it, the oldest first.
    """

    entry: Entry | None = None
    held: Mapping[str, Reservation] = field(default_factory=dict)
    granted_at: Mapping[str, float] = field(default_factory=dict)
    waiting: Mapping[str, Ticket] = field(default_factory=dict)
    ends: Mapping[str, float] = field(default_factory=dict)
    holders: Holders = field(default_factory=Holders)

    @cached_property
    def reservations(self) -> tuple[Reservation, ...]:
        """All that is held, the oldest first."""
        return tuple(self.held.values())


class Memory:
    """Of one process, for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: Known | None = None

    def look(self, connection: Connection) -> Known:
        """Return what there is in this transaction."""
        known = self._known  # replaced as a whole, never changed
        entries = journal.after(connection, known.entry) if known is not None and known.entry is not None else None
        if known is None or entries is None:
            now = _everything(connection)
        elif entries:
            now = _changed(connection, known, entries)
        else:
            return known
        with self._lock:
            self._known = now
        return now


def _everything(connection: Connection) -> Known:
    held, granted_at = _by_age(reservations.granted(connection))
    waiting = {one.id: one for one in tickets.waiting(connection)}
    ends = sessions.ends(connection)
    return Known(journal.newest(connection), held, granted_at, waiting, ends, Holders.of(held.values()))


def _changed(connection: Connection, known: Known, entries: list[Entry]) -> Known:
    last = {(entry.subject, entry.id): entry.gone for entry in entries}
    named: defaultdict[str, set[str]] = defaultdict(set)
    there: defaultdict[str, set[str]] = defaultdict(set)
    for (subject, id), gone in last.items():
        named[subject].add(id)
        if not gone:
            there[subject].add(id)
    held, granted_at, waiting, ends, holders = known.held, known.granted_at, known.waiting, known.ends, known.holders
    if "reservations" in named:
        fresh = reservations.granted(connection, there["reservations"])
        before = [held[id] for id in named["reservations"] if id in held]
        holders = holders.changed(before, [one for _, one in fresh.values()])
        held, granted_at = _with(held, granted_at, named["reservations"], fresh)
    if "tickets" in named:
        kept = [one for id, one in waiting.items() if id not in named["tickets"]]
        new = [one for one in tickets.of_ids(connection, there["tickets"]) if one.state == "waiting"]
        waiting = {one.id: one for one in (sorted([*kept, *new], key=_place) if new else kept)}
    if "sessions" in named:
        kept_ends = {id: end for id, end in ends.items() if id not in named["sessions"]}
        ends = {**kept_ends, **sessions.ends(connection, there["sessions"])}
    return Known(entries[-1], held, granted_at, waiting, ends, holders)


_Granted = Mapping[str, tuple[float, Reservation]]


def _with(
    held: Mapping[str, Reservation], granted_at: Mapping[str, float], changed: Collection[str], fresh: _Granted
) -> tuple[dict[str, Reservation], dict[str, float]]:
    """Return these with what has changed; those that keep their moment keep their place."""
    held, granted_at = dict(held), dict(granted_at)
    moved = False
    for id in changed:
        if id not in fresh:
            held.pop(id, None)
            granted_at.pop(id, None)
        else:
            moved = moved or granted_at.get(id) != fresh[id][0]
            granted_at[id], held[id] = fresh[id]
    return _by_age({id: (granted_at[id], one) for id, one in held.items()}) if moved else (held, granted_at)


def _by_age(held: _Granted) -> tuple[dict[str, Reservation], dict[str, float]]:
    ordered = sorted(held.items(), key=lambda item: (item[1][0], item[0]))
    return {id: one for id, (_, one) in ordered}, {id: moment for id, (moment, _) in ordered}


def _place(ticket: Ticket) -> tuple[int, float, str]:
    return -ticket.priority, ticket.rank, ticket.id
