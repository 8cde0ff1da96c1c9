"""The device filter of control groups v2: a small BPF program, made and attached without any library.

Version 2 has no files for devices; the kernel asks a program of type BPF_PROG_TYPE_CGROUP_DEVICE at each open and mknod
(Linux, Documentation/admin-guide/cgroup-v2.rst, "Device controller"; include/uapi/linux/bpf.h for all numbers here).
It needs CAP_BPF (or CAP_SYS_ADMIN) and CAP_NET_ADMIN; the group keeps the program, and it goes with the group.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Collection
from pathlib import Path

__all__ = ["attach", "program"]

# Little-endian machines only: the halves of an instruction's second byte are the other way round on others.
_SYSCALL = {"x86_64": 321, "aarch64": 280, "ppc64le": 361, "riscv64": 280}
_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE = 15, 6
_ALLOW_MULTI = 2  # beside a filter that systemd or a container runtime has set: all of them must agree
_CHARACTER = 2
_LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_AND_IMMEDIATE = 0x57
_MOVE_IMMEDIATE = 0xB7
_JUMP_EQUAL, _JUMP_NOT_EQUAL = 0x15, 0x55
_EXIT = 0x95


def _instruction(code: int, target: int = 0, source: int = 0, jump: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, jump, value)


def program(majors: Collection[int], granted: Collection[tuple[int, int]]) -> bytes:
    """Return the program: character devices of these majors are closed but for those granted, all else is open.

    It reads `struct bpf_cgroup_dev_ctx`: the kind of device in the low half of the first word, major, minor.
    """
    opened, closed = (
        [_instruction(_MOVE_IMMEDIATE, 0, value=1), _instruction(_EXIT)],
        [
            _instruction(_MOVE_IMMEDIATE, 0, value=0),
            _instruction(_EXIT),
        ],
    )
    code = [
        _instruction(_LOAD_WORD, 2, 1, 0),
        _instruction(_AND_IMMEDIATE, 2, value=0xFFFF),
        _instruction(_JUMP_EQUAL, 2, jump=2, value=_CHARACTER),
        *opened,
        _instruction(_LOAD_WORD, 3, 1, 4),
        _instruction(_LOAD_WORD, 4, 1, 8),
    ]
    for major, minor in sorted(granted):
        code += [
            _instruction(_JUMP_NOT_EQUAL, 3, jump=3, value=major),
            _instruction(_JUMP_NOT_EQUAL, 4, jump=2, value=minor),
            *opened,
        ]
    for major in sorted(majors):
        code += [_instruction(_JUMP_NOT_EQUAL, 3, jump=2, value=major), *closed]
    return b"".join([*code, *opened])


def attach(group: Path, code: bytes) -> None:
    """Let this program decide about the devices of a group and those below it.

    Raises
    ------
    OSError
        The kernel or its rules do not allow it.
    """
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(f"the number of bpf(2) on {platform.machine()} is not known here")
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"MIT")
    load = struct.pack(
        "=IIQQIIQII", _TYPE_CGROUP_DEVICE, len(code) // 8, _address(instructions), _address(licence), 0, 0, 0, 0, 0
    )
    loaded = _bpf(number, _PROG_LOAD, load)
    try:
        folder = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _bpf(number, _PROG_ATTACH, struct.pack("=IIII", folder, loaded, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))
        finally:
            os.close(folder)
    finally:
        os.close(loaded)


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def _bpf(number: int, command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    argument = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = libc.syscall(ctypes.c_long(number), ctypes.c_int(command), argument, ctypes.c_uint(len(attributes)))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"bpf(2): {os.strerror(error)}")
    return result
