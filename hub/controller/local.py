"""The controller's work on one machine: look at its devices, publish what is free, give back what ended sessions held.

What runs is told by the launch records and the kernel, so it makes no difference whether a hub lives: what a session
of a killed hub held is given back when its last process is gone, and kept until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from hub.controller.loop import DATABASE_AWAY, Publisher
from hub.settings import Settings
from hub.usage.ledger import Ran
from profiles.model import Catalogue
from spawner.capacity.model import DeviceState, Snapshot
from spawner.devices.count import Room, snapshot
from spawner.devices.inventory import busy, inventory, looks_at_cards, unmatched
from spawner.devices.nvml import NvmlAway, Seen
from spawner.devices.reader import Reader, this_machine
from spawner.devices.room import room
from spawner.processes.holders import holders
from spawner.reservation import Reservation

__all__ = ["Ours", "Outcome", "Watch", "run"]

_log = logging.getLogger(__name__)

_LOOK_S = 0.5
"""How often reservations and launch records are read: how long a change takes to be seen, at most."""

_PUBLISH_S = 3.0
"""How often counts are published although nothing changed, so that they do not look stale."""

_DEVICES_S = 5.0
"""How often the cards are looked at: how long a failure takes to be seen, at most."""

_LASTING_S = 3.0
"""How long nothing of a start runs before what it held is given back: one that lost its port to another program ends
its process and begins again under the same id, which takes less."""


@dataclass(frozen=True)
class Devices:
    """What the last look at the cards gave; `unknown` says why they cannot be seen."""

    states: tuple[DeviceState, ...] = ()
    busy: frozenset[str] = frozenset()
    unknown: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one look at reservations and processes means.

    `counted` have processes, or had some just now. Of what is `gone` nothing is left. `stray` are devices that a
    session holds without a reservation.
    """

    counted: tuple[Reservation, ...] = ()
    gone: frozenset[str] = frozenset()
    stray: frozenset[str] = frozenset()


@dataclass
class Watch:
    """Decides what is counted and what is given back; remembers since when it is so. No I/O.

    Parameters
    ----------
    clock
        Seconds that only ever grow.
    """

    clock: Callable[[], float] = time.monotonic
    _since: dict[str, float] = field(default_factory=dict)

    def look(self, running: Mapping[str, tuple[str, ...]], held: Sequence[Reservation]) -> Outcome:
        """Decide about every reservation.

        One that has processes is counted. One that had some, as was published, and has none for a while is given
        back. One that never had any is left to its expiry: its start may be about to begin.

        Parameters
        ----------
        running
            Spawn ids that have processes, with their devices; read before `held`, so that a start in between is not
            taken for one without a reservation.
        """
        known = {one.id for one in held}
        idle = {one.id for one in held if one.seen and one.id not in running}
        now = self.clock()
        self._since = {spawn_id: self._since.get(spawn_id, now) for spawn_id in idle}
        lasting = {spawn_id for spawn_id, since in self._since.items() if now - since >= _LASTING_S}
        return Outcome(
            counted=tuple(one for one in held if one.id in running or one.id in idle - lasting),
            gone=frozenset(idle & lasting),
            stray=frozenset(uuid for spawn_id in set(running) - known for uuid in running[spawn_id]),
        )


@dataclass
class Ours:
    """Remembers which devices sessions had since the cards were looked at. No I/O.

    What computes on a card is seen every few seconds only, and reservations are given back at once: a card that was
    busy while a session had it is not somebody else's when the session lets go.
    """

    since_look: set[str] = field(default_factory=set)
    """Had by a session since the last complete look began."""
    _now: frozenset[str] = frozenset()
    _since_begin: set[str] = field(default_factory=set)

    def hold(self, uuids: Iterable[str]) -> None:
        """Note what sessions have now."""
        self._now = frozenset(uuids)
        self.since_look |= self._now
        self._since_begin |= self._now

    def look_begins(self) -> None:
        """Note that the cards are asked from now on."""
        self._since_begin = set(self._now)

    def look_ended(self) -> None:
        """Note that the answers have come, and are used from now on."""
        self.since_look = set(self._since_begin)


