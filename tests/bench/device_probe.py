"""What a process can see and open of NVIDIA's cards, as one JSON line. Runs inside a session, with the standard library.

CUDA is asked through its driver library (CUDA Driver API: cuInit, cuDeviceGetCount, cuDeviceGetUuid_v2), so that no
framework has to be installed; it is asked twice, once in a process without the variables that choose devices: what
that one sees is what nothing but the kernel keeps from a session.
"""

from __future__ import annotations

import ctypes
import json
import os
import uuid
from pathlib import Path
from typing import Any

_NO_DEVICE = 100
_CHOOSING = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


def cuda() -> dict[str, Any]:
    """Return the uuids (without prefix) of the devices that CUDA offers, or why it offers none."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"uuids": [], "error": str(error)}
    code = library.cuInit(0)
    if code != 0:
        return {"uuids": [], "error": "" if code == _NO_DEVICE else f"cuInit {code}"}
    count = ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    found = []
    for index in range(count.value):
        raw = (ctypes.c_ubyte * 16)()
        if library.cuDeviceGetUuid_v2(ctypes.byref(raw), index) == 0:
            found.append(str(uuid.UUID(bytes=bytes(raw))))
    return {"uuids": found, "error": ""}


def nodes() -> dict[str, bool]:
    """Return every device node of a card, with whether it can be opened."""
    found = {}
    for path in sorted(Path("/dev").glob("nvidia[0-9]*")):
        try:
            os.close(os.open(path, os.O_RDWR))
            found[path.name] = True
        except OSError:
            found[path.name] = False
    return found


def bare() -> dict[str, Any]:
    """Return what CUDA says to a process that has thrown away the variables that choose devices."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        for name in _CHOOSING:
            os.environ.pop(name, None)
        os.write(writing, json.dumps(cuda()).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        said = answer.read()
    os.wait()
    found: dict[str, Any] = json.loads(said or b'{"uuids": [], "error": "it crashed"}')
    return found


if __name__ == "__main__":
    without = bare()  # first: CUDA does not survive a fork
    print(json.dumps({"cuda": cuda(), "bare": without, "nodes": nodes()}), flush=True)
