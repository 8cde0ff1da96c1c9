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


COLLECTED = """
import gc, weakref
from hub.interpreter import look_through_what_is_new

class Thing:
    pass

def cycle():
    one = Thing()
    one.itself = one
    return one

gc.set_threshold(0)  # by itself it never comes
look_through_what_is_new(rest_s=0.0)
look_through_what_is_new()
assert len(gc.callbacks) == 1
first = gc.get_freeze_count()
early, late = cycle(), cycle()
gc.collect()
assert gc.get_freeze_count() >= first + 2, "what was looked through is left alone"
gone = weakref.ref(early)
del early
gc.collect()
assert gone() is not None, "it is looked through no more"
new = cycle()
fresh = weakref.ref(new)
del new
gc.collect()
assert fresh() is None, "what is new is"
more = [cycle() for _ in range(first)]
for _ in range(8):
    gc.collect()
    if gc.get_freeze_count() == 0:
        break
else:
    raise AssertionError("there is half as much again, and all is looked through the next time")
gc.collect()
assert gone() is None
whole = gc.get_freeze_count()
assert whole > 1.9 * first
for _ in range(20):
    gc.collect()
    assert gc.get_freeze_count() >= whole - 10, "and is left alone again"
del more
most = 0
for _ in range(200):
    some = [cycle() for _ in range(first // 8)]
    gc.collect()
    most = max(most, gc.get_freeze_count())
    del some
assert most < 6 * first, f"what has become garbage while it was left alone is found: {most} of {first}"
assert late.itself is late
print("held")
"""


def test_what_was_looked_through_for_garbage_is_left_alone_until_there_is_half_as_much_again() -> None:
    command = [sys.executable, "-c", COLLECTED]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert found.stdout == "held\n", found.stderr


RESTED = """
import gc
from hub.interpreter import look_through_what_is_new

class Thing:
    pass

def looked_through(times):
    for _ in range(16):
        more.extend(Thing() for _ in range(round(times * first / 16)))
        gc.collect()
        if gc.get_freeze_count() == 0:
            return True
    return False

gc.set_threshold(0)
gc.collect()
look_through_what_is_new()
first = gc.get_freeze_count()
more = []
assert not looked_through(3), "it was hardly up"
assert looked_through(6), "eight times as much is looked through in any case"
print("held")
"""


def test_a_crowd_that_comes_within_minutes_is_looked_through_for_garbage_once_it_is_served() -> None:
    command = [sys.executable, "-c", RESTED]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert found.stdout == "held\n", found.stderr
