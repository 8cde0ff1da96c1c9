"""What stands for the Prometheus Operator and for Prometheus' discovery reads what is said, and passes nothing over."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.helm.discovery import pods, services
from tests.helm.operator import scrape

MONITOR: dict[str, Any] = {
    "kind": "ServiceMonitor",
    "metadata": {"name": "a-hub", "namespace": "core"},
    "spec": {
        "selector": {"matchLabels": {"app.kubernetes.io/name": "armillary"}},
        "endpoints": [
            {
                "port": "http",
                "path": "/hub/metrics",
                "interval": "30s",
                "authorization": {"type": "Bearer", "credentials": {"name": "a-metrics", "key": "token"}},
                "relabelings": [{"action": "replace", "targetLabel": "component", "replacement": "hub"}],
            }
        ],
    },
}


def test_a_monitor_says_whom_to_ask_where_and_with_what() -> None:
    found = scrape(MONITOR, lambda name, key: f"{key} of {name}", Path("/targets"))
    assert found["job_name"] == "ServiceMonitor/core/a-hub/0"
    assert found["file_sd_configs"] == [{"files": ["/targets/endpointslice.json"]}]
    assert (found["metrics_path"], found["scrape_interval"]) == ("/hub/metrics", "30s")
    assert found["authorization"] == {"type": "Bearer", "credentials": "token of a-metrics"}
    kept = {one["source_labels"][0]: one["regex"] for one in found["relabel_configs"] if one.get("action") == "keep"}
    assert kept == {
        "__meta_kubernetes_namespace": "core",
        "__meta_kubernetes_service_label_app_kubernetes_io_name": "armillary",
        "__meta_kubernetes_endpointslice_port_name": "http",
    }
    assert found["relabel_configs"][-1] == {"action": "replace", "target_label": "component", "replacement": "hub"}


@pytest.mark.parametrize("name", ["scheme", "params", "tlsConfig"])
def test_what_of_a_monitor_is_not_understood_is_refused(name: str) -> None:
    odd = deepcopy(MONITOR)
    odd["spec"]["endpoints"][0][name] = "https"
    with pytest.raises(ValueError, match=name):
        scrape(odd, lambda _name, _key: "", Path("/targets"))


def test_targets_of_services_are_the_addresses_of_their_slices() -> None:
    service = {"metadata": {"name": "a-hub", "namespace": "core", "labels": {"a.b/c": "d"}}}
    piece = {
        "metadata": {"namespace": "core", "labels": {"kubernetes.io/service-name": "a-hub"}},
        "endpoints": [{"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "a-hub-x"}}],
        "ports": [{"name": "http", "port": 8081}],
    }
    empty = {**piece, "endpoints": None}
    others = {**piece, "metadata": {"namespace": "core", "labels": {"kubernetes.io/service-name": "gone"}}}
    assert services([service], [piece, empty, others]) == [
        {
            "targets": ["10.0.0.1:8081"],
            "labels": {
                "__meta_kubernetes_namespace": "core",
                "__meta_kubernetes_service_name": "a-hub",
                "__meta_kubernetes_endpointslice_port_name": "http",
                "__meta_kubernetes_pod_name": "a-hub-x",
                "__meta_kubernetes_service_label_a_b_c": "d",
            },
        }
    ]


def test_targets_of_pods_are_the_ports_that_they_declare() -> None:
    pod = {
        "metadata": {"name": "x", "namespace": "core", "labels": {"l": "v"}},
        "spec": {"containers": [{"ports": [{"name": "metrics", "containerPort": 9000}]}, {}]},
        "status": {"phase": "Running", "podIP": "10.0.0.2"},
    }
    placed_nowhere = {**pod, "status": {"phase": "Pending"}}
    [found] = pods([pod, placed_nowhere])
    assert found["targets"] == ["10.0.0.2:9000"]
    assert found["labels"]["__meta_kubernetes_pod_container_port_name"] == "metrics"
    assert found["labels"]["__meta_kubernetes_pod_phase"] == "Running"
    assert found["labels"]["__meta_kubernetes_pod_label_l"] == "v"
