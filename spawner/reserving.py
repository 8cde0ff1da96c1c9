"""Holding what a start needs before anything is made, and giving it back: what the engines ask of the hub's desk."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from jupyterhub.spawner import Spawner
from jupyterhub.utils import maybe_future
from traitlets import Instance

from profiles.access import Person
from spawner.capacity.availability import Availability
from spawner.ids import new_id
from spawner.log_facts import REQUEST_HEADER, note, request_id
from spawner.protocols import CapacityDesk, QueueDesk
from spawner.refusal import Refusal
from spawner.request import Request
from spawner.reservation import Reservation

__all__ = ["Reserving"]

_SAID_WITHIN_S = 5.0
"""How long a stop waits until it is written down that its start is not wanted; the database answers in some ms."""

_CLEARED: set[asyncio.Task[str | None]] = set()
"""Held, since asyncio itself does not keep its tasks."""


class Reserving(Spawner):  # type: ignore[misc]  # JupyterHub is untyped
    """A spawner that asks before it takes; without a desk nothing is counted, and the engine alone decides."""

    desk = Instance(  # type: ignore[call-overload]  # a Protocol that can be checked at run time is a class too
        CapacityDesk,
        allow_none=True,
        config=True,
        help="""
        What tells which accelerators are free, and hands them out so that none is promised twice.

        Default: none: the form shows no counts, a start that finds no room waits in the cluster, and the local
        engine hands out no accelerators. `hub.config` sets one that keeps reservations in Armillary's database.
        Example: `c.RequestSpawner.desk = SqlDesk(connect("sqlite:///armillary.sqlite"), …)`
        """,
    )

    spawn_id: str | None = None
    """Identity of the present start: in the reservation, and in the pod or the launch record. What the queue has
    reserved brings its own."""

    _decided_late: asyncio.Task[str | None] | None = None
    """What becomes of a start that was stopped while it was still being decided about."""

    reservation: Reservation | None = None
    """What is held for the present start; None where nothing was asked for, or after a restart of the hub."""

    @property
    def person(self) -> Person:
        """Whose server this is, as the catalogue's rules see them."""
        return Person(
            name=self.user.name, groups=frozenset(group.name for group in self.user.groups), admin=bool(self.user.admin)
        )

    @staticmethod
    def new_spawn_id() -> str:
        """Return a name for one start that no other start ever had."""
        return new_id()

    def note_facts(self) -> None:
        """Note for the log what the rest of this task is about."""
        headers = self.handler.request.headers if self.handler is not None else {}
        note(user=self.user.name, server=self.name, request=request_id(headers.get(REQUEST_HEADER)))

    async def availability(self) -> Availability | None:
        """Return what is free now; None where nobody counts."""
        return await self.desk.availability() if self.desk is not None else None

    async def reserve(
        self, request: Request, *, cpu: Any = None, memory: int | None = None, expires_in_s: float
    ) -> Reservation | None:
        """Hold what this request needs under `spawn_id`, which must be set; to be called before anything is made.

        Afterwards `spawn_id` is that of the reservation: another one, where the queue has reserved already.

        Parameters
        ----------
        cpu, memory
            What the session occupies, in cores and bytes; None where it is not known.
        expires_in_s
            After this many seconds a reservation that no server was seen for is given back by the controller.

        Raises
        ------
        spawner.refusal.Refusal
            It is not to be had.
        """
        if self.spawn_id is None:
            raise ValueError("a reservation needs the identity of its start")
        self.__dict__.pop("_stop_future", None)  # that of an earlier start; see `ready`
        if self.desk is None:
            return None
        wanted = Reservation(
            id=self.spawn_id,
            user=self.user.name,
            server=self.name,
            profile=request.profile,
            accelerator=request.accelerator,
            count=request.count,
            cpu_m=math.ceil(float(cpu) * 1000) if cpu else None,
            memory=int(memory) if memory else None,
            account=request.account or "",
            options=request.options(),
            by_hand=bool(getattr(self, "placed_by_hand", False)),
        )
        asked = asyncio.ensure_future(self.desk.reserve(wanted, expires_in_s=expires_in_s, person=self.person))
        try:
            held: Reservation = await asyncio.shield(asked)
        except asyncio.CancelledError:
            # Whoever stops a start that is still being decided about: what is decided all the same is held by nobody.
            self._decided_late = cleared = asyncio.ensure_future(self._give_back_when_decided(asked))
            _CLEARED.add(cleared)
            cleared.add_done_callback(_CLEARED.discard)
            raise
        self.reservation, self.spawn_id = held, held.id
        note(spawn=held.id)
        return held

    async def _give_back_when_decided(self, asked: asyncio.Future[Reservation]) -> str | None:
        try:
            held = await asked
        except Exception as error:  # noqa: BLE001  # nobody is left to be told
            if not isinstance(error, Refusal | OSError):
                self.log.warning(
                    "%s: the decision about a start that was stopped failed", self._log_name, exc_info=error
                )
            return None  # nothing was granted
        await self.release(held.id)
        return held.id

    async def release(self, spawn_id: str | None = None) -> None:
        """Give back what a start held, by default the present one; to be called when nothing of it runs any more.

        Never fails: what cannot be given back now, the controller gives back when it sees that nothing runs.
        """
        given_back = spawn_id or self.spawn_id
        if given_back == self.spawn_id:
            self.reservation = None
        if self.desk is None or given_back is None:
            return
        try:
            await self.desk.release(given_back)
        except OSError as error:
            self.log.warning("%s: its reservation is given back later: %s", self._log_name, error)

    @property
    def ready(self) -> bool:
        """Whether the server is up.

        JupyterHub says so too of a start that was cancelled a moment ago, until it begins to stop it a second later
        (apihandlers/users.py, delete): whoever follows the start would take it for a success. Once a stop was tried,
        also in vain, it is for JupyterHub again to say: what it does not call ready it never stops.

        Else as JupyterHub has it, but its record is asked once: each start counts all servers of the hub, twice each.
        """
        if self.pending or (self._start_pending and "_stop_future" not in self.__dict__):
            return False
        record = self.orm_spawner
        return (record.server if record else self.server) is not None

    async def say_unwanted(self) -> None:
        """Tell whoever waited for this start if it is being stopped at somebody's wish, perhaps before it was up.

        Only a stop at somebody's wish is one of JupyterHub's `stop_single_user`. A start that fails, one that a
        restarted hub finds broken off, and a server that has died are tidied up without.
        """
        if getattr(self, "_stop_future", None) is None or not isinstance(self.desk, QueueDesk):
            return
        try:
            async with asyncio.timeout(_SAID_WITHIN_S):  # what runs shall end whatever becomes of this
                late = None if self._decided_late is None else await asyncio.shield(self._decided_late)
                for spawn_id in {self.spawn_id, late} - {None}:
                    await self.desk.unwanted(str(spawn_id))
        except OSError as error:
            self.log.warning("%s: its start may be asked for again: %s", self._log_name, error)

    async def run_post_stop_hook(self) -> None:
        """See to it that a start which was stopped before anything ran is not asked for again, and hand on."""
        await self.say_unwanted()
        await maybe_future(super().run_post_stop_hook())

    # --- JupyterHub asks every subclass of Spawner for these three; the engines have them, this only hands on ------

    async def start(self) -> Any:
        """Hand on to the next class in line; an engine's own start() begins with `decide`."""
        return await maybe_future(super().start())

    async def stop(self, now: bool = False) -> None:
        """Hand on to the next class in line."""
        await maybe_future(super().stop(now=now))

    async def poll(self) -> int | None:
        """Hand on to the next class in line."""
        status: int | None = await maybe_future(super().poll())
        return status
