"""Sees to starts from the queue: asks the hub, follows what comes of it, writes down how it ended.

The service sees to those that it could grant at once, the controller to all others and to those that nobody sees to any
more. It may be killed at any moment: what was reserved, and for which ticket, is in the database before the hub is
asked, and the hub may be asked twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from functools import partial
from math import inf
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from hub.admission import reservations, tickets
from hub.admission.changes import KEPT_S, ended
from hub.admission.hub_api import Answer, Servers
from hub.admission.outcome import SEEN_TO_S, STAYED, TURNED_BACK, kept, settle
from hub.admission.tickets import Ticket
from hub.db.clock import Now
from hub.db.transaction import read, write
from hub.idle import sessions
from hub.metrics import QUEUE_STARTS
from hub.settings.queue import QueueSettings
from spawner.log_facts import note

__all__ = ["Starter", "apart_s"]

T = TypeVar("T")
_log = logging.getLogger(__name__)

_RENEW_S = SEEN_TO_S / 3
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_LOOK_S = 1.0
_TROUBLE_S = 120.0
"""How long the hub may not answer before what is held for a start is given to others."""

_STILL_LOOKS = 3
"""How often in a row nothing may be seen to be going on before a start counts as broken off by nobody's wish."""

_STOPS_WITHIN_S = 300.0
_LOST = "It was your turn, but what was kept for you could not be held that long; you have your place."

_APART_S = (0.05, 0.2)
"""How far apart starts begin, at least and at most. Each holds the hub's loop for some 25 to 70 ms in all, and many
that begin together go on together: who opens a page meanwhile would wait for a step of each."""

_SPREAD = 0.8
"""Of the time in which as many starts begin as there are slots: slots that are free at the same time would stay so."""

_NEWEST = 0.1
"""How much of what is known of how long starts take is the last one's."""


