"""What NVIDIA's management library says about this machine's cards, as values.

Nothing here decides anything. The calls are those of NVIDIA's "NVML API Reference"; names and files of partitions
(MIG) those of its "Multi-Instance GPU User Guide". Every call may block for as long as the driver likes: use
`spawner.devices.reader`, which bounds the wait.
"""

# ruff: noqa: N802, N803  # the names of NVML's own functions and parameters
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pynvml

__all__ = ["Card", "Driver", "Instance", "NvmlAway", "Seen", "away", "read"]

RECOVERY_ACTION_FIELD: int = pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
_UNSUPPORTED = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,  # a driver older than the call
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_NO_DATA,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_DEPRECATED,
)
_NO_INSTANCE = (pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_INVALID_ARGUMENT)
_MIB = 1 << 20
_GIB = 1 << 30


class Driver(Protocol):
    """The part of the module `pynvml` that is used; everything may raise `pynvml.NVMLError`."""

    def nvmlInit(self) -> None: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...
    def nvmlDeviceGetUUID(self, handle: Any) -> str: ...
    def nvmlDeviceGetName(self, handle: Any) -> str: ...
    def nvmlDeviceGetMinorNumber(self, handle: Any) -> int: ...
    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...
    def nvmlDeviceGetMigMode(self, device: Any) -> Sequence[int]: ...
    def nvmlDeviceGetMaxMigDeviceCount(self, device: Any) -> int: ...
    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: Any, index: int) -> Any: ...
    def nvmlDeviceGetGpuInstanceId(self, device: Any) -> int: ...
    def nvmlDeviceGetComputeInstanceId(self, device: Any) -> int: ...
    def nvmlDeviceGetAttributes_v2(self, device: Any) -> Any: ...
    def nvmlDeviceGetTotalEccErrors(self, handle: Any, errorType: int, counterType: int) -> int: ...
    def nvmlDeviceGetRemappedRows(self, device: Any) -> Sequence[int]: ...
    def nvmlDeviceGetRetiredPagesPendingStatus(self, device: Any) -> int: ...
    def nvmlDeviceGetFieldValues(self, handle: Any, fieldIds: Sequence[int]) -> Any: ...
    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> Sequence[Any]: ...
    def nvmlEventSetCreate(self) -> Any: ...
    def nvmlDeviceRegisterEvents(self, handle: Any, eventTypes: int, eventSet: Any) -> None: ...
    def nvmlEventSetWait_v2(self, eventSet: Any, timeoutms: int) -> Any: ...
    def nvmlEventSetFree(self, eventSet: Any) -> None: ...