async def run(
    settings: Settings,
    catalogue: Catalogue,
    publisher: Publisher,
    stop: asyncio.Event,
    *,
    reader: Reader | None = None,
) -> None:
    """Publish on change and at least every 3 s, until `stop` is set.

    Parameters
    ----------
    reader
        The way to the cards; default: that of this process. It is used only where the catalogue names real ones.

    Raises
    ------
    StaleEpoch
        Another controller leads.
    """
    cards = _Cards(catalogue, (reader or this_machine()) if looks_at_cards(catalogue) else None, publisher)
    tasks = [
        asyncio.create_task(cards.watch(stop), name="armillary-devices"),
        asyncio.create_task(_publish(settings, cards, publisher, stop), name="armillary-local-counts"),
    ]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Cards:
    """Looks at the cards every few seconds, beside everything else: a driver that is slow holds nothing up."""

    def __init__(self, catalogue: Catalogue, reader: Reader | None, publisher: Publisher) -> None:
        self.catalogue = catalogue
        self.reader = reader
        self.publisher = publisher
        self.devices = Devices(inventory(catalogue, None))
        self.ours = Ours()
        self.seen = asyncio.Event()
        self._said: tuple[str, ...] = ()

    async def watch(self, stop: asyncio.Event) -> None:
        """Keep `devices` up to date until `stop` is set; imagined ones never change."""
        while self.reader is not None and not stop.is_set():
            self.ours.look_begins()
            self.devices = await self._look(self.reader)
            self.ours.look_ended()
            self.seen.set()
            await _pause(stop, _DEVICES_S)
        self.seen.set()

    async def _look(self, reader: Reader) -> Devices:
        try:
            found: Seen = await asyncio.to_thread(reader.look)
        except NvmlAway as error:
            self.publisher.status.blind_because = str(error)
            self._say((str(error),))
            return Devices(inventory(self.catalogue, None), unknown=error.why)
        self.publisher.status.blind_because = ""
        states = inventory(self.catalogue, found)
        broken = (f"{state.uuid} is not handed out: {state.problem}" for state in states if state.problem)
        self._say((*unmatched(self.catalogue, found), *broken))
        return Devices(states, busy(found))

    def _say(self, sentences: tuple[str, ...]) -> None:
        for sentence in sentences:
            if sentence not in self._said:  # when it is new, not at each look
                _log.warning("%s", sentence)
        self._said = sentences


async def _publish(settings: Settings, cards: _Cards, publisher: Publisher, stop: asyncio.Event) -> None:
    watch = Watch()
    machine = socket.gethostname()
    here = await asyncio.to_thread(room)
    last: Snapshot | None = None
    last_at = 0.0
    await cards.seen.wait()
    while not stop.is_set():
        try:
            running = await asyncio.to_thread(holders, settings.paths.launches)
            held = await publisher.reservations()
            cards.ours.hold(uuid for devices in (*running.values(), *(one.devices for one in held)) for uuid in devices)
            outcome = watch.look(running, held)
            made = _snapshot(cards, outcome, here)
            due = last is None or time.monotonic() - last_at >= _PUBLISH_S
            changed = last is None or replace(made, taken_at=last.taken_at) != last
            unseen = any(not one.seen for one in outcome.counted)
            if due or changed or unseen or outcome.gone:
                seen = {one.id: Ran(node=machine) for one in outcome.counted}
                await publisher.publish(made, seen=seen, gone=outcome.gone, ran=seen)
                last, last_at = made, time.monotonic()
        except DATABASE_AWAY as error:
            publisher.failed(error)
        await _pause(stop, _LOOK_S)


def _snapshot(cards: _Cards, outcome: Outcome, here: Room) -> Snapshot:
    return snapshot(
        cards.catalogue,
        cards.devices.states,
        outcome.counted,
        here,
        datetime.now(UTC),
        busy=cards.devices.busy - cards.ours.since_look,
        stray=outcome.stray,
        unknown=cards.devices.unknown,
    )


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
