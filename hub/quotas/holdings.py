"""What somebody, or all who charge an account, hold at the moment; and what a request would add to it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Protocol

from hub.quotas.amounts import exact_share
from hub.quotas.model import Field, parts

__all__ = ["Held", "Holdings"]


class Held(Protocol):
    """One server that runs or is wanted; a reservation, a ticket and a request look like this."""

    @property
    def accelerator(self) -> str | None:
        """Key of the accelerator; None or empty: none."""

    @property
    def count(self) -> int:
        """How many of it."""

    @property
    def cpu_m(self) -> int | None:
        """Thousandths of a core; None: the profile does not say, and nothing is counted."""

    @property
    def memory(self) -> int | None:
        """Bytes; None: as above."""

    @property
    def share(self) -> float | Decimal:
        """Of whole cards, all of the count together."""


@dataclass(frozen=True)
class Holdings:
    """How much of everything that can be limited at once.

    `share` in whole cards, `by_kind` pieces by accelerator, `cpu_m` in thousandths of a core, `memory` in bytes,
    `queued` tickets, `jobs` remote jobs.
    """

    servers: int = 0
    share: Decimal = Decimal(0)
    by_kind: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    cpu_m: int = 0
    memory: int = 0
    queued: int = 0
    jobs: int = 0

    @classmethod
    def of(cls, held: Iterable[Held], *, queued: int = 0, jobs: int = 0) -> Holdings:
        """Return what these servers come to, beside so many tickets and jobs."""
        servers, share, cpu_m, memory = 0, Decimal(0), 0, 0
        kinds: Counter[str] = Counter()
        for one in held:
            servers += 1
            share += exact_share(one.share)
            cpu_m += one.cpu_m or 0
            memory += one.memory or 0
            if one.accelerator and one.count:
                kinds[one.accelerator] += one.count
        return cls(servers, share, MappingProxyType(dict(kinds)), cpu_m, memory, queued, jobs)

    def __add__(self, other: Holdings) -> Holdings:
        """Return both together."""
        kinds = Counter(self.by_kind)
        kinds.update(other.by_kind)
        return Holdings(
            self.servers + other.servers,
            self.share + other.share,
            MappingProxyType(dict(kinds)),
            self.cpu_m + other.cpu_m,
            self.memory + other.memory,
            self.queued + other.queued,
            self.jobs + other.jobs,
        )

    def amount(self, limit: Field) -> Decimal:
        """Return how much there is of what this field limits, in its unit; of hours and session length there is none
        at one moment: 0."""
        found = parts(limit)
        match found.head:
            case "servers":
                return Decimal(self.servers)
            case "accelerators" if found.kind is None:
                return self.share
            case "accelerators":
                return Decimal(self.by_kind.get(found.kind or "", 0))
            case "cpu":
                return Decimal(self.cpu_m).scaleb(-3)
            case "memory":
                return Decimal(self.memory)
            case "queued":
                return Decimal(self.queued)
            case "jobs":
                return Decimal(self.jobs)
            case _:
                return Decimal(0)
