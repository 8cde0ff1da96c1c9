"""The alerts as a file of rules for Prometheus; the chart makes its PrometheusRule from the same file."""

from __future__ import annotations

from typing import Any

import yaml

from helm.monitoring.alerts import ALERTS, Alert
from helm.monitoring.model import EXAMPLE, INSTALLATION

__all__ = ["MATCHER", "asked", "rules", "written"]

MATCHER = f'installation="{EXAMPLE}"'
"""What stands for the installation in the file; the chart replaces it."""

_HEAD = """\
# Alerts. Written by `python -m helm.write` from helm/monitoring/alerts.py; do not edit.
# Prometheus can read this file as it is, where its targets have the label installation="armillary".
"""


def asked(alert: Alert, matcher: str = MATCHER) -> str:
    """Return the query of an alert for an installation."""
    return alert.query.replace(INSTALLATION, matcher)


def rules() -> dict[str, Any]:
    """Return what the file holds."""
    return {"groups": [{"name": "armillary", "rules": [_rule(alert) for alert in ALERTS]}]}


def written() -> str:
    """Return the file's text."""
    return _HEAD + yaml.safe_dump(rules(), sort_keys=False, width=1000, allow_unicode=True)


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": asked(alert),
        "for": alert.after,
        "labels": {"severity": alert.severity, "installation": EXAMPLE},
        "annotations": {"summary": alert.summary, "description": alert.meaning, "runbook": alert.page},
    }
