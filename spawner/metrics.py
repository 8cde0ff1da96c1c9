"""What the engines count; JupyterHub publishes it at /hub/metrics with its own."""

from __future__ import annotations

from prometheus_client import Counter

__all__ = ["REFLECTOR_FAILURES", "REFLECTOR_LISTS", "UNKNOWN_POLLS"]

REFLECTOR_FAILURES = Counter(
    "armillary_reflector_failures_total",
    "Times a list or watch of the Kubernetes API failed and was begun again.",
    ["kind"],
)
REFLECTOR_LISTS = Counter(
    "armillary_reflector_lists_total",
    "Full lists read from the Kubernetes API; more than a few after the start mean that watches cannot be resumed.",
    ["kind"],
)
UNKNOWN_POLLS = Counter(
    "armillary_polls_unknown_total",
    "Looks at a server whose state Kubernetes did not tell; such a server is taken for running.",
)
