"""Ports on the loopback address: choosing one, and proving that it is ours that listens there.

Between choosing and binding another process may take the port, and then the hub would lead a person, cookies
included, to somebody else's program. So nothing that merely answers is trusted. Blocking only on /proc.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from spawner.processes.identity import Process

__all__ = ["ADDRESS", "Listener", "NoFreePort", "belongs_to", "free_port", "listeners"]

ADDRESS = "127.0.0.1"
_LISTEN = "0A"  # include/net/tcp_states.h
_TRIES = 200


class NoFreePort(Exception):
    """Every port of the range that was tried is taken."""


@dataclass(frozen=True)
class Listener:
    """A listening socket, from /proc/net/tcp and tcp6."""

    uid: int
    inode: int


def free_port(first: int, last: int, *, avoid: Iterable[int] = ()) -> int:
    """Return a port nobody listens on just now; `first` 0 lets the kernel choose.

    Raises
    ------
    NoFreePort
        None was found in the range.
    """
    taken = set(avoid)
    candidates = [0] * _TRIES if first == 0 else random.sample(range(first, last + 1), min(_TRIES, last + 1 - first))
    for candidate in candidates:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ADDRESS, candidate))
            except OSError:
                continue
            port: int = probe.getsockname()[1]
        if port not in taken:
            return port
    raise NoFreePort(f"no free port between {first} and {last} on {ADDRESS}")


def listeners(port: int, proc: Path = Path("/proc")) -> list[Listener]:
    """Return who listens where a connection to this loopback port would end up."""
    found = []
    for name in ("net/tcp", "net/tcp6"):
        try:
            lines = (proc / name).read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for line in lines:
            fields = line.split()
            _, _, number = fields[1].rpartition(":")
            if fields[3] == _LISTEN and int(number, 16) == port:
                found.append(Listener(uid=int(fields[7]), inode=int(fields[9])))
    return found


def belongs_to(listener: Listener, processes: Iterable[Process]) -> bool:
    """Return whether one of these processes holds the socket."""
    wanted = f"socket:[{listener.inode}]"
    for process in processes:
        folder = f"/proc/{process.pid}/fd"
        try:
            for name in os.listdir(folder):
                try:
                    if os.readlink(f"{folder}/{name}") == wanted:
                        return True
                except FileNotFoundError:
                    continue
        except OSError:  # it ended meanwhile
            continue
    return False
