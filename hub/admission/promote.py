"""The controller's work on the queue: whose turn it is gets a reservation, and the hub is asked to start the server.

Only the controller that leads promotes; each of its transactions looks at its epoch. It may be killed after any step:
what is reserved has its ticket in state `starting`, which the next controller finds and sees to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import Connection, Engine, select

from hub.admission import reservations, tickets
from hub.admission.changes import forget_user
from hub.admission.decide import limited
from hub.admission.desk import SqlDesk
from hub.admission.hub_api import HubServers, Servers
from hub.admission.outcome import SEEN_TO_S, lapse, refuse
from hub.admission.standing import Asked
from hub.admission.starter import Starter
from hub.admission.store import Store
from hub.admission.tickets import Ticket
from hub.controller.lease import fenced
from hub.controller.loop import DATABASE_AWAY
from hub.controller.status import Status
from hub.db import journal
from hub.db.clock import Now
from hub.db.tables import reservations as held_table
from hub.db.tables import tickets as ticket_table
from hub.db.transaction import read
from hub.mail import addresses
from hub.mail.postman import Postman
from hub.metrics import PROMOTIONS, QUEUE_WAIT
from hub.secret import ConfigError, service_token
from hub.settings import Settings
from hub.web.place import hub_api_url
from profiles.model import Catalogue
from profiles.syntax import shown
from spawner.ids import new_id
from spawner.refusal import Refusal

__all__ = ["Promoter", "follow", "promote_next"]

_log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""How often it is looked whose turn it is, while something changes or time passes that matters."""

_AGAIN_S = 3.0
"""How often it is worked out anew although no ticket or reservation has changed: counts change, and time passes."""

_USERS_S = 60.0
"""How often it is looked whether those who wait still exist."""

_RESTS = 4.0
"""After each such question the hub is left alone for so many times as long as it took to answer: with a thousand in
line these would otherwise be half of what it does for half of each minute."""

_LONGEST_REST_S = 1.0

_DAY_S = 86_400.0
_UPDATED_S = 600.0
"""For how long service and controller may know different catalogues: while they are updated one after the other."""


@dataclass(frozen=True)
class _Seen:
    """Whatever decides whose turn it is, in short: nothing has to be worked out while it is the same."""

    waiting: frozenset[tuple[object, ...]]
    starting: frozenset[str]
    held: frozenset[tuple[object, ...]]


