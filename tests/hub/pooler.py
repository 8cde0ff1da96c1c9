"""A strict double of PgBouncer where it follows prepared statements (`max_prepared_statements` above 0, from 1.21 on):
what a client prepares by the protocol has another name at the server, where SQL does not find it, and whoever prepares
a name twice is cut off (its src/prepare.c)."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import closing, suppress
from pathlib import Path

__all__ = ["Pooler"]

_NO_TLS = (80877103, 80877104)
_TWICE = b"SFATAL\0C08P01\0Mprepared statement name is already in use\0\0"


class Pooler:
    """Listens on `folder`, as a PostgreSQL server does; `refused` are the names that were prepared twice."""

    def __init__(self, server: Path, folder: Path) -> None:
        self.refused: list[bytes] = []
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / server.name))
        self._listener.listen()
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Take nobody any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with closing(client), closing(socket.socket(socket.AF_UNIX)) as server, suppress(OSError):
            server.connect(str(self._server))
            while True:
                first = _read(client)
                if struct.unpack("!I", first[:4])[0] not in _NO_TLS:
                    break
                client.sendall(b"N")
            server.sendall(struct.pack("!I", len(first) + 4) + first)
            threading.Thread(target=_pass_on, args=(server, client), daemon=True).start()
            names: dict[bytes, bytes] = {}
            while True:
                kind = _exactly(client, 1)
                said = self._renamed(kind, _read(client), names)
                if said is None:
                    client.sendall(b"E" + struct.pack("!I", len(_TWICE) + 4) + _TWICE)
                    return
                server.sendall(kind + struct.pack("!I", len(said) + 4) + said)

    def _renamed(self, kind: bytes, said: bytes, names: dict[bytes, bytes]) -> bytes | None:
        """Return a message as the server gets it; None: its client is cut off."""
        if kind == b"P" and said[:1] != b"\0":
            name, rest = said.split(b"\0", 1)
            if name in names:
                self.refused.append(name)
                return None
            names[name] = b"PGBOUNCER_%d" % (len(names) + 1)
            return names[name] + b"\0" + rest
        if kind == b"B":
            portal, name, rest = said.split(b"\0", 2)
            return portal + b"\0" + names.get(name, name) + b"\0" + rest
        if kind in (b"D", b"C") and said[:1] == b"S":
            return b"S" + names.get(said[1:-1], said[1:-1]) + b"\0"
        return said


def _read(whence: socket.socket) -> bytes:
    return _exactly(whence, struct.unpack("!I", _exactly(whence, 4))[0] - 4)


def _exactly(whence: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = whence.recv(size - len(found))
        if not more:
            raise OSError("it has ended")
        found += more
    return found


def _pass_on(whence: socket.socket, whither: socket.socket) -> None:
    with suppress(OSError):
        while more := whence.recv(65536):
            whither.sendall(more)
        whither.shutdown(socket.SHUT_RDWR)
