"""The table of metrics, from `hub.metrics`."""

from __future__ import annotations

from docs.generate.markdown import code, table
from hub import metrics
from hub.reconcile.compare import KINDS

__all__ = ["page"]

_INTRODUCTION = """\
# Metrics

For Prometheus. The hub shows its own at `/hub/metrics`, beside JupyterHub's; the service at
`/services/armillary/metrics`; a controller of its own where `armillary controller --metrics-port` says. Where service
and controller are one process, the service shows both. All three ask for the token of `hub.metrics_token_file`, unless
`hub.metrics_need_token` is false. [Watch an installation](../../how-to/monitoring.md) has dashboards and alerts.

What is read from the database is shown by the controller that leads, and by no other process: sums over all processes
are right. No label names a person, a server or a ticket.
"""

_REPAIRS = """\
## Kinds of repair

What the reconciler finds and repairs, by the label `kind`; each repair is a line in the log of the controller and a row
in the audit trail (`reconcile.KIND`), too. `armillary reconcile --dry-run` says what it would do. What is seen of hub
and engine must last before it is acted on.
"""


def page() -> str:
    """The page."""
    rows = [(code(one.name), one.kind, ", ".join(map(code, one.labels)), one.text) for one in metrics.table()]
    kinds = [(code(key), one.meaning, one.repair, f"{one.lasts_s:g} s") for key, one in KINDS.items()]
    return "\n".join(
        [
            _INTRODUCTION,
            table(("Metric", "Type", "Labels", "Meaning"), rows),
            _REPAIRS,
            table(("Kind", "Finding", "Repair", "Must last"), kinds),
        ]
    )