class Promoter:
    """The queue's loop under one lease.

    Parameters
    ----------
    database
        Armillary's.
    epoch
        That of the lease.
    hub
        The hub; closed by whoever made it.
    starter
        Sees to starts in this event loop; default: one of its own.
    ready
        Of that: told of every ticket whose server is up.
    """

    def __init__(
        self,
        database: Engine,
        epoch: int,
        store: Store,
        hub: Servers,
        status: Status,
        *,
        starter: Starter | None = None,
        ready: Callable[[Ticket], Awaitable[None]] | None = None,
    ) -> None:
        self._database = database
        self._epoch = epoch
        self._store = store
        self._hub = hub
        self._status = status
        self._woken = asyncio.Event()
        self._since: float | None = None  # by the database's clock
        queue, slots = store.rules.queue, store.rules.queue.slots(store.rules.engine)
        self._starter = starter or Starter(database, hub, queue, slots=slots, ready=ready, wake=self._woken.set)
        self._seen: _Seen | None = None
        self._worked_at = -_AGAIN_S

    async def run(self, stop: asyncio.Event) -> None:
        """Promote until `stop` is set.

        Raises
        ------
        StaleEpoch
            Another controller leads.
        """
        users = asyncio.create_task(self._look_for_users(stop), name="armillary-queue-users")
        try:
            while not stop.is_set():
                try:
                    await self._look()
                except DATABASE_AWAY as error:
                    self._status.report(f"the queue cannot be read: {error}", _log)
                await self._pause(stop)
        finally:
            users.cancel()
            await asyncio.gather(users, return_exceptions=True)
            await self._starter.close()

    async def _look(self) -> None:
        seen = await asyncio.to_thread(read, self._database, _look_at)
        due = seen.waiting and (seen != self._seen or time.monotonic() - self._worked_at >= _AGAIN_S)
        if not due and not seen.starting - self._starter.seen_to:
            return
        mine = self._starter.seen_to
        adopted, promoted = await asyncio.to_thread(
            fenced, self._database, self._epoch, lambda connection: self._work(connection, mine)
        )
        self._seen, self._worked_at = seen, time.monotonic()
        for ticket in adopted:
            _log.info("The start of %r/%r is seen to again", ticket.user, ticket.server)
            self._starter.see_to(ticket, adopted=True)
        for ticket in promoted:
            PROMOTIONS.inc()
            QUEUE_WAIT.observe(max(0.0, ticket.changed_at - ticket.asked_at))
            _log.info("It is the turn of %r/%r: %s", ticket.user, ticket.server, ticket.accelerator or "no accelerator")
            self._starter.see_to(ticket)

    def _work(self, connection: Connection, mine: frozenset[str]) -> tuple[tuple[Ticket, ...], list[Ticket]]:
        queue = self._store.rules.queue
        adopted = tickets.adopt(connection, seen_to_s=SEEN_TO_S, but=mine)
        lapse(connection, queue.login_wait_s)
        now = float(connection.scalar(select(Now())) or 0.0)
        self._since = now if self._since is None else self._since
        refuse_what_is_gone(connection, self._store.rules.catalogue, max(self._since, now - _UPDATED_S))
        free = queue.slots(self._store.rules.engine) - tickets.number_starting(connection)
        return adopted, promote_next(connection, self._store, free)

    async def _look_for_users(self, stop: asyncio.Event) -> None:
        """Cancel the tickets of people whom the hub does not know any more, and forget what is old."""
        keep_s = self._store.rules.queue.keep_days * _DAY_S
        while not stop.is_set():
            with contextlib.suppress(*DATABASE_AWAY):
                await self._fenced(partial(tickets.forget, older_than_s=keep_s))
                await self._fenced(partial(addresses.sweep, older_than_s=keep_s))
                await self._fenced(journal.trim)
                waiting = await asyncio.to_thread(read, self._database, tickets.waiting)
                for user in sorted({ticket.user for ticket in waiting}):
                    asked_at = time.monotonic()
                    known = await self._hub.knows(user)
                    took_s = time.monotonic() - asked_at
                    if known is False:
                        _log.info("The hub does not know %r any more, so their tickets end", user)
                        await self._fenced(partial(forget_user, user=user))
                    await asyncio.sleep(min(_RESTS * took_s, _LONGEST_REST_S))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _USERS_S)

    async def _fenced(self, work: Callable[[Connection], int]) -> int:
        return await asyncio.to_thread(fenced, self._database, self._epoch, work)

    async def _pause(self, stop: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._woken.wait())]
        try:
            await asyncio.wait(waits, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        self._woken.clear()


async def follow(
    database: Engine, settings: Settings, catalogue: Catalogue, status: Status, epoch: int, stop: asyncio.Event
) -> None:
    """Promote until `stop` is set, for the controller that leads under this epoch; see `Promoter`."""
    desk = SqlDesk.of(settings, catalogue, database)
    try:
        token = await asyncio.to_thread(service_token, settings)
    except ConfigError as error:
        status.report(f"nobody is started from the queue: {error}", _log)
        await stop.wait()
        return
    postman = await _postman(settings, desk, database)
    hub = HubServers(hub_api_url(settings), token, slow_start_s=settings.servers.slow_start_s)
    try:
        ready = postman.ready if postman is not None else None
        await Promoter(database, epoch, desk.store, hub, status, ready=ready).run(stop)
    finally:
        if postman is not None:
            await postman.close()
        await hub.close()


async def _postman(settings: Settings, desk: SqlDesk, database: Engine) -> Postman | None:
    """Return what sends mail; None: nothing does, which keeps nobody from being started."""
    try:
        return await asyncio.to_thread(Postman.of, settings, database, desk.store.rules.titles)
    except ConfigError as error:
        _log.error("No mail is sent when servers are up: %s", error)
        return None


def refuse_what_is_gone(connection: Connection, catalogue: Catalogue, before: float) -> None:
    """End what waits for a profile or an accelerator that the catalogue has no more.

    Parameters
    ----------
    before
        Until when it was asked for: a service that was updated first may know more than this controller.
    """
    for one in tickets.waiting(connection):
        if one.changed_at >= before:
            continue
        if one.profile not in catalogue.profiles:
            refuse(connection, one, f"There is no profile {shown(one.profile)} any more. Ask for another one.")
        elif one.accelerator is not None and one.accelerator not in catalogue.accelerators:
            refuse(connection, one, f"There is no accelerator {shown(one.accelerator)} any more. Ask for another one.")


def promote_next(connection: Connection, store: Store, free_slots: int) -> list[Ticket]:
    """Reserve for those whose turn it is, as many as there are start slots; return their tickets, starting."""
    if free_slots <= 0:
        return []
    standing = store.standing(connection)
    known = standing.availability
    promoted: list[Ticket] = []
    for one in store.startable(standing):
        if len(promoted) == free_slots:
            break
        # Whoever is planned to start now may, beside all who start before: what is left to find are the devices.
        try:
            held = store.granted(limited(Asked.again(one, new_id()), standing), known)
        except Refusal as refusal:
            _log.info("The turn of %r/%r comes later: %s", one.user, one.server, refusal.log_message)
            continue
        if not tickets.promote(connection, one.id, held.id, seen_to_s=SEEN_TO_S):
            continue
        expires_in_s = store.rules.queue.reservation_s
        reservations.insert(connection, held, expires_in_s=expires_in_s, image=store.rules.image_of(held))
        known = replace(known, reservations=known.holds.plus(held))
        promoted += [found for found in [tickets.find(connection, one.id)] if found is not None]
    return promoted


def _look_at(connection: Connection) -> _Seen:
    table, held = ticket_table.c, held_table.c
    open_ones = select(table.id, table.state, table.changed_at).where(table.state != "ended")
    rows = list(connection.execute(open_ones))
    return _Seen(
        frozenset((row.id, row.changed_at) for row in rows if row.state == "waiting"),
        frozenset(row.id for row in rows if row.state == "starting"),
        frozenset(tuple(row) for row in connection.execute(select(held.id, held.seen, held.state))),
    )
