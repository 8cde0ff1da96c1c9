"""All that is held, found by id and by accelerator too: a decision looks at few of many. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from spawner.reservation import Reservation

__all__ = ["Holds"]


class Holds(tuple[Reservation, ...]):
    """Reservations in some order. Frozen."""

    @classmethod
    def known(
        cls, held: Iterable[Reservation], by_id: Mapping[str, Reservation], by_kind: Mapping[str, Sequence[Reservation]]
    ) -> Holds:
        """Return these, where it is known already how they are found; of `by_kind` "" stands for no accelerator."""
        found = cls(held)
        found.__dict__.update(by_id=by_id, by_kind=by_kind)
        return found

    def plus(self, one: Reservation) -> Holds:
        """Return these and one more."""
        kind = one.accelerator or ""
        by_kind = {**self.by_kind, kind: [*self.by_kind.get(kind, ()), one]}
        return Holds.known((*self, one), {**self.by_id, one.id: one}, by_kind)

    @cached_property
    def by_id(self) -> Mapping[str, Reservation]:
        """Each by its id."""
        return {one.id: one for one in self}

    @cached_property
    def by_kind(self) -> Mapping[str, Sequence[Reservation]]:
        """Those of each accelerator, in any order; "" stands for none."""
        found: defaultdict[str, list[Reservation]] = defaultdict(list)
        for one in self:
            found[one.accelerator or ""].append(one)
        return dict(found)
