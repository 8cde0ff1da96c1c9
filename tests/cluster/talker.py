"""Somebody who uses a server all the while, and remembers every request that failed."""

from __future__ import annotations

import threading
import time
from typing import Self

import httpx

__all__ = ["Talker"]


class Talker:
    """Asks an address again and again while the block runs."""

    def __init__(self, address: str, token: str) -> None:
        self._address = address
        self._headers = {"Authorization": f"token {token}"}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._talk)
        self.answers = 0
        self.failures: list[str] = []

    def _talk(self) -> None:
        with httpx.Client(headers=self._headers, timeout=60) as http:
            while not self._stop.wait(0.02):
                try:
                    answer = http.get(self._address)
                except httpx.HTTPError as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                    continue
                if answer.status_code == 200:
                    self.answers += 1
                else:
                    self.failures.append(f"{answer.status_code}: {answer.text[:200]}")

    def hear(self, more: int, within_s: float = 120.0) -> None:
        """Wait until so many more requests were answered or one has failed."""
        wanted, deadline = self.answers + more, time.monotonic() + within_s
        while self.answers < wanted and not self.failures:
            assert time.monotonic() < deadline, f"only {self.answers} of {wanted} answers"
            time.sleep(0.05)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
