"""Nodes and DRA objects as clusters have them, for tests of discovery.

Published: the labels of `single` (NVIDIA k8s-device-plugin, docs/gpu-feature-discovery/README.md, table of the "single"
strategy), of `mixed` (NVIDIA, "MIG Support in Kubernetes", the node of the "mixed" strategy), of `shared` (NVIDIA GPU
operator, "Time-Slicing GPUs in Kubernetes", "Verifying the Configuration"), of `intel` (Intel device plugins,
cmd/gpu_plugin/labels.md), attributes of `dra_slice` (NVIDIA k8s-dra-driver-gpu, cmd/gpu-kubelet-plugin/deviceinfo.go),
DeviceClasses (its chart). Constructed: names of nodes, counts where the source shows other cards, taints, and all
other nodes, which have label names of their vendor's documentation with made values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["CLUSTER", "DEVICE_CLASSES", "NVIDIA_TAINT", "RUNTIME_CLASSES", "SLICES", "dra_slice", "node"]

NVIDIA_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def node(
    name: str,
    labels: Mapping[str, str],
    offered: Mapping[str, str],
    taints: Sequence[Mapping[str, str]] = (),
    *,
    ready: bool = True,
    cordoned: bool = False,
    capacity: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a Node object."""
    base = {"cpu": "32", "memory": "256Gi", "pods": "110", "hugepages-2Mi": "0"}
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
        "spec": {"taints": list(taints), **({"unschedulable": True} if cordoned else {})},
        "status": {
            "allocatable": {**base, **offered},
            "capacity": {**base, **(capacity if capacity is not None else offered)},
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
        },
    }


