"""The one list of what hub, service and controller measure, for Prometheus.

Whatever is counted for several of them is made here, under one name with one text; what only a running service can
show is described in `SERVICE`, and made by `hub.web.measures`. No label has a value that people can choose: no user,
no server, no ticket. Accelerators are those of the catalogue, codes those of the reference of refusals.

The hub shows its own at `/hub/metrics`, the service at `/services/armillary/metrics`, a controller of its own where
`--metrics-port` says. What is read from the database (`Figures`) is shown by the controller that leads, and by nobody
else, so that sums over processes are right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from spawner import metrics as engines

__all__ = [
    "APPLIED",
    "BUDGETS",
    "CHARGED",
    "DECISIONS",
    "DECISION_SECONDS",
    "FIGURES",
    "FINDINGS",
    "HEARTBEATS",
    "HEARTBEAT_SECONDS",
    "LOGINS",
    "LOGIN_CHECKS",
    "LOOP_LAG",
    "MAILS",
    "PROMOTIONS",
    "PUBLICATIONS",
    "QUEUE_STARTS",
    "QUEUE_WAIT",
    "READ",
    "REPAIRS",
    "SERVICE",
    "STOPS",
    "Described",
    "Figures",
    "table",
]

_MINUTE, _HOUR = 60.0, 3600.0

# --- decisions and the queue -----------------------------------------------------------------------------------------

DECISIONS = Counter(
    "armillary_decisions_total",
    "Requests that were decided: `admitted`, `queued` or `refused`, with the code of the refusal; by the door, `hub` "
    "or `service`.",
    ["door", "answer", "code"],
)
DECISION_SECONDS = Histogram(
    "armillary_decision_seconds",
    "How long a decision took, its transaction and the wait for other writers included.",
    ["door"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
PROMOTIONS = Counter("armillary_promotions_total", "Tickets whose turn came, and for which was reserved.")
QUEUE_WAIT = Histogram(
    "armillary_queue_wait_seconds",
    "How long somebody had waited in the queue when their turn came.",
    buckets=(1, 10, _MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 4 * _HOUR, 12 * _HOUR, 24 * _HOUR, 72 * _HOUR),
)
QUEUE_STARTS = Counter(
    "armillary_queue_starts_total",
    "Starts from the queue that have ended: `ready`, `failed`, `refused`, `lapsed` (the login), `gone` (the person), "
    "`away` (the hub).",
    ["outcome"],
)
MAILS = Counter(
    "armillary_mails_total", "Notices by e-mail: `sent`, `failed`, or `no-address` where none is known.", ["outcome"]
)

# --- ledger and sessions ---------------------------------------------------------------------------------------------

HEARTBEATS = Counter(
    "armillary_ledger_heartbeats_total", "Heartbeats of the ledger that were written, or could not be.", ["outcome"]
)
HEARTBEAT_SECONDS = Histogram(
    "armillary_ledger_heartbeat_seconds",
    "How long a heartbeat of the ledger took to be written.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
CHARGED = Gauge("armillary_ledger_sessions", "Sessions that the last heartbeat of the ledger charged.")
STOPS = Counter("armillary_session_stops_total", "Sessions that the hub was asked to stop, by the reason.", ["because"])

BUDGETS = Gauge(
    "armillary_budgets",
    "Budgets that running sessions use: `open`, `near` (four fifths are used up), or `spent`.",
    ["state"],
)

# --- logins ----------------------------------------------------------------------------------------------------------

LOGINS = Counter(
    "armillary_logins_total",
    "Logins that came back from the provider: `in`, `not-allowed`, `refused` (not proven, used before, or not begun "
    "here), `provider` (it does not answer, or wrongly), or `failed` for any other cause.",
    ["outcome"],
)
LOGIN_CHECKS = Counter(
    "armillary_login_checks_total",
    "Groups that were looked at again: `good`, `ended` (the person must log in again), or `provider` where it did not "
    "answer.",
    ["outcome"],
)

# --- the reconciler --------------------------------------------------------------------------------------------------

FINDINGS = Gauge(
    "armillary_reconciler_findings",
    "What the last look of the reconciler found, by kind; most of it is over at the next look.",
    ["kind"],
)
REPAIRS = Counter("armillary_reconciler_repairs_total", "Repairs by the reconciler, by kind.", ["kind"])

# --- the controller --------------------------------------------------------------------------------------------------

PUBLICATIONS = Counter(
    "armillary_controller_publications_total", "Times that counts were published, or could not be.", ["outcome"]
)
APPLIED = Counter("armillary_controller_events_total", "Objects and changes that were taken over from the cluster.")
LOOP_LAG = Histogram(
    "armillary_controller_loop_lag_seconds",
    "How much later than it asked for the controller's event loop went on.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)


class Described(NamedTuple):
    """One metric, for people."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


READ: tuple[Described, ...] = (
    Described(
        "armillary_queue_tickets",
        "gauge",
        ("state", "accelerator"),
        "Tickets that are `waiting`, or whose servers are `starting`; by accelerator, `none` for those without.",
    ),
    Described("armillary_queue_oldest_seconds", "gauge", (), "How long the one has waited who waits longest."),
    Described("armillary_start_slots", "gauge", ("state",), "Start slots of the queue: `taken`, and `total`."),
    Described(
        "armillary_holds",
        "gauge",
        ("state",),
        "What is held: `granted` (the hub is yet to start it), `begun` (being started), `running`.",
    ),
    Described("armillary_ledger_open_rows", "gauge", (), "Rows of the ledger that are open."),
    Described(
        "armillary_sessions",
        "gauge",
        ("profile", "accelerator"),
        "Sessions that run, by profile and accelerator; `other` for a profile that the catalogue has no more.",
    ),
    Described(
        "armillary_usage_cards",
        "gauge",
        ("accelerator",),
        "Whole cards that are charged for now: a session with a seventh of a card counts a seventh.",
    ),
    Described("armillary_audit_entries", "gauge", (), "Entries that the audit trail ever had."),
    Described(
        "armillary_backup_age_seconds",
        "gauge",
        (),
        "How long ago the newest copy of the installation was made and checked; not there where none ever was.",
    ),
    Described(
        "armillary_ledger_oldest_heartbeat_seconds",
        "gauge",
        (),
        "Of the sessions that run, the longest time since one was charged; above 30 something is wrong.",
    ),
)
"""Read from the database by the controller that leads."""

