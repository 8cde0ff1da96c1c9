"""The pages of what to do when an alert fires, from `helm.monitoring.alerts`."""

from __future__ import annotations

from docs.generate.markdown import code, table
from helm.monitoring.alerts import ALERTS, Alert
from helm.monitoring.rules import asked

__all__ = ["pages"]

_INTRODUCTION = """\
# Alerts

The chart makes a `PrometheusRule` of these (`monitoring.alerts.enabled`), and `helm/armillary/monitoring/alerts.yaml`
is a file of rules that any Prometheus reads. [How to set it up](../../how-to/monitoring.md). Each has a page that says
what people notice, what it was as a rule, and what to do.
"""


def pages() -> dict[str, str]:
    """Every page, by name: the list, and one for each alert."""
    return {"alerts": _index(), **{alert.page: _page(alert) for alert in ALERTS}}


def _index() -> str:
    rows = [(f"[{alert.name}]({alert.page}.md)", alert.severity, alert.after, alert.summary) for alert in ALERTS]
    tree = "\n".join(["```{toctree}", ":hidden:", "", *(alert.page for alert in ALERTS), "```"])
    return "\n".join([_INTRODUCTION, table(("Alert", "Severity", "After", "Meaning"), rows), tree, ""])


def _page(alert: Alert) -> str:
    query = asked(alert, 'installation="…"')
    lines = [f"# {alert.name}", "", f"**{alert.summary}** {alert.meaning}", ""]
    lines += [f"Severity {code(alert.severity)}. It fires when this is so for {alert.after}:", ""]
    lines += ["```promql", query, "```", "", "## What it was, as a rule", ""]
    lines += [f"- {cause}" for cause in alert.causes]
    lines += ["", "## What to do", ""]
    lines += [f"{number}. {step}" for number, step in enumerate(alert.todo, 1)]
    lines += ["", "All alerts: [Alerts](alerts.md).", ""]
    return "\n".join(lines)
