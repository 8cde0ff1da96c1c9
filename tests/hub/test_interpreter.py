"""A thread that writes into the database beside one that computes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from hub.db.clock import Now
from hub.db.engine import connect
from hub.db.transaction import write
from hub.interpreter import hand_over_soon


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def test_a_transaction_does_not_wait_five_milliseconds_for_each_statement(tmp_path: Path) -> None:
    database = connect(f"sqlite:///{tmp_path}/a.sqlite")
    over = threading.Event()

    def computes() -> None:
        while not over.is_set():
            sum(range(100))

    def took() -> float:
        def work(connection: object) -> None:
            for _ in range(40):
                connection.execute(select(Now()))  # type: ignore[attr-defined]

        began = time.perf_counter()
        write(database, work)
        return time.perf_counter() - began

    took()
    thread = threading.Thread(target=computes)
    thread.start()
    try:
        before = min(took() for _ in range(5))
        hand_over_soon()
        after = min(took() for _ in range(5))
    finally:
        over.set()
        thread.join()
    assert after < before / 2
