"""Run in the image `gpu`: its libraries load, agree with what was installed, and compile; prints what was found.

There is no card and no driver here: what needs one must say so, and nothing else may be missing.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from collections.abc import Callable
from importlib.metadata import distribution, version
from pathlib import Path

PROPERTIES = {"cublas": "nvidia-cublas", "cufft": "nvidia-cufft", "curand": "nvidia-curand",
              "cusolver": "nvidia-cusolver", "cusparse": "nvidia-cusparse"}  # fmt: skip
"""Libraries that say their own version, by the package that brings them."""

KERNEL = b"""
extern "C" __global__ void saxpy(float a, const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}
"""
WRONG = b"this is no kernel"

CARDS = {"T4": b"sm_75", "A100": b"sm_80", "L40S": b"sm_89", "H100": b"sm_90"}
"""Cards of the shipped catalogue and its examples, by what is compiled for them."""

NO_DRIVER = 35
"""cudaErrorInsufficientDriver."""


def files() -> list[Path]:
    """Shared libraries that the packages brought."""
    found = []
    for package in [*PROPERTIES.values(), "nvidia-cuda-runtime", "nvidia-cuda-nvrtc", "nvidia-nvjitlink"]:
        of_package = distribution(package).files or []
        found += [Path(str(file.locate())) for file in of_package if re.search(r"\.so(\.\d+)*$", file.name)]
    return sorted(file for file in found if file.exists())


def library(name: str) -> ctypes.CDLL:
    """The one library of this name among the packages' files, as any program would find it: by its name alone."""
    [file] = [file.name for file in files() if re.fullmatch(rf"lib{name}\.so\.\d+", file.name)]
    return ctypes.CDLL(file)


def called(function: Callable[..., int], *arguments: object) -> None:
    """Call a function that answers with a status; 0 is success."""
    status = function(*arguments)
    assert status == 0, f"{function}: status {status}"


def three(package: str) -> str:
    """The first three numbers of a package's version."""
    return ".".join(version(package).split(".")[:3])


def check_versions() -> None:
    """What each library says of itself is what was installed."""
    for name, package in PROPERTIES.items():
        ask, parts = getattr(library(name), f"{name}GetProperty"), []
        for which in range(3):  # MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL
            part = ctypes.c_int(-1)
            called(ask, which, ctypes.byref(part))
            parts.append(str(part.value))
        assert ".".join(parts) == three(package), f"{name} is {parts}, {package} is {version(package)}"
        print(name, ".".join(parts))
    runtime, number = library("cudart"), ctypes.c_int()
    called(runtime.cudaRuntimeGetVersion, ctypes.byref(number))
    cuda = f"{number.value // 1000}.{number.value % 1000 // 10}"
    assert version("nvidia-cuda-runtime").startswith(f"{cuda}."), cuda
    assert version("cuda-toolkit").startswith(f"{cuda}."), cuda
    for name, package in {"nvrtc": "nvidia-cuda-nvrtc", "nvJitLink": "nvidia-nvjitlink"}.items():
        major, minor = ctypes.c_int(), ctypes.c_int()
        called(getattr(library(name), f"{name}Version"), ctypes.byref(major), ctypes.byref(minor))
        found = f"{major.value}.{minor.value}"
        assert version(package).startswith(f"{found}."), f"{name} is {found}, {package} is {version(package)}"
        # nvJitLink links what its own and older releases compiled; NVRTC compiles for the runtime's own.
        assert (major.value, minor.value) >= (number.value // 1000, number.value % 1000 // 10), f"{name} is {found}"
        assert name == "nvJitLink" or found == cuda, f"{name} is {found}, the runtime {cuda}"
        print(name, found)
    print("cuda", cuda)
    count = ctypes.c_int(-1)
    assert runtime.cudaGetDeviceCount(ctypes.byref(count)) == NO_DRIVER


def compiled(nvrtc: ctypes.CDLL, source: bytes, *options: bytes) -> ctypes.c_void_p | None:
    """A program of NVRTC's; none if the source is wrong."""
    program = ctypes.c_void_p()
    called(nvrtc.nvrtcCreateProgram, ctypes.byref(program), source, b"k.cu", 0, None, None)
    status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    return None if status else program


def result(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, kind: str) -> bytes:
    """What was compiled: `PTX` or `CUBIN`."""
    size = ctypes.c_size_t()
    called(getattr(nvrtc, f"nvrtcGet{kind}Size"), program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    called(getattr(nvrtc, f"nvrtcGet{kind}"), program, text)
    return text.raw


def check_compiler() -> None:
    """A kernel becomes assembly and machine code for each card, and what is no kernel does not."""
    nvrtc = library("nvrtc")
    for card, target in CARDS.items():
        program = compiled(nvrtc, KERNEL, b"--gpu-architecture=" + target)
        assert program is not None, card
        assert b".visible .entry saxpy(" in result(nvrtc, program, "PTX"), card
        assert result(nvrtc, program, "CUBIN").startswith(b"\x7fELF"), card
    assert compiled(nvrtc, WRONG) is None
    print("compiled for", *CARDS)


def check_links() -> None:
    """All that a library needs is there, but for the driver's own."""
    found = files()
    for file in found:
        said = subprocess.run(["ldd", file], capture_output=True, text=True, check=True).stdout
        missing = set(re.findall(r"^\s*(\S+) => not found", said, re.MULTILINE))
        assert missing <= {"libcuda.so.1"}, f"{file.name} lacks {missing}"
    print(len(found), "libraries")


assert "LD_LIBRARY_PATH" not in os.environ
check_versions()
check_compiler()
check_links()
print("all found")
