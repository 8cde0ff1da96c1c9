"""The way from the click to the page, in stages; every moment is counted from the click, in seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

__all__ = ["MOMENTS", "STAGES", "Marks"]

MOMENTS = ("pod_created", "scheduled", "container_started", "server_answers", "route", "ready", "page")
"""What is noted, in the order in which it happens."""

STAGES: dict[str, str] = {
    "pod_created": "request: the form is sent, until Kubernetes has the pod",
    "scheduled": "pod created, until it has a node",
    "container_started": "scheduled, until Kubernetes says that its container runs",
    "server_answers": "container runs, until the server answers HTTP",
    "route": "server answers, until the proxy's rules have the route",
    "ready": "route, until the page is told that it is ready",
    "page": "told, until JupyterLab's page is there",
}
"""The stage that ends with each moment."""


@dataclass
class Marks:
    """When each moment of one start came, on this process's own clock (Kubernetes' times have whole seconds only)."""

    clicked: float = field(default_factory=time.monotonic)
    at: dict[str, float] = field(default_factory=dict)

    def note(self, moment: str) -> None:
        """Note that this happened now; only the first time counts."""
        self.at.setdefault(moment, round(time.monotonic() - self.clicked, 4))

    def stages(self) -> dict[str, float]:
        """Return how long each stage took; together they are the whole way.

        A moment that is seen before the one that must have come first (a watch and a file are not looked at in
        the same instant) is moved to it, so that no stage is negative.
        """
        lasted, before = {}, 0.0
        for moment in MOMENTS:
            now = max(before, self.at[moment])
            lasted[moment] = round(now - before, 4)
            before = now
        return lasted