_SINGLE = {
    "nvidia.com/mig.strategy": "single",
    "nvidia.com/gpu.product": "A100-SXM4-40GB-MIG-1g.5gb",
    "nvidia.com/gpu.count": "56",
    "nvidia.com/gpu.memory": "5120",
    "nvidia.com/gpu.slices.gi": "1",
}
_MIXED = {
    "nvidia.com/mig.strategy": "mixed",
    "nvidia.com/gpu.product": "A100-SXM4-40GB",
    "nvidia.com/gpu.memory": "40537",
    "nvidia.com/gpu.replicas": "1",
    "nvidia.com/mig-1g.5gb.count": "1",
    "nvidia.com/mig-1g.5gb.memory": "4864",
    "nvidia.com/mig-2g.10gb.count": "1",
    "nvidia.com/mig-2g.10gb.memory": "9984",
    "nvidia.com/mig-3g.21gb.count": "1",
    "nvidia.com/mig-3g.21gb.memory": "20096",
}
_SHARED = {
    "nvidia.com/gpu.count": "4",
    "nvidia.com/gpu.product": "Tesla-T4-SHARED",
    "nvidia.com/gpu.replicas": "4",
    "nvidia.com/gpu.memory": "15360",
    "nvidia.com/gpu.sharing-strategy": "time-slicing",
}
_INTEL = {"gpu.intel.com/device.count": "2", "gpu.intel.com/family": "Max_Series", "gpu.intel.com/product": "Max_1550"}
_AMD = {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.vram": "191G", "amd.com/gpu.family": "AI"}
_TPU = {"cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice", "cloud.google.com/gke-tpu-topology": "2x4"}
_RTX = {"nvidia.com/gpu.product": "Quadro-RTX-5000", "nvidia.com/gpu.memory": "16384"}
_FPGA_TAINT = {"key": "amd.com/fpga", "effect": "NoExecute"}
_CONTROL = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
_PARTS = {
    "nvidia.com/gpu": "0",
    "nvidia.com/mig-1g.5gb": "1",
    "nvidia.com/mig-2g.10gb": "1",
    "nvidia.com/mig-3g.21gb": "1",
}

CLUSTER = [
    node("single-1", _SINGLE, {"nvidia.com/gpu": "56"}, [NVIDIA_TAINT]),
    node("mixed-1", _MIXED, _PARTS, [NVIDIA_TAINT]),
    node("mixed-2", _MIXED, {"nvidia.com/gpu": "8"}, [NVIDIA_TAINT], cordoned=True),
    node("shared-1", _SHARED, {"nvidia.com/gpu": "16"}),
    node("shared-2", {**_SHARED, "nvidia.com/gpu.replicas": "8"}, {"nvidia.com/gpu": "8"}),
    node("mps-1", {**_SHARED, "nvidia.com/gpu.product": "NVIDIA-L40S", "nvidia.com/gpu.memory": "46068",
                   "nvidia.com/gpu.sharing-strategy": "mps"}, {"nvidia.com/gpu.shared": "16"}),
    node("rtx-1", _RTX, {"nvidia.com/gpu": "2"}, ready=False),
    node("rtx-2", _RTX, {"nvidia.com/gpu": "3"}),
    node("rtx-3", _RTX, {"nvidia.com/gpu": "0"}, capacity={"nvidia.com/gpu": "3"}),
    node("bare-1", {}, {"nvidia.com/gpu": "1"}),
    node("broken-1", {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-INVALID"}, {"nvidia.com/gpu": "3"}),
    node("intel-1", _INTEL, {"gpu.intel.com/i915": "2", "gpu.intel.com/i915_monitoring": "1"}),
    node("amd-1", _AMD, {"amd.com/gpu": "8"}),
    node("tpu-1", _TPU, {"google.com/tpu": "8"}),
    node("fpga-1", {}, {"amd.com/xilinx_u55c_gen3x16_xdma_base_3-0": "2"}, [_FPGA_TAINT, _CONTROL]),
    node("odd-1", {}, {"example.org/Quantum_Sim.v2": "5", "rdma/hca": "1k", "devices.kubevirt.io/kvm": "110"}),
]  # fmt: skip

RUNTIME_CLASSES = [
    {"metadata": {"name": "gvisor"}, "handler": "runsc"},
    {"metadata": {"name": "nvidia"}, "handler": "nvidia"},
]


def _class(name: str, kind: str) -> dict[str, Any]:
    expression = f"device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == '{kind}'"
    return {"metadata": {"name": name}, "spec": {"selectors": [{"cel": {"expression": expression}}]}}


DEVICE_CLASSES = [_class("gpu.nvidia.com", "gpu"), _class("mig.nvidia.com", "mig")]


def dra_slice(node: str, driver: str, devices: Sequence[Mapping[str, Any]], generation: int = 1) -> dict[str, Any]:
    """Return a ResourceSlice."""
    pool = {"name": node, "generation": generation, "resourceSliceCount": 1}
    return {
        "metadata": {"name": f"{node}-{driver}-{generation}"},
        "spec": {"driver": driver, "nodeName": node, "pool": pool, "devices": [dict(one) for one in devices]},
    }


def _device(name: str, memory: str, **texts: str) -> dict[str, Any]:
    return {
        "name": name,
        "attributes": {
            **{key: {"string": text} for key, text in texts.items()},
            "driverVersion": {"version": "570.86.15"},
            "uuid": {"string": f"GPU-{name}"},
        },
        "capacity": {"memory": {"value": memory}},
    }


_A100, _GPU, _MIG = "NVIDIA A100-SXM4-40GB", {"type": "gpu"}, {"type": "mig", "profile": "1g.5gb"}

SLICES = [
    dra_slice("dra-1", "gpu.nvidia.com", [_device(f"old-{at}", "40Gi", productName="Gone", **_GPU) for at in range(4)]),
    dra_slice("dra-1", "gpu.nvidia.com", [
        *(_device(f"gpu-{at}", "40Gi", productName=_A100, **_GPU) for at in range(2)),
        *(_device(f"gpu-2-mig-19-{at}-1", "4864Mi", productName=_A100, **_MIG) for at in range(7)),
    ], generation=2),
    dra_slice("dra-2", "gpu.nvidia.com", [_device("gpu-0", "141Gi", productName="NVIDIA H200", **_GPU)]),
    dra_slice("dra-3", "nic.example.org", [{"name": "eth1", "attributes": {"rate": {"int": 100}}}]),
]  # fmt: skip
