"""The environment that shows a session the devices it was given, and no others. Pure.

These variables are what programs go by; what a session *may* open is up to `spawner.devices.enforcement`. They are set
after everything else, so that no image, profile or user sets them otherwise by mistake.
"""

from __future__ import annotations

from collections.abc import Sequence

from spawner.devices.inventory import SIMULATED

__all__ = ["device_environment", "is_real"]

_NO_OTHER = {
    "HIP_VISIBLE_DEVICES": "-1",  # as with CUDA, a number that does not exist ends the list ("ROCm: GPU isolation")
    "ROCR_VISIBLE_DEVICES": "-1",
    "ONEAPI_DEVICE_SELECTOR": "*:cpu",  # processors only (DPC++, "Environment Variables")
}
"""Against cards of other makers, of which the local engine hands out none."""


def is_real(uuid: str) -> bool:
    """Return whether this is a device, and not an imagined one."""
    return not uuid.startswith(SIMULATED)


def device_environment(accelerator: str | None, devices: Sequence[str]) -> dict[str, str]:
    """Return the variables for a session with this accelerator (None: without one) and these devices.

    CUDA_VISIBLE_DEVICES empty means none to CUDA: it counts only what comes before the first name that does not exist
    ("CUDA C++ Programming Guide", environment variables). NVIDIA_VISIBLE_DEVICES is read by containers that a session
    starts, where empty would mean nothing decided, so it is `void`.
    """
    real = [uuid for uuid in devices if is_real(uuid)]
    told = {
        "CUDA_VISIBLE_DEVICES": ",".join(real),
        "NVIDIA_VISIBLE_DEVICES": ",".join(real) or "void",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        **_NO_OTHER,
    }
    if accelerator is not None:
        told["ARMILLARY_ACCELERATOR"] = accelerator
        told["ARMILLARY_DEVICES"] = ",".join(devices)
        if len(real) < len(devices):
            told["ARMILLARY_ACCELERATOR_SIMULATED"] = "1"
    return told
