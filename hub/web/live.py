"""Pages that stay up to date: server-sent events about the counts.

One task reads the counts once a second, however many pages are open; each page is told when what its person sees has
changed, and otherwise now and then that all is still true. A page that reads slowly waits for nobody and nobody for
it: it gets the newest counts when it is ready, not those that it missed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from fastapi.sse import format_sse_event
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hub.web.capacity import Reading
from hub.web.door import Visitor
from hub.web.problems import Problem

__all__ = ["EventStream", "Live"]

_log = logging.getLogger(__name__)

Say = Callable[..., Awaitable[None]]

EVERY_S = 1.0
"""How often the counts are read."""
PATIENCE_S = 5.0
"""How long that may take before the counts of before count as old."""
BEAT_S = 5.0
"""How long a page hears nothing at most: after 12 s of silence it takes us for gone (hub/templates/form-live.js)."""
LOOK_AGAIN_S = 60.0
"""How often it is checked that the person may still see this."""
SLOW_S = 60.0
"""How long a page may take nothing of what it is sent, before it is let go."""
PER_PERSON = 20
"""How many live pages one person may have; a browser keeps six connections to a site (HTTP/1.1)."""


class Live:
    """Everything that is open, and the newest counts for it.

    Parameters
    ----------
    read
        Reads the counts; must not raise.
    look_again
        Says whether somebody who was let in may still see what they see: their login as it is now, or None.
    limit
        How many pages may be open.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Reading]],
        look_again: Callable[[Visitor], Awaitable[Visitor | None]],
        limit: int,
    ) -> None:
        self._read = read
        self.look_again = look_again
        self.limit = limit
        self.reading: Reading | None = None
        self.closing = False
        self._read_at: float | None = None
        self._open: set[asyncio.Event] = set()
        self._people: Counter[tuple[str, str]] = Counter()
        self._task: asyncio.Task[None] | None = None

    @property
    def open(self) -> int:
        """How many pages are open."""
        return len(self._open)

    @property
    def silent_s(self) -> float | None:
        """Seconds since the counts were last read; None: they never were."""
        return None if self._read_at is None else time.monotonic() - self._read_at

    def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.create_task(self._poll(), name="armillary-live")

    def close(self) -> None:
        """End every page at once: browsers come back by themselves, to another replica or to the next service."""
        self.closing = True
        self._wake()

    async def stop(self) -> None:
        """Stop reading."""
        self.close()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def enter(self, visitor: Visitor) -> asyncio.Event:
        """Take a place; what is returned is set whenever there may be news.

        Raises
        ------
        Problem
            `full` or `too-many-pages`.
        """
        who = (visitor.identity.kind, visitor.identity.name)
        if self.closing or len(self._open) >= self.limit:
            raise Problem(
                "full",
                f"As many pages as may be ({self.limit}) are kept up to date already; this one shows the counts of "
                "when it was opened. Try again in a minute.",
                headers={"Retry-After": str(random.randint(30, 90))},  # noqa: S311  # that not all come back at once
            )
        if self._people[who] >= PER_PERSON:
            raise Problem(
                "too-many-pages",
                f"You have {PER_PERSON} live pages open, which is the most; close some.",
                headers={"Retry-After": "60"},
            )
        news = asyncio.Event()
        self._open.add(news)
        self._people[who] += 1
        return news

    def leave(self, visitor: Visitor, news: asyncio.Event) -> None:
        """Give the place back."""
        who = (visitor.identity.kind, visitor.identity.name)
        self._open.discard(news)
        self._people[who] -= 1
        if self._people[who] <= 0:
            del self._people[who]

    async def _poll(self) -> None:
        while True:
            reading = await self._newest()
            if reading is not None:
                news = not reading.same_counts(self.reading)
                self.reading = reading
                if news:
                    self._wake()
            await asyncio.sleep(EVERY_S)

    async def _newest(self) -> Reading | None:
        """Read the counts; those of before are no longer the truth when that takes too long."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                reading = await self._read()
        except Exception as error:  # noqa: BLE001  # whatever it is, the pages must hear of the next counts
            if self.reading is None or self.reading.availability.fresh:
                _log.warning("The counts could not be read (%s)", type(error).__name__, exc_info=error)
            return self.reading and self.reading.stale()
        self._read_at = time.monotonic()
        return reading

    def _wake(self) -> None:
        for news in self._open:
            news.set()


class EventStream(Response):
    """The answer that does not end: counts as they change.

    Parameters
    ----------
    live
        Where the counts come from.
    visitor
        Who looks.
    titles
        What they are shown: asked for anew when their groups may have changed.
    first
        The counts with which the page begins.
    """

    media_type = "text/event-stream"

    def __init__(
        self, live: Live, visitor: Visitor, titles: Callable[[Visitor], Mapping[str, str]], first: Reading
    ) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._live = live
        self._visitor = visitor
        self._titles = titles
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the page, its login or the service goes."""
        news = self._live.enter(self._visitor)
        watch = asyncio.create_task(_until_gone(receive, news))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._talk(_sender(send), news, watch)
            if not watch.done():
                await _sender(send)(b"", False)
        except TimeoutError:
            _log.info("A live page has taken nothing for %g s; it is let go", SLOW_S)
        finally:
            self._live.leave(self._visitor, news)
            watch.cancel()

    async def _talk(self, say: Say, news: asyncio.Event, watch: asyncio.Task[None]) -> None:
        reading, titles = self._first, self._titles(self._visitor)
        told, spoke_at = "", 0.0
        looked_at = time.monotonic()
        # Spread over some seconds: after a restart of the service all pages come back.
        await say(format_sse_event(retry=random.randint(1000, 5000)))  # noqa: S311
        while not (watch.done() or self._live.closing):
            user = self._visitor.identity.person.name
            text = reading.text(user, titles)
            now = time.monotonic()
            if text.counts != told:
                await say(_event("capacity", text.full, reading.sequence))
                told, spoke_at = text.counts, now
            elif now - spoke_at >= BEAT_S:
                await say(_event("beat", json.dumps(reading.beat()), reading.sequence))
                spoke_at = now
            if now - looked_at >= LOOK_AGAIN_S:
                visitor = await self._live.look_again(self._visitor)
                if visitor is None:
                    await say(_event("login-ended", "{}", None))
                    return
                looked_at = now
                if visitor != self._visitor:
                    self._visitor, titles = visitor, self._titles(visitor)
            await _wait(news, min(spoke_at + BEAT_S, looked_at + LOOK_AGAIN_S) - time.monotonic())
            news.clear()
            reading = self._live.reading or reading


def _sender(send: Send) -> Say:
    async def say(text: bytes, more: bool = True) -> None:
        async with asyncio.timeout(SLOW_S):
            await send({"type": "http.response.body", "body": text, "more_body": more})

    return say


def _event(name: str, data: str, sequence: int | None) -> bytes:
    return format_sse_event(event=name, data_str=data, id=str(sequence) if sequence is not None else None)


async def _wait(news: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await news.wait()


async def _until_gone(receive: Receive, news: asyncio.Event) -> None:
    """Return when the browser has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    news.set()
