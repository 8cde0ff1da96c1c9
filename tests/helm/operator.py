"""Monitors of the Prometheus Operator as a Prometheus without it understands them.

As the operator writes them (v0.85, `pkg/prometheus/promcfg.go`), for what the chart's monitors say; anything else is
refused, so that nothing that the chart says is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["scrape"]

_KINDS = {"ServiceMonitor": ("endpointslice", "endpoints"), "PodMonitor": ("pod", "podMetricsEndpoints")}
_PORTS = {
    "endpointslice": "__meta_kubernetes_endpointslice_port_name",
    "pod": "__meta_kubernetes_pod_container_port_name",
}


def scrape(monitor: Mapping[str, Any], secret: Callable[[str, str], str], targets: Path) -> dict[str, Any]:
    """Return what a monitor means, as an entry of `scrape_configs`.

    Args:
        monitor: a ServiceMonitor or a PodMonitor, as the API server has it.
        secret: gives the value of a key of a Secret in the monitor's namespace.
        targets: folder of `discovery.followed`.

    Raises:
        ValueError: the monitor says what is not understood here.
    """
    role, listed = _KINDS[monitor["kind"]]
    namespace, name = monitor["metadata"]["namespace"], monitor["metadata"]["name"]
    spec = _known(monitor["spec"], {"selector", listed})
    [endpoint] = spec[listed]
    _known(endpoint, {"port", "path", "interval", "authorization", "relabelings"})
    selected = _known(spec["selector"], {"matchLabels"})["matchLabels"]
    what = "pod" if role == "pod" else "service"
    relabel: list[dict[str, Any]] = []
    if role == "pod":
        relabel.append(_only("__meta_kubernetes_pod_phase", "(Failed|Succeeded)", action="drop"))
    relabel.append(_only("__meta_kubernetes_namespace", re.escape(namespace)))
    for label, value in selected.items():
        relabel.append(_only(f"__meta_kubernetes_{what}_label_{re.sub('[^a-zA-Z0-9_]', '_', label)}", re.escape(value)))
    relabel.append(_only(_PORTS[role], endpoint["port"]))
    for target in ("namespace", f"{what}_name", "pod_name"):
        relabel.append({"source_labels": [f"__meta_kubernetes_{target}"], "target_label": target.removesuffix("_name")})
    relabel += [_relabeling(one) for one in endpoint["relabelings"]]
    given = _known(endpoint["authorization"], {"type", "credentials"})
    return {
        "job_name": f"{monitor['kind']}/{namespace}/{name}/0",
        "file_sd_configs": [{"files": [str(targets / f"{role}.json")]}],
        "scrape_interval": endpoint["interval"],
        "metrics_path": endpoint["path"],
        "authorization": {
            "type": given["type"],
            "credentials": secret(given["credentials"]["name"], given["credentials"]["key"]),
        },
        "relabel_configs": relabel,
    }


def _known(said: Mapping[str, Any], names: set[str]) -> Mapping[str, Any]:
    if odd := set(said) - names:
        raise ValueError(f"{sorted(odd)} of a monitor is not understood here; understood are {sorted(names)}")
    return said


def _only(label: str, pattern: str, action: str = "keep") -> dict[str, Any]:
    return {"source_labels": [label], "regex": pattern, "action": action}


def _relabeling(said: Mapping[str, Any]) -> dict[str, Any]:
    """The same in Prometheus' own spelling."""
    return {re.sub("[A-Z]", lambda one: f"_{one.group().lower()}", key): value for key, value in said.items()}
