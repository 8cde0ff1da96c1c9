"""Simulated nodes: KWOK answers for nodes that carry its annotation, and their pods become Running."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.lab import processes

_ANNOTATION = "kwok.x-k8s.io/node"
TAINT = {"key": _ANNOTATION, "value": "fake", "effect": "NoSchedule"}


def start(program: Path, kubeconfig: Path) -> None:
    """Starts the controller."""
    processes.start(
        "kwok",
        [
            program,
            f"--kubeconfig={kubeconfig}",
            "--manage-all-nodes=false",
            f"--manage-nodes-with-annotation-selector={_ANNOTATION}=fake",
            "--enable-crds=",
            # Without leases each node's whole status is written every few seconds: a thousand nodes keep this machine
            # busy with nothing else. Leases are renewed after a quarter of this; control_plane waits longer than that.
            "--node-lease-duration-seconds=1200",
        ],
    )


def node(name: str, capacity: Mapping[str, str], labels: Mapping[str, str], tainted: bool) -> dict[str, object]:
    """The Node object of a simulated node; `capacity` is added to 32 CPUs, 256 GiB and 110 pods."""
    offered = {"cpu": "32", "memory": "256Gi", "pods": "110", **capacity}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {_ANNOTATION: "fake"},
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "type": "kwok", **labels},
        },
        "spec": {"taints": [TAINT] if tainted else []},
        "status": {"capacity": offered, "allocatable": offered},
    }
