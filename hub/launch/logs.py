"""Log files with an upper size: a process's output goes in line by line, old parts fall away."""

import contextlib
import os
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

KEPT_LINES = 30


class RotatingLog:
    """One process's log: `hub.log`, and before it `hub.log.1` … up to `backups`, each at most `limit_bytes`.

    A disk that is full must not take the process down with it: lines that cannot be written are dropped
    and counted, and the next line that can be written says so.
    """

    def __init__(self, path: Path, *, limit_bytes: int = 5_000_000, backups: int = 3) -> None:
        self.path = path
        self.limit_bytes = limit_bytes
        self.backups = backups
        self.tail: deque[str] = deque(maxlen=KEPT_LINES)
        self._file: BinaryIO | None = None
        self._size = 0
        self._dropped = 0

    def write(self, line: bytes) -> None:
        """Append one line (with its newline)."""
        self.tail.append(line.decode("utf-8", "replace").rstrip())
        try:
            if self._dropped:
                lost, self._dropped = self._dropped, 0
                try:
                    self._append(b"(%d lines could not be written here)\n" % lost)
                except OSError:
                    self._dropped = lost
                    raise
            self._append(line)
        except OSError:
            self._dropped += 1
            self.close()

    def close(self) -> None:
        """Close the file; a later `write` opens it again."""
        if self._file is not None:
            # A full disk is reported here once more; the lines are counted as dropped already.
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _append(self, line: bytes) -> None:
        if self._file is not None and self._size and self._size + len(line) > self.limit_bytes:
            self.close()
            self._rotate()
        if self._file is None:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = os.fdopen(descriptor, "ab", buffering=0)
            self._size = os.fstat(descriptor).st_size
        self._file.write(line)
        self._size += len(line)

    def _rotate(self) -> None:
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{n}") for n in range(1, self.backups + 1))]
        for newer, older in reversed(list(pairwise(names))):
            with contextlib.suppress(FileNotFoundError):
                newer.replace(older)
