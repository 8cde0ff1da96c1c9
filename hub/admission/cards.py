"""What one accelerator has for those who wait: its timeline, and whether one node has it together. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import inf
from typing import Literal

from hub.admission.standing import Asked, Standing, Waiting
from hub.admission.timeline import Timeline
from profiles.model import Catalogue, Engine
from spawner.capacity.grant import placed_by_hand, room
from spawner.capacity.model import Count, DeviceState, Fit
from spawner.reservation import Reservation

__all__ = ["Cards", "cards_of"]

State = Literal["counted", "unlimited", "blind"]
"""`counted`: the timeline tells. `unlimited`: nothing of it is used up (no accelerator, an autoscaler, a kind that
cannot be counted). `blind`: the counts are not known now."""


class Cards(ABC):
    """One accelerator during one plan. Changes as tickets are planned.

    `free`: how many are free before anybody is planned. `closed`: all of it is kept for somebody in front. `unsure`:
    somebody in front has a start that nobody knows, so that what is planned behind may come later.
    """

    def __init__(self, key: str | None, state: State, timeline: Timeline) -> None:
        self.key = key
        self.state: State = state
        self.timeline = timeline
        self.free = timeline.now
        self.closed = False
        self.unsure = False
        self.in_front = 0

    @property
    def any_now(self) -> bool:
        """Whether anybody could start now."""
        return self.state != "counted" or (not self.closed and self.timeline.now > 0)

    @abstractmethod
    def fits(self, wanted: Waiting) -> bool:
        """Return whether one node has it now, with the cpu and memory beside it, after those that start before."""

    @abstractmethod
    def possible(self, wanted: Waiting) -> bool:
        """Return whether it could start if none of our sessions ran, as far as is known."""

    @abstractmethod
    def start(self, wanted: Waiting) -> None:
        """Note that this one starts now, and what it takes along."""

    def limitless(self, wanted: Waiting) -> bool:
        """Return whether this one is not held up by what is counted."""
        return self.state == "unlimited"


class _ClusterCards(Cards):
    def __init__(
        self, key: str | None, state: State, timeline: Timeline, standing: Standing, catalogue: Catalogue, narrow: bool
    ) -> None:
        super().__init__(key, state, timeline)
        self._availability = standing.availability
        self._catalogue = catalogue
        count = standing.availability.count(key) if state != "blind" else None
        self._count = count
        self._narrow = narrow and count is not None and not count.unknown and bool(count.fits_empty)
        self._room = room(self._availability, key) if self._narrow else ()
        self._by_hand: dict[str, bool] = {}

    def _placed_by_hand(self, wanted: Waiting) -> bool:
        if self._availability.by_hand or (isinstance(wanted, Asked) and wanted.by_hand):
            return True
        profile = wanted.profile
        found = self._by_hand.get(profile)
        if found is None:
            found = self._by_hand[profile] = placed_by_hand(self._catalogue.profiles.get(profile))
        return found

    def limitless(self, wanted: Waiting) -> bool:
        if self.state == "unlimited":
            return True
        held_back = self._count is not None and self._count.held_back > 0
        return self.state == "counted" and held_back and self._placed_by_hand(wanted)

    def fits(self, wanted: Waiting) -> bool:
        return self._has_room(wanted, self._room)

    def possible(self, wanted: Waiting) -> bool:
        if self._count is None:
            return True
        if self.state == "counted" and wanted.count > _most(self._count):
            return False
        return self._has_room(wanted, self._count.fits_empty)

    def _has_room(self, wanted: Waiting, fits: Iterable[Fit]) -> bool:
        if not self._narrow or self._placed_by_hand(wanted):
            return True
        cpu_m, memory = wanted.cpu_m or 0, wanted.memory or 0
        return any(fit.count >= wanted.count and fit.cpu_m >= cpu_m and fit.memory >= memory for fit in fits)

    def start(self, wanted: Waiting) -> None:
        if not self._narrow or self.key is None:
            return  # of sessions without accelerator the snapshot alone tells
        taken = Reservation(
            wanted.id, wanted.user, wanted.server, wanted.profile, self.key, wanted.count, wanted.cpu_m, wanted.memory
        )
        self._availability = replace(self._availability, reservations=self._availability.holds.plus(taken))
        self._room = room(self._availability, self.key)


class _LocalCards(Cards):
    """Devices of this machine: a session gets different ones, never two shares of one."""

    def __init__(self, key: str | None, state: State, timeline: Timeline, left: Mapping[str, int]) -> None:
        super().__init__(key, state, timeline)
        self._left = dict(left)

    def fits(self, wanted: Waiting) -> bool:
        return self.state != "counted" or sum(left > 0 for left in self._left.values()) >= wanted.count

    def possible(self, wanted: Waiting) -> bool:
        return self.state != "counted" or len(self._left) >= wanted.count

    def start(self, wanted: Waiting) -> None:
        if self.state == "counted":
            for uuid in sorted(self._left, key=lambda uuid: -self._left[uuid])[: wanted.count]:
                self._left[uuid] -= 1


def cards_of(
    key: str | None, standing: Standing, catalogue: Catalogue, engine: Engine, *, nodes_may_appear: bool
) -> Cards:
    """Return what this accelerator (None: none) has now and will have."""
    if engine == "local":
        return _here(key, standing)
    availability = standing.availability
    count = availability.count(key)
    nothing = Timeline(standing.now, 0)
    if not availability.fresh:
        return _ClusterCards(key, "blind", nothing, standing, catalogue, False)
    if key is None or nodes_may_appear or count is None or count.unknown:
        narrow = not nodes_may_appear
        return _ClusterCards(key, "unlimited", nothing, standing, catalogue, narrow)
    free = availability.free(key).free or 0
    timeline = Timeline(standing.now, free, _releases(standing, availability.of(key)), _most(count))
    return _ClusterCards(key, "counted", timeline, standing, catalogue, True)


def _most(count: Count) -> int:
    """What can ever be free as far as is known: not what others use, nor what is held back."""
    return count.total - count.used_by_others - count.held_back


def _releases(standing: Standing, held: Iterable[Reservation]) -> Iterator[tuple[float, int]]:
    for one in held:
        end = standing.ends_at(one)
        if end is not None:
            yield end, one.count


def _here(key: str | None, standing: Standing) -> Cards:
    availability = standing.availability
    if key is None:
        return _LocalCards(key, "unlimited", Timeline(standing.now, 0), {})
    count = availability.count(key)
    if availability.snapshot is None or not availability.fresh or count is None or count.unknown:
        return _LocalCards(key, "blind", Timeline(standing.now, 0), {})
    usable = {device.uuid: device for device in availability.snapshot.devices if _usable(device, key)}
    held = [one for one in availability.reservations if one.devices]
    load = Counter(uuid for one in held for uuid in one.devices)
    left = {uuid: max(0, device.replicas - load[uuid]) for uuid, device in usable.items()}
    releases = [
        (end, sum(uuid in usable for uuid in one.devices))
        for one in held
        if one.accelerator == key and (end := standing.ends_at(one)) is not None
    ]
    most = sum(device.replicas for device in usable.values()) if usable else inf
    return _LocalCards(key, "counted", Timeline(standing.now, sum(left.values()), releases, most), left)


def _usable(device: DeviceState, key: str) -> bool:
    return device.accelerator == key and not device.problem
