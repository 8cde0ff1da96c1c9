"""What this machine allows, found out once: how sessions are kept apart, and which limits hold."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from spawner.processes import cgroups, isolation

__all__ = ["Machine", "detect"]


@dataclass(frozen=True)
class Machine:
    """The outcome of the probes."""

    isolation: isolation.Isolation
    cgroups: cgroups.Support = field(default_factory=cgroups.Support)

    def notices(self) -> list[str]:
        """Return the sentences that belong on the form."""
        return [*self.isolation.notices(), *self.cgroups.notices()]

    def device_notices(self) -> list[str]:
        """Return the sentences for a machine whose accelerators are handed out."""
        if self.cgroups.devices or self.isolation.kind == "namespace":  # a sandbox has only the devices put into it
            return []
        return [
            "Accelerators are advisory on this machine: a session is told which are its own, but nothing keeps it from "
            "the others."
        ]


@functools.lru_cache(maxsize=4)
def detect(asked: isolation.Asked = "auto") -> Machine:
    """Probe this machine, once; runs small programs (about 0.1 s), so call it before the event loop serves anybody.

    Raises
    ------
    IsolationError
        The separation that was asked for does not work here.
    """
    return Machine(isolation.detect(asked), cgroups.detect())
