"""The hardware of the AI_INFN platform as nodes of a Kubernetes cluster: what the shipped catalogue describes.

From its public description: 180 vCPUs, 1.2 TB of memory, 3 A100 in up to 21 partitions, 2 T4, 5 RTX 5000, Alveo U55c
boards. How these are spread over nodes, and that there are two boards, is constructed. Labels are those that NVIDIA's
GPU feature discovery writes with the strategy "mixed"; taints those that the catalogue tolerates.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["TOTALS", "nodes"]

Node = dict[str, Any]

TOTALS = {
    "a100": 0,
    "a100-7g.40gb": 0,
    "a100-3g.20gb": 0,
    "a100-2g.10gb": 0,
    "a100-1g.5gb": 21,
    "t4": 2,
    "rtx5000": 5,
    "u55c": 2,
}
"""How many of each accelerator of the shipped catalogue there are; all cards of the A100 node are cut in seven."""

_CPU_ONLY = {"nvidia.com/gpu.present": "false"}


def nodes(prefix: str = "") -> list[Node]:
    """Return the node objects, metadata and status; each call makes new ones.

    An API server takes the status by its subresource only.
    """
    a100 = {
        **_nvidia("NVIDIA-A100-PCIE-40GB", cards=3, memory_mib=40960, family="ampere"),
        "nvidia.com/mig.capable": "true",
        "nvidia.com/mig.strategy": "mixed",
        "nvidia.com/mig.config": "all-1g.5gb",
        "nvidia.com/mig.config.state": "success",
        "nvidia.com/mig-1g.5gb.count": "21",
        "nvidia.com/mig-1g.5gb.memory": "4864",
        "nvidia.com/mig-1g.5gb.product": "NVIDIA-A100-PCIE-40GB-MIG-1g.5gb",
    }
    t4 = _nvidia("Tesla-T4", cards=2, memory_mib=15360, family="turing")
    rtx = _nvidia("Quadro-RTX-5000", cards=5, memory_mib=16384, family="turing")
    return [
        _node(prefix + "a100", 64, 400, {"nvidia.com/gpu": 0, "nvidia.com/mig-1g.5gb": 21}, a100, taint="nvidia.com/gpu"),
        _node(prefix + "t4", 32, 200, {"nvidia.com/gpu": 2}, t4, taint="nvidia.com/gpu"),
        _node(prefix + "rtx5000", 32, 200, {"nvidia.com/gpu": 5}, rtx, taint="nvidia.com/gpu"),
        _node(prefix + "u55c", 20, 200, {"amd.com/xilinx_u55c_gen3x16_xdma_base_3-0": 2}, _CPU_ONLY, taint="amd.com/fpga"),
        _node(prefix + "cpu", 32, 200, {}, _CPU_ONLY, taint=None),
    ]  # fmt: skip


def _nvidia(product: str, *, cards: int, memory_mib: int, family: str) -> dict[str, str]:
    return {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.count": str(cards),
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/gpu.memory": str(memory_mib),
        "nvidia.com/gpu.family": family,
    }


def _node(
    name: str, cpus: int, memory_gib: int, cards: dict[str, int], labels: dict[str, str], *, taint: str | None
) -> Node:
    capacity = {"cpu": str(cpus), "memory": f"{memory_gib}Gi", "pods": "110"} | {
        key: str(n) for key, n in cards.items()
    }
    spec: dict[str, Any] = {"taints": [{"key": taint, "value": "present", "effect": "NoSchedule"}]} if taint else {}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **labels}},
        "spec": spec,
        "status": {
            "capacity": capacity,
            "allocatable": dict(capacity),
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }


if __name__ == "__main__":
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes()}, indent=1))
