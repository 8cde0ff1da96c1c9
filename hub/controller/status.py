"""What a controller says of itself: for health checks and metrics. Values only."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hub.usage.ledger import Ran

if TYPE_CHECKING:  # a machine without Kubernetes need not load its client
    from hub.reconcile.cluster import ClusterSeen

__all__ = ["Status"]


@dataclass
class Status:
    """The state of one controller; changed by it, read by whoever shares its process.

    Parameters
    ----------
    lease_s
        How long a lease that is not renewed is still believed to be held.
    """

    lease_s: float
    epoch: int | None = None
    """That of the lease while it is held, or was when the database was last reached."""
    renewed_at: float | None = None
    """When the lease was last renewed, on this process' monotonic clock."""
    published_at: float | None = None
    """When counts were last published, on the same clock."""
    blind_because: str = ""
    """Why the source of the counts cannot be seen now; empty: it can, or nobody looks because another leads."""
    problem: str = ""
    """What went wrong last and is not mended yet, in words for an operator."""
    pods: Mapping[str, str] = field(default_factory=dict)
    """Names of the pods of sessions by spawn id, as the counting loop sees them; replaced as a whole."""
    running: Mapping[str, Ran] | None = None
    """The sessions that run by spawn id, as they were published; None: that cannot be seen. Replaced as a whole."""

    cluster: ClusterSeen | None = None
    """What is seen of pods and claims, whether or not anything is held for them; None: nothing, or no cluster."""

    @property
    def leading(self) -> bool:
        """Whether this one acts; a leader that could not renew its lease in time does not count as one."""
        return self.epoch is not None and self.renewed_at is not None and self._age(self.renewed_at) < self.lease_s

    @property
    def publish_age_s(self) -> float | None:
        """Seconds since counts were last published by this controller; None: never."""
        return None if self.published_at is None else self._age(self.published_at)

    def renewed(self, epoch: int) -> None:
        """Note that the lease is held."""
        self.epoch, self.renewed_at = epoch, time.monotonic()

    def published(self) -> None:
        """Note that counts were published."""
        self.published_at = time.monotonic()
        self.mended()

    def blinded(self, why: str, log: logging.Logger) -> None:
        """Note whether the source of the counts can be seen; logged when that changes."""
        if why and not self.blind_because:
            log.warning("Nothing is counted as free until the cluster is seen again: %s", why)
        elif self.blind_because and not why:
            log.info("The cluster is seen again")
        self.blind_because = why

    def report(self, problem: str, log: logging.Logger) -> None:
        """Note what is wrong; logged when it is new, not each time it is tried in vain."""
        if problem != self.problem:
            log.warning("%s; it is tried again", problem[:1].upper() + problem[1:])
        self.problem = problem

    def mended(self) -> None:
        """Note that nothing is wrong any more."""
        self.problem = ""

    def lost(self) -> None:
        """Note that another leads, or nobody."""
        self.epoch = self.renewed_at = None
        self.blind_because = ""
        self.running = None
        self.cluster = None

    @staticmethod
    def _age(moment: float) -> float:
        return time.monotonic() - moment
