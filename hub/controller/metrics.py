"""What the controller measures of itself, for Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hub.controller.status import Status
from hub.metrics import LOOP_LAG

__all__ = ["StatusMetrics", "watch_loop_lag"]

_BEAT_S = 0.25


class StatusMetrics(Collector):
    """The state of one controller, read when it is asked for; for a process that is nothing but a controller.

    The service shows the same of the one that shares its process.
    """

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        status = self._status
        for name, text, value in (
            ("leading", "Whether this controller is the one that acts.", status.leading),
            ("blind", "Whether the source of the counts cannot be seen by this controller.", status.blind_because),
            ("publish_age_seconds", "Seconds since this controller published counts.", status.publish_age_s),
        ):
            if value is not None:
                number = value if isinstance(value, float) else float(bool(value))
                yield GaugeMetricFamily(f"armillary_controller_{name}", text, value=number)


async def watch_loop_lag(stop: asyncio.Event) -> None:
    """Measure the event loop until `stop` is set."""
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        due = loop.time() + _BEAT_S
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _BEAT_S)
            return
        LOOP_LAG.observe(max(0.0, loop.time() - due))