@dataclass(frozen=True)
class Instance:
    """One MIG device: a compute instance of a GPU instance. `profile` is such as 1g.5gb, `memory` in bytes.

    `problem` concerns this one alone; a problem of the card concerns all of its instances.
    """

    uuid: str
    profile: str
    gpu_instance: int
    compute_instance: int
    memory: int = 0
    processes: tuple[int, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Card:
    """One card.

    `minor` is the number of /dev/nvidiaN; None where the driver does not say. `mig` is its present mode: then only
    its `instances` can be used. `problem` says in words why nothing of it may be handed out. `processes` are the
    pids that compute on it. `complete` is False where the driver failed before it had said everything: `memory`,
    `mig`, `instances` and `processes` are not known then.
    """

    uuid: str
    product: str
    minor: int | None
    memory: int = 0
    mig: bool = False
    instances: tuple[Instance, ...] = ()
    processes: tuple[int, ...] = ()
    problem: str = ""
    complete: bool = True


@dataclass(frozen=True)
class Seen:
    """What was found. `unreadable` are sentences for the operator about cards that could not even be named."""

    cards: tuple[Card, ...] = ()
    unreadable: tuple[str, ...] = ()


class NvmlAway(Exception):
    """The cards cannot be seen. `why` is for everybody and ends without a full stop, `advice` is for the operator."""

    def __init__(self, why: str, advice: str = "") -> None:
        super().__init__(f"{why[:1].upper()}{why[1:]}. {advice}".strip())
        self.why = why
        self.advice = advice


def away(error: pynvml.NVMLError) -> NvmlAway:
    """Return what an error of the library itself means, and what to do."""
    if error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return NvmlAway(
            "this machine has no NVIDIA driver",
            "libnvidia-ml.so.1 was not found. If there are NVIDIA cards here, install their driver; in a container, "
            "start it with NVIDIA's runtime. Without cards, take `local` out of the catalogue's accelerators.",
        )
    if error.value == pynvml.NVML_ERROR_DRIVER_NOT_LOADED:
        return NvmlAway(
            "the NVIDIA driver is installed but not loaded",
            "Run `modprobe nvidia` as root, then `nvidia-smi`; the kernel's log says why it fails.",
        )
    if error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return NvmlAway(
            "the NVIDIA driver was updated while it ran",
            "Its library and its kernel module are of different versions: restart the machine, or unload all nvidia "
            "modules and load them again.",
        )
    if error.value == pynvml.NVML_ERROR_NO_PERMISSION:
        return NvmlAway(
            "the hub may not use the NVIDIA driver",
            "Its account needs to read and write /dev/nvidiactl and /dev/nvidiaN.",
        )
    return NvmlAway(f"the NVIDIA driver reports: {error}", "`nvidia-smi` may say more.")


def read(driver: Driver) -> Seen:
    """Return all cards, after `nvmlInit`; blocks for as long as the driver does.

    Raises
    ------
    pynvml.NVMLError
        The library does not work at all; `away` says what it means.
    """
    cards: list[Card] = []
    unreadable: list[str] = []
    for index in range(driver.nvmlDeviceGetCount()):
        try:
            handle = driver.nvmlDeviceGetHandleByIndex(index)
            cards.append(_card(driver, handle))
        except pynvml.NVMLError as error:
            unreadable.append(f"NVIDIA card {index} cannot be read: {error}")
    return Seen(tuple(cards), tuple(unreadable))


def _card(driver: Driver, handle: Any) -> Card:
    uuid, product = driver.nvmlDeviceGetUUID(handle), driver.nvmlDeviceGetName(handle)
    minor = _optional(driver.nvmlDeviceGetMinorNumber, handle)
    try:
        memory = _memory(driver, handle)
        mode = _optional(driver.nvmlDeviceGetMigMode, handle)
        mig = bool(mode and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE)
        instances = _instances(driver, handle, memory) if mig else ()
        processes = _processes(driver, handle)
        problem = _problem(driver, handle)
    except pynvml.NVMLError as error:
        return Card(uuid, product, minor, problem=_broken(error), complete=False)
    return Card(uuid, product, minor, memory, mig, instances, processes, problem)


def _optional(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call says, None where this card or driver does not have it."""
    try:
        return call(*arguments)
    except pynvml.NVMLError as error:
        if error.value in _UNSUPPORTED:
            return None
        raise


def _memory(driver: Driver, handle: Any) -> int:
    found = _optional(driver.nvmlDeviceGetMemoryInfo, handle)  # none where memory is shared with the machine's
    return int(found.total) if found is not None else 0


def _processes(driver: Driver, handle: Any) -> tuple[int, ...]:
    running = _optional(driver.nvmlDeviceGetComputeRunningProcesses, handle) or ()
    return tuple(sorted({int(process.pid) for process in running}))


# --- partitions --------------------------------------------------------------------------------------------------


def _instances(driver: Driver, handle: Any, card_memory: int) -> tuple[Instance, ...]:
    found = []
    for index in range(driver.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            device = driver.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except pynvml.NVMLError as error:
            if error.value in _NO_INSTANCE:  # indices have gaps
                continue
            raise
        found.append(_instance(driver, device, card_memory))
    return tuple(found)


def _instance(driver: Driver, device: Any, card_memory: int) -> Instance:
    attributes = _optional(driver.nvmlDeviceGetAttributes_v2, device)
    return Instance(
        uuid=driver.nvmlDeviceGetUUID(device),
        profile=_profile(driver.nvmlDeviceGetName(device), attributes, card_memory),
        gpu_instance=driver.nvmlDeviceGetGpuInstanceId(device),
        compute_instance=driver.nvmlDeviceGetComputeInstanceId(device),
        memory=int(attributes.memorySizeMB) * _MIB if attributes is not None else 0,
        processes=_processes(driver, device),
    )


def _profile(name: str, attributes: Any, card_memory: int) -> str:
    """Return the MIG profile: the end of the device's name, such as "NVIDIA A100-SXM4-40GB MIG 1g.5gb".

    Where a driver does not write it there, it follows from the slices, and from the memory in eighths of the card's:
    a 1g.5gb has 4864 MiB of 40 GiB, which is one eighth, rounded up (MIG User Guide, "MIG Device Names").
    """
    _, marked, profile = name.rpartition(" MIG ")
    if marked:
        return profile.strip()
    if attributes is None or not card_memory:
        return ""
    eighths = math.ceil(8 * attributes.memorySizeMB * _MIB / card_memory)
    size = round(eighths / 8 * math.ceil(card_memory / _GIB))
    slices, computes = attributes.gpuInstanceSliceCount, attributes.computeInstanceSliceCount
    part = f"{computes}c." if computes != slices else ""
    return f"{part}{slices}g.{size}gb"


# --- health ------------------------------------------------------------------------------------------------------

_ACTIONS = {
    pynvml.NVML_GPU_RECOVERY_ACTION_GPU_RESET: "it needs a reset",
    pynvml.NVML_GPU_RECOVERY_ACTION_NODE_REBOOT: "it needs a restart of the machine",
    pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_P2P: "its peer-to-peer traffic must be drained",
    pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_AND_RESET: "it must be drained and reset",
}


def _broken(error: pynvml.NVMLError) -> str:
    if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
        return "it has fallen off the bus"
    if error.value == pynvml.NVML_ERROR_RESET_REQUIRED:
        return "it needs a reset"
    return f"the driver reports: {error}"


def _problem(driver: Driver, handle: Any) -> str:
    """Return why nothing of a card may be handed out; empty: it is healthy as far as the driver can say."""
    errors = _optional(
        driver.nvmlDeviceGetTotalEccErrors,
        handle,
        pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
        pynvml.NVML_VOLATILE_ECC,  # since the last reset: an error that was cured by one does not count
    )
    if errors:
        return f"memory errors that could not be corrected: {errors}"
    rows = _optional(driver.nvmlDeviceGetRemappedRows, handle)
    if rows is not None and rows[3]:
        return "a broken memory row could not be replaced"
    if rows is not None and rows[2]:
        return "a broken memory row is replaced by its next reset"
    if _optional(driver.nvmlDeviceGetRetiredPagesPendingStatus, handle):
        return "broken memory is taken out by its next reset"
    return _recovery(driver, handle)


def _recovery(driver: Driver, handle: Any) -> str:
    values = _optional(driver.nvmlDeviceGetFieldValues, handle, [RECOVERY_ACTION_FIELD])
    if values is None or values[0].nvmlReturn != pynvml.NVML_SUCCESS:
        return ""
    action = int(values[0].value.uiVal)
    if action == pynvml.NVML_GPU_RECOVERY_ACTION_NONE:
        return ""
    return _ACTIONS.get(action, f"the driver asks for a recovery (action {action})")
