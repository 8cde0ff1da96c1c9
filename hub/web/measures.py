"""What the service measures of itself and of what it reads, for Prometheus."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hub.controller.metrics import StatusMetrics
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

    def watch(self, live: Live, hub: HubAccess, controller: Status | None, homes: Path | None = None) -> None:
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
            self.registry.register(StatusMetrics(controller))
        if homes is not None:
            self.registry.register(_Homes(homes))

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
        yield _largest(reading)


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


def _largest(reading: Reading) -> Metric:
    found = GaugeMetricFamily(
        "armillary_accelerators_largest",
        "How many of one accelerator a single session could have now, on one node; only while that is known.",
        labels=["accelerator"],
    )
    snapshot = reading.availability.snapshot
    for key, count in snapshot.accelerators.items() if snapshot is not None else ():
        free = reading.availability.free(key).free
        if free is not None:
            found.add_metric([key], min(free, max((fit.count for fit in count.fits_now), default=0)))
    return found


class _Homes(Collector):
    """The file system of the homes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        try:
            room = shutil.disk_usage(self._folder)
        except OSError:  # nobody has a home yet
            return
        found = GaugeMetricFamily(
            "armillary_homes_bytes", "Room for homes on this machine, local engine: `free`, `total`.", labels=["state"]
        )
        found.add_metric(["free"], room.free)
        found.add_metric(["total"], room.total)
        yield found
