"""One's own place in the queue, as it changes: server-sent events.

However many look, the queue is read once a second, and only while somebody looks; where everybody stands is worked out
once for all of them, only when something has changed or some seconds have passed, and not all the time (see places.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial

from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from sqlalchemy import Connection

from hub.admission import tickets
from hub.web.door import Door, Visitor
from hub.web.live import PER_PERSON
from hub.web.places import Picture, Places, heard
from hub.web.problems import Problem
from hub.web.queue import Queue, TicketModel

__all__ = ["QueueLive", "TicketStream"]

_log = logging.getLogger(__name__)

_LOOK_S = 1.0
_AGAIN_S = 5.0
"""How often it is worked out anew although no ticket has changed: sessions end, and time passes."""

_BEAT_S = 5.0
_LOGIN_S = 30.0


class QueueLive:
    """What all streams of one service look at.

    Parameters
    ----------
    limit
        How many streams there may be.
    closing
        Whether the service ends.
    """

    def __init__(self, queue: Queue, places: Places, limit: int, closing: Callable[[], bool]) -> None:
        self._queue = queue
        self._places = places
        self._limit = limit
        self._closing = closing
        self._watched: dict[str, int] = {}
        self._people: Counter[tuple[str, str]] = Counter()
        self._reader: asyncio.Task[None] | None = None
        self._picture: Picture | None = None
        self._working: asyncio.Task[Picture] | None = None
        self.told: dict[str, TicketModel] = {}
        """The newest document of every ticket that is watched."""
        self.news = asyncio.Condition()

    @property
    def closing(self) -> bool:
        """Whether all streams have to end."""
        return self._closing()

    @contextlib.asynccontextmanager
    async def watching(self, ticket_id: str, visitor: Visitor) -> AsyncIterator[None]:
        """Keep the document of this ticket up to date meanwhile; raises Problem `full` or `too-many-pages`."""
        who = (visitor.identity.kind, visitor.identity.name)
        if self._people.total() >= self._limit:
            raise Problem("full", "Too many live pages are open; reload this one to see your place.")
        if self._people[who] >= PER_PERSON:
            raise Problem(
                "too-many-pages", f"You have {PER_PERSON} live pages open, which is the most; close some, or reload."
            )
        self._people[who] += 1
        self._watched[ticket_id] = self._watched.get(ticket_id, 0) + 1
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read(), name="armillary-queue-events")
        try:
            yield
        finally:
            self._people[who] -= 1
            if not self._people[who]:
                del self._people[who]
            self._watched[ticket_id] -= 1
            if not self._watched[ticket_id]:
                del self._watched[ticket_id]
                self.told.pop(ticket_id, None)

    async def _read(self) -> None:
        self._picture = self._working = None  # of when somebody looked last, perhaps long ago
        while self._watched and not self.closing:
            try:
                ids = list(self._watched)
                picture = await self._newest()
                found = await self._queue.read(partial(self._documents, ids=ids, picture=picture))
            except Problem:  # the database is away: what was told is still the best that is known
                pass
            except Exception:  # noqa: BLE001  # whatever it is, the pages must hear of the next change
                _log.exception("The queue could not be read for the live pages")
            else:
                # Some may have left while this was read: what is kept of them nobody would ever remove.
                self.told.update({id: said for id, said in found.items() if id in self._watched})
            async with self.news:
                self.news.notify_all()
            await asyncio.sleep(_LOOK_S)

    async def _newest(self) -> Picture:
        """Return where everybody stands, worked out anew where it may be another by now. What takes longer than a look
        is told by a later one: that a start has ended must not wait for it."""
        told = self._picture
        known = await self._queue.read(lambda connection: self._queue.desk.store.look(connection).known)
        if told is not None and told.known is known and time.monotonic() - told.began < _AGAIN_S:
            return told
        if self._working is None:
            self._working = asyncio.create_task(self._places.picture(), name="armillary-queue-picture")
            self._working.add_done_callback(heard)
        await asyncio.wait({self._working}, timeout=None if told is None else _LOOK_S)
        if told is None or self._working.done():
            working, self._working = self._working, None
            told = self._picture = working.result()
        return told

    def _documents(self, connection: Connection, *, ids: list[str], picture: Picture) -> dict[str, TicketModel]:
        known = self._queue.desk.store.look(connection).known
        found = {}
        for id in ids:
            ticket = known.waiting.get(id) or known.starting.get(id) or tickets.find(connection, id)
            # One that is newer than the picture stays as it was told until there is a picture that has it.
            if ticket is not None and (ticket.state != "waiting" or picture.shows(ticket)):
                found[id] = self._queue.model(ticket, picture.places.get(id), picture.now)
        return found


class TicketStream(StreamingResponse):
    """The answer that ends with the ticket, the login or the service."""

    def __init__(self, live: QueueLive, door: Door, who: Visitor, ticket_id: str, first: TicketModel) -> None:
        super().__init__(
            self._talk(live, door, who, ticket_id, first),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )

    @staticmethod
    async def _talk(
        live: QueueLive, door: Door, who: Visitor, ticket_id: str, first: TicketModel
    ) -> AsyncIterator[bytes]:
        yield format_sse_event(retry=random.randint(1000, 5000))  # noqa: S311
        told, now = "", time.monotonic()
        spoke_at = looked_at = now
        document = first
        try:
            async with live.watching(ticket_id, who):
                while not live.closing:
                    text, now = document.model_dump_json(), time.monotonic()
                    if text != told:
                        yield format_sse_event(event="ticket", data_str=text)
                        told, spoke_at = text, now
                    elif now - spoke_at >= _BEAT_S:
                        yield format_sse_event(event="beat", data_str=json.dumps({}))
                        spoke_at = now
                    if document.state == "ended":
                        return
                    if now - looked_at >= _LOGIN_S:
                        if await door.again(who) is None:
                            yield format_sse_event(event="login-ended", data_str="{}")
                            return
                        looked_at = now
                    await _next(live)
                    document = live.told.get(ticket_id, document)
        except Problem as problem:
            yield format_sse_event(event="full", data_str=json.dumps({"detail": problem.detail}))


async def _next(live: QueueLive) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOOK_S), live.news:
            await live.news.wait()
