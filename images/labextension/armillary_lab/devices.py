"""The session's NVIDIA cards, as NVML tells. Where there is no NVML, or no card for us, there is nothing to tell.

Calls may take as long as the driver likes: make them in a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from armillary_lab.state import Device

__all__ = ["Cards"]

_log = logging.getLogger(__name__)


class Cards:
    """Looks at the cards that the session was given.

    Parameters
    ----------
    environ
        That of the session's server: CUDA_VISIBLE_DEVICES or NVIDIA_VISIBLE_DEVICES names the cards by uuid.
    nvml
        The module `pynvml`; default: imported when it is first needed.
    """

    def __init__(self, environ: Mapping[str, str], nvml: Any = None) -> None:
        self._names = _named(environ)
        self._nvml = nvml
        self._ready = False
        self._given_up = self._names == ()
        self._last: dict[str, int] = {}

    def measure(self) -> list[Device]:
        """Return the cards with their use since the last call; empty where none can be seen."""
        if self._given_up or not self._begin():
            return []
        found = []
        for handle in self._handles():
            device = self._look(handle)
            if device is not None:
                found.append(device)
        return found

    def _begin(self) -> bool:
        if self._ready:
            return True
        try:
            if self._nvml is None:
                import pynvml

                self._nvml = pynvml
            self._nvml.nvmlInit()
        except ImportError:
            self._given_up = True
        except Exception as error:  # noqa: BLE001  # a driver that is not there, or does not fit: nothing to tell
            _log.info("The session's accelerators cannot be measured: %s", error)
            self._given_up = True
        else:
            self._ready = True
        return self._ready

    def _handles(self) -> list[Any]:
        nvml = self._nvml
        try:
            if self._names is None:
                return [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
            return [nvml.nvmlDeviceGetHandleByUUID(name) for name in self._names]
        except nvml.NVMLError as error:
            _log.debug("The session's accelerators cannot be found: %s", error)
            return []

    def _look(self, handle: Any) -> Device | None:
        nvml = self._nvml
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            name = _text(nvml.nvmlDeviceGetName(handle))
        except nvml.NVMLError:
            return None
        return Device(name, self._used(handle), int(memory.used), int(memory.total))

    def _used(self, handle: Any) -> float | None:
        """Return the mean of what the driver sampled since the last call; of a slice it tells nothing."""
        nvml = self._nvml
        try:
            uuid = _text(nvml.nvmlDeviceGetUUID(handle))
            last = self._last.get(uuid, 0)
            _, samples = nvml.nvmlDeviceGetSamples(handle, nvml.NVML_GPU_UTILIZATION_SAMPLES, last)
            new = [sample for sample in samples if sample.timeStamp > last]
            if new:
                self._last[uuid] = max(sample.timeStamp for sample in new)
                return min(1.0, sum(sample.sampleValue.uiVal for sample in new) / len(new) / 100)
        except nvml.NVMLError:
            pass  # not every driver keeps samples
        try:
            return min(1.0, float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100)
        except nvml.NVMLError:
            return None


def _named(environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the uuids of the session's cards; None: all that can be seen, empty: none."""
    for variable in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        said = environ.get(variable)
        if said is None:
            continue
        words = [word.strip() for word in said.split(",") if word.strip()]
        if not words or words in (["void"], ["none"], ["-1"]):
            return ()
        uuids = tuple(word for word in words if word.startswith(("GPU-", "MIG-")))
        return uuids or None  # numbers, or "all": of what this container can see
    return None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
