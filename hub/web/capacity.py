"""What a person is told of the counts: the JSON of `/api/capacity`, and of each event about it.

Made for many people at once: everything that is the same for all is made once for each change of the counts.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import BaseModel, Field

from profiles.access import Person
from profiles.model import NO_ACCELERATOR, Catalogue, Engine
from profiles.offers import offers
from spawner.capacity.availability import Availability
from spawner.capacity.shown import shown
from spawner.form import visible

__all__ = ["AcceleratorCounts", "Beat", "Capacity", "FitSize", "Reading", "Told", "titles_for"]


class FitSize(BaseModel):
    """What one node, or this machine, takes at once."""

    count: int = Field(description="Accelerators.")
    cpu_m: int = Field(description="CPU in thousandths of a core.")
    memory: int = Field(description="Memory in bytes.")


class AcceleratorCounts(BaseModel):
    """How many of one accelerator there are, and who has them."""

    title: str = Field(description="What it is called on the pages.")
    free: int | None = Field(description="How many can be had now; null wherever that is not known.")
    total: int = Field(description="How many there are.")
    mine: int = Field(description="How many of them you have.")
    others: int = Field(description="How many of them others have.")
    held_back: int = Field(description="How many exist but cannot be had now.")
    held_because: list[tuple[str, int]] = Field(description="Why not, and how many of them.")
    why: str = Field(description="Why `free` is not known, in words; empty where it is.")
    simulated: bool = Field(description="Whether it is pretended, for rehearsals.")
    fits_now: list[FitSize] = Field(description="The largest requests that fit somewhere now; none where unknown.")
    fits_empty: list[FitSize] = Field(description="The largest requests that would fit if nothing ran.")


class Capacity(BaseModel):
    """What is free, for the person who asks."""

    engine: Engine = Field(description="What runs sessions here.")
    fresh: bool = Field(description="Whether the counts may be taken for the truth; else every `free` is null.")
    as_of: str | None = Field(description="When they were last known to be true, in UTC; null: never.")
    sequence: int | None = Field(description="Grows whenever counts are published; null while nobody can tell.")
    accelerators: dict[str, AcceleratorCounts] = Field(
        description=f"By key of the catalogue; `{NO_ACCELERATOR}` is sessions without one: only its fits mean anything."
    )


class Beat(BaseModel):
    """Sent when nothing has changed for a while."""

    as_of: str | None = Field(description="As in Capacity.")
    sequence: int | None = Field(description="As in Capacity.")


def titles_for(person: Person, catalogue: Catalogue, engine: Engine, *, hide_not_allowed: bool) -> dict[str, str]:
    """Return the accelerators that the person's form shows, by key, with their titles; and `none`."""
    found = {NO_ACCELERATOR: "None"}
    for profile in visible(offers(catalogue, person, engine), hide_not_allowed=hide_not_allowed):
        for option in profile.options:
            if option.key == "accelerator":
                found.update({offer.key: offer.title for offer in option.offers})
    return found


class Told(NamedTuple):
    """What somebody is told: in full, and without when it was true, to see whether they have to be told again."""

    full: str
    counts: str


@dataclass(frozen=True)
class Reading:
    """The counts at one moment, for everybody."""

    availability: Availability
    sequence: int | None
    engine: Engine

    def same_counts(self, other: Reading | None) -> bool:
        """Whether everybody is told the same by both, but for when."""
        return other is not None and (
            self.availability.fresh == other.availability.fresh
            and self.availability.reservations == other.availability.reservations
            and self._counts == other._counts
        )

    @property
    def _counts(self) -> object:
        snapshot = self.availability.snapshot
        return snapshot and (snapshot.accelerators, snapshot.devices)

    def stale(self) -> Reading:
        """Return the same as what nobody may take for the truth any more."""
        return Reading(replace(self.availability, fresh=False), None, self.engine)

    def beat(self) -> dict[str, Any]:
        """Return when the counts were last known to be true."""
        return {"as_of": self._all({})["as_of"], "sequence": self.sequence}

    def of(self, user: str, titles: Mapping[str, str]) -> dict[str, Any]:
        """Return what this person is told; the same as `spawner.capacity.shown.shown`, in less time."""
        mine = self._held.get(user, {})
        everything = self._everything
        accelerators = {}
        for key, title in titles.items():
            counts = everything[key] if key in everything else self._all({key: title})["accelerators"][key]
            own = self.availability.mine(key, *mine.get(key, (0, 0)))
            accelerators[key] = {**counts, "title": title, "mine": own, "others": max(0, counts["others"] - own)}
        return {**self._all({}), "engine": self.engine, "sequence": self.sequence, "accelerators": accelerators}

    def text(self, user: str, titles: Mapping[str, str]) -> Told:
        """Return the same as JSON; made once for all who see the same."""
        key = (tuple(sorted(self._held.get(user, {}).items())), tuple(titles.items()))
        found = self._texts.get(key)
        if found is None:
            said = self.of(user, titles)
            found = self._texts[key] = Told(json.dumps(said), json.dumps([said["fresh"], said["accelerators"]]))
        return found

    def _all(self, titles: Mapping[str, str]) -> dict[str, Any]:
        # Nobody has the empty name, so that everything that is used counts as others'.
        return shown(self.availability, "", titles)

    @cached_property
    def _texts(self) -> dict[object, Told]:
        return {}

    @cached_property
    def _everything(self) -> dict[str, dict[str, Any]]:
        snapshot = self.availability.snapshot
        keys = snapshot.accelerators if snapshot is not None else ()
        found: dict[str, dict[str, Any]] = self._all(dict.fromkeys(keys, ""))["accelerators"]
        return found

    @cached_property
    def _held(self) -> Mapping[str, Mapping[str, tuple[int, int]]]:
        """How many of each accelerator are granted to each person, which the snapshot shows and does not show yet."""
        found: defaultdict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
        for held in self.availability.reservations:
            if held.accelerator is not None:
                seen, unseen = found[held.user].get(held.accelerator, (0, 0))
                more = (held.count, 0) if held.seen else (0, held.count)
                found[held.user][held.accelerator] = (seen + more[0], unseen + more[1])
        return found