class Starter:
    """For one event loop.

    Parameters
    ----------
    slots
        How many servers may be starting at once.
    ready
        Told of every ticket whose server is up, after that is written down: for a notice by e-mail.
    wake
        Called whenever a start has ended, and so a start slot is free.
    """

    def __init__(
        self,
        database: Engine,
        hub: Servers,
        queue: QueueSettings,
        *,
        slots: int,
        ready: Callable[[Ticket], Awaitable[None]] | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._hub = hub
        self._queue = queue
        self._slots = slots
        self._ready = ready
        self._wake = wake
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._current: dict[str, Ticket] = {}
        self._next_turn = -inf
        self._took_s: float | None = None
        self._hurried = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None

    @property
    def seen_to(self) -> frozenset[str]:
        """The tickets that are seen to here."""
        return frozenset(self._tasks)

    def see_to(self, ticket: Ticket, *, adopted: bool = False) -> None:
        """Begin to see to a starting ticket; returns at once. Nothing happens if that is done here already.

        Parameters
        ----------
        adopted
            Somebody else has seen to it before, and it is not known how far that went.
        """
        if ticket.id not in self._tasks:
            self._begin(ticket, adopted)

    def hurry(self) -> None:
        """Look at once whether what is seen to here is still wanted; returns at once."""
        self._hurried.set()

    def _begin(self, ticket: Ticket, adopted: bool) -> None:
        task = asyncio.create_task(self._until_ended(ticket, adopted), name=f"armillary-start-{ticket.id}")
        self._tasks[ticket.id], self._current[ticket.id] = task, ticket
        task.add_done_callback(lambda done: self._over(ticket, done))
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(), name="armillary-starts")

    async def close(self) -> None:
        """Let go of everything; whoever comes next takes it over."""
        tasks = [*self._tasks.values(), *([self._renewing] if self._renewing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _over(self, ticket: Ticket, task: asyncio.Task[None]) -> None:
        if self._tasks.get(ticket.id) is task:
            del self._tasks[ticket.id], self._current[ticket.id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("Seeing to the start of %r/%r has died", ticket.user, ticket.server, exc_info=error)
        self._wake()

    # --- one start -----------------------------------------------------------------------------------------------

    async def _until_ended(self, ticket: Ticket, adopted: bool) -> None:
        note(user=ticket.user, server=ticket.server, ticket=ticket.id, spawn=ticket.spawn_id)
        current: Ticket | None = ticket
        while current is not None:
            self._current[ticket.id] = current
            answer = await self._answer(current, adopted)
            if answer is not None:
                await self._write_down(current, answer)
            current, adopted = await self._turned_back(current), False

    async def _answer(self, ticket: Ticket, adopted: bool) -> Answer | None:
        """Return how the start ended; None: it is not ours any more."""
        if ticket.replaces is not None:
            cleared = await self._old_one_gone(ticket)
            if cleared is None or cleared.word != "stopped":
                return cleared
            if not await self._has_slot(ticket):
                return None
        elif ticket.said in (STAYED, TURNED_BACK):
            cleared = await self._other_one_gone(ticket)
            if cleared is None or cleared.word != "stopped":
                return cleared
        if adopted and not await self._in_database(read, lambda found: _held(found, ticket)):
            return await self._what_became(ticket)
        return await self._bring_up(ticket)

    async def _bring_up(self, ticket: Ticket) -> Answer | None:
        loop = asyncio.get_running_loop()
        await self._turn()
        pause, trouble_since = _FIRST_PAUSE_S, loop.time()
        while True:
            if not await self._in_database(read, lambda found: _starting(found, ticket)):
                return None
            back = ticket.said in (STAYED, TURNED_BACK)
            began = loop.time()
            answer = await self._hub.start(ticket.user, ticket.server, ticket.options, back=back)
            if answer.word == "ready" or (answer.word == "failed" and not answer.code):
                answer = await self._at_once(ticket, answer)
            if answer.word == "pending":
                answer = await self._what_became(ticket)
            if answer.word not in ("busy", "away"):
                self._took(loop.time() - began)
                return answer
            if loop.time() - trouble_since > _TROUBLE_S:
                return replace(answer, word="away")
            await asyncio.sleep(max(pause, min(answer.wait_s, _LONGEST_PAUSE_S)) * random.uniform(0.8, 1.2))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _at_once(self, ticket: Ticket, said: Answer) -> Answer:
        """Return what is true of a start that the hub says has succeeded (201) or failed (500) at once: it says one or
        the other also of a start that is stopped in its first moments."""
        now = await self._hub.look(ticket.user, ticket.server)
        if said.word == now.word == "ready":
            return said
        if not await self._goes_on(ticket):
            return Answer("cut")
        return said if said.word == "failed" else Answer("pending")

    async def _turn(self) -> None:
        """Wait until it is this start's turn to ask the hub."""
        loop = asyncio.get_running_loop()
        turn = max(self._next_turn, loop.time())
        self._next_turn = turn + apart_s(self._took_s, self._slots)
        await asyncio.sleep(turn - loop.time())

    def _took(self, seconds: float) -> None:
        """Note how long a start held its slot."""
        known = seconds if self._took_s is None else self._took_s
        self._took_s = known + _NEWEST * (seconds - known)

    async def _what_became(self, ticket: Ticket) -> Answer:
        """Follow a start that the hub has begun, through restarts of the hub."""
        loop = asyncio.get_running_loop()
        pause, trouble_since = _FIRST_PAUSE_S, loop.time()
        while True:
            answer = await self._hub.follow(ticket.user, ticket.server)
            if answer.word in ("ready", "failed"):
                return answer
            if answer.word == "cut" and not await self._goes_on(ticket):
                return answer
            answer = await self._hub.look(ticket.user, ticket.server)
            if answer.word == "ready":
                return answer
            if answer.word == "stopped":
                return Answer("failed", "start-lost", "The start was broken off, and nobody knows why.")
            if answer.word == "pending":
                pause, trouble_since = _FIRST_PAUSE_S, loop.time()
            elif loop.time() - trouble_since > _TROUBLE_S:
                return answer
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _goes_on(self, ticket: Ticket) -> bool:
        """Return whether a start that was broken off is still wanted: whoever has stopped it ends the ticket with that,
        at the end of the stop, which begins a second later; a hub that ends does not, nor does a start that fails."""
        loop = asyncio.get_running_loop()
        deadline, still = loop.time() + _STOPS_WITHIN_S, 0
        while still < _STILL_LOOKS and loop.time() < deadline:
            await asyncio.sleep(_LOOK_S)
            stops = (await self._hub.look(ticket.user, ticket.server)).word == "pending"
            if not await self._in_database(read, lambda found: _starting(found, ticket)):
                return False
            still = 0 if stops else still + 1
        return True

    # --- a switch ------------------------------------------------------------------------------------------------

    async def _old_one_gone(self, ticket: Ticket) -> Answer | None:
        """Stop the session that is switched from, once it has been told; return `stopped`, or why that is not so."""
        wait_s = await self._in_database(write, lambda found: _announced(found, ticket, self._queue.switch_grace_s))
        if wait_s is None:
            return Answer("stopped")  # it is gone, or was seen to before
        await asyncio.sleep(wait_s)
        if not await self._in_database(write, lambda found: _stopping(found, ticket)):
            return None
        within_s = inf if _stays(ticket) else _STOPS_WITHIN_S
        answer = await self._stopped(ticket, lambda found: _there(found, ticket), within_s)
        if answer.word == "stopped":  # should the hub not have said so to the database
            await self._in_database(write, lambda found: ended(found, ticket.replaces or ""))
        return answer

    async def _other_one_gone(self, ticket: Ticket) -> Answer | None:
        """Stop what the hub may still start, before the session comes back that was switched from."""
        others = await self._in_database(read, lambda found: _others(found, ticket))
        if not others:
            return Answer("stopped")
        answer = await self._stopped(ticket, lambda found: bool(_others(found, ticket)), inf)
        if answer.word != "stopped":
            return answer
        for spawn_id in others:
            await self._in_database(write, partial(ended, spawn_id=spawn_id, otherwise="left"))
        return answer

    async def _stopped(self, ticket: Ticket, still: Callable[[Connection], bool], within_s: float) -> Answer:
        """Have a server stopped while it is `still` there: another who sees to the same may have begun the next one.

        Return `stopped`, `gone`, or `away` where the hub has not done it in time.
        """
        deadline = asyncio.get_running_loop().time() + within_s
        while await self._in_database(read, still):
            answer = await self._hub.stop(ticket.user, ticket.server)
            if answer.word in ("stopped", "gone"):
                return answer
            if asyncio.get_running_loop().time() > deadline:
                return replace(answer, word="away")
            await asyncio.sleep(_LOOK_S)
        return Answer("stopped")

    async def _has_slot(self, ticket: Ticket) -> bool:
        """Wait until there is a start slot for what a session is switched to; False: it is not wanted any more."""
        while await self._in_database(read, lambda found: _starting(found, ticket)):
            if await self._in_database(read, lambda found: _may_start(found, ticket, self._slots)):
                return True
            await asyncio.sleep(_LOOK_S)
        return False

    async def _turned_back(self, ticket: Ticket) -> Ticket | None:
        """Return the ticket if it goes on with what it was switched from."""
        now = await self._in_database(read, lambda found: tickets.find(found, ticket.id))
        again = now is not None and now.state == "starting" and now.spawn_id != ticket.spawn_id
        return now if again and ticket.replaces is not None else None

    # --- the database --------------------------------------------------------------------------------------------

    async def _write_down(self, ticket: Ticket, answer: Answer) -> None:
        settled = await self._in_database(write, lambda found: _settled(found, ticket, answer, self._queue))
        if settled is None:
            return
        QUEUE_STARTS.labels(answer.word).inc()
        said = f": {answer.code} {answer.text}".rstrip() if answer.word != "ready" else ""
        _log.info("Start of %r/%r from the queue: %s%s", ticket.user, ticket.server, answer.word, said)
        if answer.word == "ready" and self._ready is not None and settled.notify:
            with contextlib.suppress(OSError):
                await self._ready(settled)

    async def _in_database(
        self, how: Callable[[Engine, Callable[[Connection], T]], T], work: Callable[[Connection], T]
    ) -> T:
        """Do this however long the database is away: without it nothing may go on."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return await asyncio.to_thread(how, self._database, work)
            except (OSError, SQLAlchemyError) as error:
                if pause == _FIRST_PAUSE_S:
                    _log.warning("A start from the queue waits for the database: %s", error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _renew(self) -> None:
        """Say while there are any that they are seen to, and let go of those whose owner has left."""
        while self._tasks:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurried.wait(), _RENEW_S)
            self._hurried.clear()
            mine = dict(self._current)
            starting = await self._in_database(write, partial(self._renewed, ids=mine))
            for ticket_id, seen_to in mine.items():
                task, now = self._tasks.get(ticket_id), starting.get(ticket_id)
                if task is None or task.done() or self._current[ticket_id] is not seen_to:
                    continue
                if now is None:
                    _log.info("The start of ticket %s is no longer wanted, or was taken over", ticket_id)
                    task.cancel()
                elif await self._in_database(read, partial(_overtaken, seen_to=seen_to, now=now)):
                    _log.info("%r stays with what %r had; it comes back", now.user, now.server)
                    task.cancel()
                    self._begin(now, adopted=False)

    def _renewed(self, connection: Connection, ids: Collection[str]) -> dict[str, Ticket]:
        found = [one for one in tickets.starting(connection) if one.id in ids]
        tickets.renew(connection, [one.id for one in found], seen_to_s=SEEN_TO_S)
        granted = [one.spawn_id for one in found if one.spawn_id is not None]
        reservations.keep(connection, granted, expires_in_s=self._queue.reservation_s)
        for one in found:
            reservations.keep(connection, [held.id for held in kept(connection, one)], expires_in_s=KEPT_S)
        return {one.id: one for one in found}


def apart_s(took_s: float | None, slots: int) -> float:
    """Return how many seconds after one start the next one begins.

    Parameters
    ----------
    took_s
        How long starts took lately; None: nobody knows yet.
    slots
        How many servers may be starting at once.
    """
    least, most = _APART_S
    return min(max(least, _SPREAD * (took_s or 0.0) / slots), most)


def _held(connection: Connection, ticket: Ticket) -> bool:
    return ticket.spawn_id is not None and reservations.find(connection, ticket.spawn_id) is not None


def _starting(connection: Connection, ticket: Ticket) -> bool:
    now = tickets.find(connection, ticket.id)
    return now is not None and now.state == "starting" and now.spawn_id == ticket.spawn_id


def _stays(ticket: Ticket) -> bool:
    """Whether the session is only stopped because that had begun when its owner chose to stay with it."""
    return ticket.spawn_id == ticket.replaces


def _announced(connection: Connection, ticket: Ticket, grace_s: float) -> float | None:
    """Announce the end of the session that is switched from; return in how many seconds that is, None: it is over.

    An end that is announced for another reason stands, and holds also if its owner stays after all.
    """
    old = ticket.replaces or ""
    held = reservations.find(connection, old)
    if held is None:
        return None
    if held.ticket == ticket.id:
        return 0.0  # it is being stopped already
    sessions.begin(connection, [(old, held.user, held.server)])
    known = sessions.of(connection, old)
    now = float(connection.scalar(Now().select()) or 0.0)
    if known is None or known.stop_at is None:
        sessions.announce(connection, old, now + grace_s, "switch")
        return float(grace_s)
    stop_at = known.stop_at if known.stop_because == "switch" else min(known.stop_at, ticket.changed_at + grace_s)
    return max(0.0, min(stop_at - now, grace_s))


def _settled(connection: Connection, ticket: Ticket, answer: Answer, queue: QueueSettings) -> Ticket | None:
    """Write down how a start ended, and return the ticket as it is now; None: somebody else has done so."""
    return tickets.find(connection, ticket.id) if settle(connection, ticket, answer, queue) else None


def _stopping(connection: Connection, ticket: Ticket) -> bool:
    """Note that the session that is switched from is about to be stopped; False: it must not be any more.

    What it holds belongs to the switch from now on. Whoever leaves the switch finds that, and it comes back.
    """
    if not _starting(connection, ticket):
        return False
    old = reservations.find(connection, ticket.replaces or "")
    if old is not None and old.ticket != ticket.id and not _held(connection, ticket):
        # What it is switched to was given back meanwhile: it waits for it again, and the session goes on.
        sessions.withdraw(connection, old.id, "switch")
        tickets.put_back(connection, ticket.id, ticket.spawn_id or "", said=_LOST, wait_s=0.0)
        return False
    reservations.give_to(connection, ticket.replaces or "", ticket.id)
    return True


def _there(connection: Connection, ticket: Ticket) -> bool:
    """Whether the session that is switched from has not ended yet."""
    return reservations.find(connection, ticket.replaces or "") is not None


def _others(connection: Connection, ticket: Ticket) -> tuple[str, ...]:
    """Return what else is held for a ticket than what it starts."""
    held = reservations.of_server(connection, ticket.user, ticket.server)
    return tuple(one.id for one in held if one.ticket == ticket.id and one.id != ticket.spawn_id)


def _overtaken(connection: Connection, seen_to: Ticket, now: Ticket) -> bool:
    """Whether a switch is taken back whose new session the hub has begun to start.

    Before that nobody waits for the hub for long, and a start that is just being asked for must not be missed.
    """
    if now.said != STAYED or now.spawn_id == seen_to.spawn_id:
        return False
    held = reservations.find(connection, seen_to.spawn_id or "")
    return held is not None and held.state == "begun" and held.id != seen_to.replaces


def _may_start(connection: Connection, ticket: Ticket, slots: int) -> bool:
    """Whether a start slot is left for a ticket of which the session is gone that is switched from.

    Others of its kind that wait for one, too, take theirs in the order of the queue.
    """
    starting = tickets.starting(connection)
    ids = {id for one in starting for id in (one.spawn_id, one.replaces) if id is not None}
    held = {id: one.state for id, (_, one) in reservations.granted(connection, ids).items()}
    if held.get(ticket.spawn_id or "") == "begun":
        return True  # it has one
    taken, in_front = 0, True
    for one in starting:
        if one.id == ticket.id:
            in_front = False
            continue
        starts = one.replaces is None or held.get(one.spawn_id or "") == "begun"
        taken += starts or (in_front and one.replaces not in held)
    return taken < slots
