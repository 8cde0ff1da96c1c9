"""What the threads of one process share."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

THREADS = """
import ctypes, threading
from hub.interpreter import few_arenas

{first}
together = threading.Barrier(12)
kept = []

def work():
    together.wait(60)  # one that ends hands its arena on to the next
    kept.append(bytes(100_000))
    together.wait(60)

threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
ctypes.CDLL(None).malloc_stats()
"""


def arenas(first: str) -> int:
    """In how many places twelve threads of a process of its own keep memory, after it has done `first`."""
    command = [sys.executable, "-c", THREADS.format(first=first)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    return found.stderr.count("Arena ")


def test_threads_keep_their_memory_in_the_same_places() -> None:
    assert arenas("few_arenas()") <= 2
    assert arenas("") > 2, "else there is nothing to be shared"
