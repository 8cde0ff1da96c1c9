"""The chart's values about monitoring."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from helm.base import Model, Text
from helm.monitoring.alerts import ALERTS

__all__ = ["Monitoring"]

Duration = Annotated[str, Field(pattern=r"^([0-9]+(ms|s|m|h|d|w|y))+$")]
AlertName = Literal[*(alert.name for alert in ALERTS)]  # type: ignore[valid-type]  # made from the list of alerts


class Monitors(Model):
    """ServiceMonitors and a PodMonitor: how a Prometheus of the Prometheus Operator finds what to ask."""

    enabled: bool = Field(default=False, description="Whether there are any. The operator's CRDs must be there.")
    interval: Duration = Field(default="30s", description="How often they are asked.")
    labels: Text = Field(default={}, description="Labels by which your Prometheus chooses them.")


class Dashboards(Model):
    """Dashboards for Grafana, one ConfigMap each, as its sidecar reads them."""

    enabled: bool = Field(default=False, description="Whether there are any.")
    labels: Text = Field(default={"grafana_dashboard": "1"}, description="Labels by which the sidecar finds them.")
    annotations: Text = Field(default={}, description="Annotations, for instance the folder: `grafana_folder`.")


class Alerts(Model):
    """A PrometheusRule with alerts."""

    enabled: bool = Field(default=False, description="Whether there is one. The operator's CRDs must be there.")
    labels: Text = Field(default={}, description="Labels by which your Prometheus chooses it.")
    extra: Text = Field(default={}, description="More labels of each alert, for instance by whom it is routed.")
    after: dict[AlertName, Duration] = Field(  # type: ignore[valid-type]
        default={}, description="How long something must be wrong before an alert fires, by its name: `5m`, `1h`."
    )
    runbooks: str = Field(
        default="",
        description="Where the pages of the reference are that say what to do: `runbook_url` of each alert is this, "
        "its page and `.html`. Empty: alerts have none.",
        pattern=r"^(https?://[^\s]+)?$",
    )


class Monitoring(Model):
    """What Prometheus and Grafana are given."""

    existing_secret: str = Field(
        default="",
        description="A Secret with the token by which Prometheus reads metrics, one word of 16 letters and digits or "
        "more. Empty: one is made at the first install, named after the release, with `-metrics`.",
    )
    key: str = Field(default="token", description="The key in that Secret.", min_length=1)
    monitors: Monitors = Field(default=Monitors(), description="How Prometheus finds what to ask.")
    dashboards: Dashboards = Field(default=Dashboards(), description="Dashboards for Grafana.")
    alerts: Alerts = Field(default=Alerts(), description="Alerts.")