SERVICE: tuple[Described, ...] = (
    Described(
        "armillary_service_answers_total",
        "counter",
        ("method", "path", "status"),
        "Answers given, by the path's pattern and the HTTP status.",
    ),
    Described(
        "armillary_service_seconds", "histogram", ("path",), "Time until an answer began, by the path's pattern."
    ),
    Described("armillary_service_live_pages", "gauge", (), "Pages that are kept up to date now."),
    Described("armillary_service_live_pages_limit", "gauge", (), "How many there may be."),
    Described("armillary_service_hub_questions", "gauge", (), "Requests made to the hub since the start."),
    Described("armillary_service_hub_away", "gauge", (), "Whether the hub did not answer last time."),
    Described("armillary_capacity_fresh", "gauge", (), "Whether the published counts may be taken for the truth."),
    Described("armillary_capacity_age_seconds", "gauge", (), "Seconds since the counts were known to be true."),
    Described("armillary_reservations", "gauge", (), "Starts and sessions that hold something."),
    Described(
        "armillary_accelerators",
        "gauge",
        ("accelerator", "state"),
        "Accelerators by what they do: free (only while that is known), used by us or by others, held back.",
    ),
    Described(
        "armillary_accelerators_largest",
        "gauge",
        ("accelerator",),
        "How many of one accelerator a single session could have now, on one node; only while that is known.",
    ),
    Described(
        "armillary_homes_bytes", "gauge", ("state",), "Room for homes on this machine, local engine: `free`, `total`."
    ),
    Described("armillary_controller_leading", "gauge", (), "Whether this controller is the one that acts."),
    Described(
        "armillary_controller_blind", "gauge", (), "Whether the source of the counts cannot be seen by this controller."
    ),
    Described(
        "armillary_controller_publish_age_seconds", "gauge", (), "Seconds since this controller published counts."
    ),
)
"""Of a service, or of the controller's state; made by `hub.web.measures` and `hub.controller.metrics`."""

Sample = tuple[tuple[str, ...], float]


class Figures(Collector):
    """Figures from the database, as the controller in this process read them last; none: it does not lead."""

    def __init__(self) -> None:
        self._samples: Mapping[str, tuple[Sample, ...]] = {}

    def show(self, samples: Mapping[str, tuple[Sample, ...]]) -> None:
        """Show these from now on, by name: label values and value of each; empty: nothing."""
        self._samples = dict(samples)

    def collect(self) -> Iterator[Metric]:
        """Yield what was read last."""
        for one in READ:
            samples = self._samples.get(one.name)
            if samples is None:
                continue
            family = GaugeMetricFamily(one.name, one.text, labels=one.labels)
            for values, number in samples:
                family.add_metric(values, number)
            yield family

    def describe(self) -> Iterator[Metric]:
        """Yield the names, so that nobody else takes them."""
        for one in READ:
            yield GaugeMetricFamily(one.name, one.text, labels=one.labels)


FIGURES = Figures()
REGISTRY.register(FIGURES)

_MADE: tuple[Counter | Gauge | Histogram, ...] = (
    DECISIONS,
    DECISION_SECONDS,
    PROMOTIONS,
    QUEUE_WAIT,
    QUEUE_STARTS,
    MAILS,
    HEARTBEATS,
    HEARTBEAT_SECONDS,
    CHARGED,
    STOPS,
    BUDGETS,
    LOGINS,
    LOGIN_CHECKS,
    FINDINGS,
    REPAIRS,
    PUBLICATIONS,
    APPLIED,
    LOOP_LAG,
    engines.REFLECTOR_FAILURES,
    engines.REFLECTOR_LISTS,
    engines.UNKNOWN_POLLS,
)

_AT_ZERO: Mapping[Counter | Gauge, tuple[str, ...]] = {
    QUEUE_STARTS: ("ready", "failed", "refused", "lapsed", "gone", "away"),
    MAILS: ("sent", "failed", "no-address"),
    HEARTBEATS: ("written", "failed"),
    PUBLICATIONS: ("published", "failed"),
    LOGINS: ("in", "not-allowed", "refused", "provider", "failed"),
    LOGIN_CHECKS: ("good", "ended", "provider"),
    STOPS: ("idle", "limit", "budget"),
    engines.REFLECTOR_FAILURES: ("pods", "events", "nodes"),
    engines.REFLECTOR_LISTS: ("pods", "events", "nodes"),
}
for _counter, _values in _AT_ZERO.items():
    for _value in _values:  # there from the start: of a series that begins at 1 Prometheus sees no increase
        _counter.labels(_value)


def table() -> tuple[Described, ...]:
    """Return every metric of ours, by name."""
    return tuple(sorted((*map(_described, _MADE), *READ, *SERVICE)))


def _described(one: Counter | Gauge | Histogram) -> Described:
    family = next(iter(one.describe()))
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return Described(name, family.type, tuple(one._labelnames), family.documentation)
