"""A stand-in for the module `pynvml`, strict: what it was not told raises, as an unknown handle or call does.

The machines are constructed, no recording of real ones. What they answer follows public texts of NVIDIA:

- device names and profiles: "NVIDIA Multi-Instance GPU User Guide", "MIG Device Names" (A100-SXM4-40GB: 3g.20gb,
  2g.10gb, 1g.5gb, and 1c.3g.20gb for a part of one), https://docs.nvidia.com/datacenter/tesla/mig-user-guide/;
- sizes of its instances in MiB (4864, 9856, 19968): the outputs of `nvidia-smi` there, "Getting Started with MIG";
- which call raises what: "NVML API Reference", https://docs.nvidia.com/deploy/nvml-api/.
"""

# ruff: noqa: N803  # the names of NVML's own functions and parameters
from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

A100 = "NVIDIA A100-SXM4-40GB"
T4 = "Tesla T4"
MIB = 1 << 20
_SLICES = {"1g.5gb": (1, 1, 4864), "2g.10gb": (2, 2, 9856), "3g.20gb": (3, 3, 19968), "1c.3g.20gb": (3, 1, 19968)}


@dataclass(eq=False)
class FakeInstance:
    """One MIG device; `named` False: of a driver that writes no profile into the name."""

    uuid: str
    profile: str
    gpu_instance: int
    compute_instance: int = 0
    pids: tuple[int, ...] = ()
    named: bool = True
    product: str = A100


@dataclass(eq=False)
class FakeCard:
    """One card, healthy unless told otherwise; None: a call that this card does not support."""

    uuid: str
    product: str = T4
    minor: int | None = 0
    memory: int | None = 16 << 30
    mig: bool | None = None
    instances: dict[int, FakeInstance] = field(default_factory=dict)
    pids: tuple[int, ...] = ()
    uncorrected: int | None = 0
    rows: tuple[int, int, int, int] | None = None
    retired: int | None = 0
    action: int | None = None
    lost: bool = False
    fails: int | None = None
    """Error of every call beside those that name it."""


def a100(uuid: str, minor: int, *instances: FakeInstance, mig: bool = True) -> FakeCard:
    """Return an A100 with these instances, at indices with a gap, as after one was destroyed."""
    places = {2 * number: instance for number, instance in enumerate(instances)}
    return FakeCard(uuid, A100, minor, 40 << 30, mig, places, rows=(0, 0, 0, 0), action=0)


class FakeNvml:
    """Answers as the driver of a machine with these cards; `begins` is what `nvmlInit` raises, None: nothing."""

    def __init__(self, *cards: FakeCard, begins: int | None = None) -> None:
        self.cards = list(cards)
        self.begins = begins
        self.hangs: threading.Event | None = None
        self.events: queue.Queue[Any] = queue.Queue()
        self.registered: list[FakeCard] = []
        self.inits = 0

    # --- the library ---------------------------------------------------------------------------------------------

    def nvmlInit(self) -> None:
        self.inits += 1
        if self.begins is not None:
            raise pynvml.NVMLError(self.begins)

    def nvmlDeviceGetCount(self) -> int:
        if self.hangs is not None:
            self.hangs.wait()
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeCard:
        card = self.cards[index]
        if card.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return card

    # --- one device ----------------------------------------------------------------------------------------------

    def nvmlDeviceGetUUID(self, handle: FakeCard | FakeInstance) -> str:
        return handle.uuid

    def nvmlDeviceGetName(self, handle: FakeCard | FakeInstance) -> str:
        if isinstance(handle, FakeCard):
            return handle.product
        return f"{handle.product} MIG {handle.profile}" if handle.named else handle.product

    def nvmlDeviceGetMinorNumber(self, handle: FakeCard) -> int:
        return int(_said(_card(handle).minor))

    def nvmlDeviceGetMemoryInfo(self, handle: FakeCard) -> Any:
        return SimpleNamespace(total=_said(_healthy(handle).memory))

    def nvmlDeviceGetComputeRunningProcesses(self, handle: FakeCard | FakeInstance) -> Sequence[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in handle.pids]

    # --- partitions ----------------------------------------------------------------------------------------------

    def nvmlDeviceGetMigMode(self, device: FakeCard) -> Sequence[int]:
        mode = int(_said(_healthy(device).mig))
        return [mode, mode]

    def nvmlDeviceGetMaxMigDeviceCount(self, device: FakeCard) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: FakeCard, index: int) -> FakeInstance:
        if index not in _card(device).instances:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return device.instances[index]

    def nvmlDeviceGetGpuInstanceId(self, device: FakeInstance) -> int:
        return device.gpu_instance

    def nvmlDeviceGetComputeInstanceId(self, device: FakeInstance) -> int:
        return device.compute_instance

    def nvmlDeviceGetAttributes_v2(self, device: FakeInstance) -> Any:
        slices, computes, size = _SLICES[device.profile]
        return SimpleNamespace(gpuInstanceSliceCount=slices, computeInstanceSliceCount=computes, memorySizeMB=size)

    # --- health --------------------------------------------------------------------------------------------------

    def nvmlDeviceGetTotalEccErrors(self, handle: FakeCard, errorType: int, counterType: int) -> int:
        assert (errorType, counterType) == (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
        return int(_said(_healthy(handle).uncorrected))

    def nvmlDeviceGetRemappedRows(self, device: FakeCard) -> Sequence[int]:
        rows: Sequence[int] = _said(_card(device).rows)
        return rows

    def nvmlDeviceGetRetiredPagesPendingStatus(self, device: FakeCard) -> int:
        return int(_said(_card(device).retired))

    def nvmlDeviceGetFieldValues(self, handle: FakeCard, fieldIds: Sequence[int]) -> Any:
        assert list(fieldIds) == [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION]
        if _card(handle).action is None:
            return [SimpleNamespace(nvmlReturn=pynvml.NVML_ERROR_NOT_SUPPORTED)]
        return [SimpleNamespace(nvmlReturn=pynvml.NVML_SUCCESS, value=SimpleNamespace(uiVal=handle.action))]

    # --- events --------------------------------------------------------------------------------------------------

    def nvmlEventSetCreate(self) -> object:
        return self.events

    def nvmlDeviceRegisterEvents(self, handle: FakeCard, eventTypes: int, eventSet: object) -> None:
        assert eventSet is self.events
        assert eventTypes == pynvml.nvmlEventTypeXidCriticalError
        if handle.product == T4 and handle.uncorrected is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        self.registered.append(handle)

    def nvmlEventSetWait_v2(self, eventSet: object, timeoutms: int) -> Any:
        assert eventSet is self.events
        try:
            return self.events.get(timeout=timeoutms / 1000)
        except queue.Empty:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT) from None

    def nvmlEventSetFree(self, eventSet: object) -> None:
        assert eventSet is self.events

    def xid(self, card: FakeCard, number: int, instance: FakeInstance | None = None) -> None:
        """Let the driver report a failure."""
        whole = 0xFFFFFFFF
        self.events.put(
            SimpleNamespace(
                device=card,
                eventType=pynvml.nvmlEventTypeXidCriticalError,
                eventData=number,
                gpuInstanceId=instance.gpu_instance if instance is not None else whole,
                computeInstanceId=instance.compute_instance if instance is not None else whole,
            )
        )


def _said(value: Any) -> Any:
    if value is None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return value


def _card(handle: FakeCard) -> FakeCard:
    if not isinstance(handle, FakeCard):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return handle


def _healthy(handle: FakeCard) -> FakeCard:
    if _card(handle).fails is not None:
        raise pynvml.NVMLError(handle.fails)
    return handle
