"""Where everybody in the queue stands, worked out once for all who want to know.

With thousands who wait that takes a good part of a second, and each of them has a page that asks: for each by itself
it would be the square of their number.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from sqlalchemy import Connection

from hub.admission import tickets
from hub.admission.decide import Queued
from hub.admission.memory import Known
from hub.admission.tickets import Ticket
from hub.web.problems import Problem
from hub.web.queue import Queue, TicketModel
from profiles.model import NO_ACCELERATOR

__all__ = ["Picture", "Places", "heard"]

_REST = 4.0
"""After working it out there is a rest of so many times as long as that took: whoever decides about requests needs the
processor, too. What was found is told meanwhile."""

_LONGEST_REST_S = 3.0
"""What took long because the database or the machine stood still says nothing about the next time."""

_TOLD_WITHIN_S = 5.0
"""How long who has just asked waits to be told of the place. With thousands who ask at once it is worked out after all
have been decided about, and whoever asks gives up some time."""

_LONG_S = 0.05
"""What takes less needs no rest, and is worked out for each who asks: nobody is told what was true a moment ago."""


@dataclass(frozen=True)
class Picture:
    """The queue at one moment.

    Parameters
    ----------
    began, took_s
        When it was begun to be read, by the process' own clock, and how long that and the working out took.
    now
        The same moment by the database's clock.
    known
        The tickets of then, and all that is held.
    places
        Where those stand that wait, by id, first who comes first.
    """

    began: float
    took_s: float
    now: float
    known: Known
    places: Mapping[str, Queued]

    @property
    def rests_until(self) -> float:
        """Until when it is told, and none is made anew."""
        if self.took_s <= _LONG_S:
            return self.began
        return self.began + self.took_s + min(_REST * self.took_s, _LONGEST_REST_S)

    @cached_property
    def tickets(self) -> Mapping[str, Ticket]:
        """Those that start and then those that wait, first who comes first, by id."""
        waiting = self.known.waiting
        return {**self.known.starting, **{id: waiting[id] for id in self.places if id in waiting}}

    @cached_property
    def waiting(self) -> Mapping[str, int]:
        """How many wait, by accelerator; `none` is servers without one."""
        return dict(Counter(one.accelerator or NO_ACCELERATOR for one in self.known.waiting.values()))

    def shows(self, ticket: Ticket) -> bool:
        """Whether it has this ticket as it is here, but for what does not move it."""
        known = self.tickets.get(ticket.id)
        return known is not None and (known.changed_at, known.state) == (ticket.changed_at, ticket.state)

    def newer(self, ticket: Ticket) -> Ticket | None:
        """Return a ticket that was read before `Places.picture` was asked for, or as this has it, if it has changed
        since; None: it has ended."""
        return ticket if self.shows(ticket) else self.tickets.get(ticket.id)


class Places:
    """For one event loop."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._newest: Picture | None = None
        self._working: asyncio.Task[None] | None = None
        self._changed = 0.0

    def changed(self) -> None:
        """Say that somebody has just changed the order: what was read before is not told any more."""
        self._changed = time.monotonic()

    def at_rest(self, ticket: Ticket) -> Picture | None:
        """Return the queue as it was before the present rest, if it shows this ticket; it is not worked out."""
        found = self._newest
        if found is None or found.began < self._changed or time.monotonic() >= found.rests_until:
            return None
        return found if found.shows(ticket) else None

    async def picture(self, known: Iterable[Ticket] = ()) -> Picture:
        """Return the queue as it is, or as it was before the present rest.

        Parameters
        ----------
        known
            Tickets that the answer must show as they are here, unless they have changed again since.

        Raises
        ------
        Problem
            The database is away.
        """
        asked, known = time.monotonic(), tuple(known)
        while True:
            found = self._newest
            if found is not None and (found.began >= asked or self._serves(found, asked, known)):
                return found
            if self._working is None or self._working.done():
                self._working = asyncio.create_task(self._work(), name="armillary-places")
                self._working.add_done_callback(heard)
            # Others wait for the same: who goes away must not take it from them.
            await asyncio.shield(self._working)

    async def told(self, ticket: Ticket) -> TicketModel:
        """Return a ticket that was just read as the API tells it, as it is by now; raises Problem as `picture`."""
        if ticket.state == "waiting":
            picture = await self.picture([ticket])
            now = picture.newer(ticket)
            if now is not None:
                return self._queue.model(now, picture.places.get(now.id), picture.now)
            ended = await self._queue.read(partial(tickets.find, ticket_id=ticket.id))
            ticket = ticket if ended is None else ended
        return self._queue.model(ticket, None)

    async def joined(self, ticket: Ticket) -> TicketModel:
        """The same of who has just got a place, or another one: that stands, whether or not it can be told yet."""
        try:
            async with asyncio.timeout(_TOLD_WITHIN_S):
                return await self.told(ticket)
        except (TimeoutError, Problem):
            return self._queue.model(ticket, None)

    def _serves(self, picture: Picture, asked: float, known: Iterable[Ticket]) -> bool:
        """Whether one that was begun before somebody asked is told."""
        return self._changed <= picture.began and asked < picture.rests_until and all(map(picture.shows, known))

    async def _work(self) -> None:
        if self._newest is not None:
            await asyncio.sleep(max(0.0, self._newest.rests_until - time.monotonic()))
        self._newest = await self._queue.read(self._look)

    def _look(self, connection: Connection) -> Picture:
        began, store = time.monotonic(), self._queue.desk.store
        sight = store.look(connection)
        places = store.queue(store.standing(connection, sight))
        return Picture(began, time.monotonic() - began, sight.now, sight.known, places)


def heard(task: asyncio.Task[Any]) -> None:
    """Take note of a failure: of those who wait for it all may have gone away."""
    if not task.cancelled():
        task.exception()
