"""Which ports the launcher uses: what was asked for is checked, what is internal is chosen and kept."""

import errno
import json
import os
import socket
from pathlib import Path

from hub.launch.problem import Problem
from hub.launch.secrets import write_private


def is_free(host: str, port: int) -> bool:
    """Whether a program could listen there now. Raises Problem where this machine does not allow it at all."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the servers do: an address whose last connections are only fading (TIME_WAIT) counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            match error.errno:
                case errno.EADDRINUSE:
                    return False
                case errno.EACCES | errno.EPERM:
                    raise Problem(f"port {port} needs root; choose one above 1023, for instance --port 8000") from None
                case _:
                    raise Problem(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return True


def need(host: str, port: int, option: str) -> None:
    """Raise Problem, with a port that would do, if this one is taken."""
    if not is_free(host, port):
        raise Problem(
            f"port {port} is taken by another program; stop that, or choose another port: {option} "
            f"{next_free(host, port + 1)}"
        )


def next_free(host: str, start: int, avoid: frozenset[int] = frozenset()) -> int:
    """Find the first free port from `start` upwards."""
    lowest = 1 if os.geteuid() == 0 else 1024
    for port in range(max(start, lowest), min(start + 500, 65536)):
        if port not in avoid and is_free(host, port):
            return port
    raise Problem(f"no free port between {start} and {start + 500}")


class InternalPorts:
    """Ports that no person types: kept from start to start, because running sessions know the hub's address."""

    def __init__(self, file: Path, taken: frozenset[int]) -> None:
        self._file = file
        self._taken = taken
        self._kept = _read(file)

    def pick(self, name: str, preferred: int) -> int:
        """Return the port of last time if it is free, else the first free one from `preferred` upwards."""
        port = self._kept.get(name, preferred)
        if port in self._taken or not is_free("127.0.0.1", port):
            port = next_free("127.0.0.1", preferred, self._taken)
        self._kept[name] = port
        self._taken |= {port}
        write_private(self._file, json.dumps(self._kept, sort_keys=True))
        return port


def _read(file: Path) -> dict[str, int]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}  # not written yet, or torn by a full disk: ports are chosen anew
    if not isinstance(found, dict):
        return {}
    return {name: port for name, port in found.items() if isinstance(port, int) and 0 < port < 65536}
