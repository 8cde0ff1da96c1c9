"""What the service measures of itself and of what it reads, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hub.controller.status import Status
from hub.web.capacity import Reading
from hub.web.hub_access import HubAccess
from hub.web.live import Live

__all__ = ["CONTENT_TYPE", "Measures"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Measures:
    """The service's own figures; a registry for each app, so that there can be several in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter(
            "armillary_service_answers_total",
            "Answers given, by the path's pattern and the HTTP status.",
            ["method", "path", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "armillary_service_seconds",
            "Time until an answer began, by the path's pattern.",
            ["path"],
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=self.registry,
        )

    def watch(self, live: Live, hub: HubAccess, controller: Status | None) -> None:
        """Show these, too, whenever somebody asks."""
        live_pages = Gauge(
            "armillary_service_live_pages", "Pages that are kept up to date now.", registry=self.registry
        )
        live_pages.set_function(lambda: live.open)
        limit = Gauge("armillary_service_live_pages_limit", "How many there may be.", registry=self.registry)
        limit.set(live.limit)
        asked = Gauge(
            "armillary_service_hub_questions", "Requests made to the hub since the start.", registry=self.registry
        )
        asked.set_function(lambda: hub.asked)
        away = Gauge("armillary_service_hub_away", "Whether the hub did not answer last time.", registry=self.registry)
        away.set_function(lambda: float(hub.away))
        self.registry.register(_Capacity(live))
        if controller is not None:
            self.registry.register(_Controller(controller))

    def text(self) -> bytes:
        """Return everything: ours, and what other parts of this process and Python itself measure."""
        return generate_latest(self.registry) + generate_latest(REGISTRY)


class _Capacity(Collector):
    """The published counts, as this service reads them."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def collect(self) -> Iterator[Metric]:
        reading = self._live.reading
        fresh = GaugeMetricFamily(
            "armillary_capacity_fresh", "Whether the published counts may be taken for the truth."
        )
        fresh.add_metric([], float(reading is not None and reading.availability.fresh))
        yield fresh
        if reading is None:
            return
        if reading.availability.as_of is not None:
            age = GaugeMetricFamily("armillary_capacity_age_seconds", "Seconds since the counts were known to be true.")
            age.add_metric([], max(0.0, (datetime.now(UTC) - reading.availability.as_of).total_seconds()))
            yield age
        held = GaugeMetricFamily("armillary_reservations", "Starts and sessions that hold something.")
        held.add_metric([], len(reading.availability.reservations))
        yield held
        yield _accelerators(reading)


def _accelerators(reading: Reading) -> Metric:
    found = GaugeMetricFamily(
        "armillary_accelerators",
        "Accelerators by what they do: free (only while that is known), used by us or by others, held back.",
        labels=["accelerator", "state"],
    )
    snapshot = reading.availability.snapshot
    for key, count in snapshot.accelerators.items() if snapshot is not None else ():
        if count.unknown:
            continue
        free = reading.availability.free(key).free
        states: Iterable[tuple[str, int]] = (
            ("total", count.total),
            ("used_by_us", count.used_by_us),
            ("used_by_others", count.used_by_others),
            ("held_back", count.held_back),
            *((("free", free),) if free is not None else ()),
        )
        for state, number in states:
            found.add_metric([key, state], number)
    return found


class _Controller(Collector):
    """The controller that shares this process."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        leading = GaugeMetricFamily("armillary_controller_leading", "Whether this controller is the one that acts.")
        leading.add_metric([], float(self._status.leading))
        yield leading
        age_s = self._status.publish_age_s
        if age_s is not None:
            age = GaugeMetricFamily(
                "armillary_controller_publish_age_seconds", "Seconds since this controller published counts."
            )
            age.add_metric([], age_s)
            yield age
        blind = GaugeMetricFamily(
            "armillary_controller_blind", "Whether the source of the counts cannot be seen by this controller."
        )
        blind.add_metric([], float(bool(self._status.blind_because)))
        yield blind
