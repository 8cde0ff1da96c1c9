"""The tool that kills at a step kills there, the one who was meant, once; else the table of steps would prove nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.killing import KillOrder

PLAIN, SLOW = "victim:plain", "victim:Owner.slow"
MODULE = """
import asyncio

def plain():
    print("plain", flush=True)

class Owner:
    async def slow(self):
        print("slow", flush=True)
"""
PROGRAM = "import asyncio, victim; victim.plain(); asyncio.run(victim.Owner().slow()); print('end')"


def run(order: KillOrder, folder: Path, *words: str) -> tuple[int, list[str]]:
    (folder / "victim.py").write_text(MODULE)
    environ = {**os.environ, **order.environ}
    environ["PYTHONPATH"] += f"{os.pathsep}{folder}"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.split()


@pytest.fixture
def order(tmp_path: Path) -> KillOrder:
    return KillOrder(tmp_path, [PLAIN, SLOW])


@pytest.mark.parametrize(
    ("when", "step", "said"),
    [
        ("before", PLAIN, []),
        ("after", PLAIN, ["plain"]),
        ("before", SLOW, ["plain"]),
        ("after", SLOW, ["plain", "slow"]),
    ],
)
def test_it_dies_where_it_was_told_to_and_only_once(
    order: KillOrder, tmp_path: Path, when: str, step: str, said: list[str]
) -> None:
    order.give(when, step, "service")
    assert run(order, tmp_path, "service") == (-signal.SIGKILL, said)
    assert order.taken
    assert run(order, tmp_path, "service") == (0, ["plain", "slow", "end"])


def test_nobody_else_dies_and_a_withdrawn_order_is_none(order: KillOrder, tmp_path: Path) -> None:
    order.give("before", PLAIN, "hub")
    assert run(order, tmp_path, "service") == (0, ["plain", "slow", "end"])
    assert not order.taken
    order.give("before", PLAIN, "service")
    order.withdraw()
    assert run(order, tmp_path, "service") == (0, ["plain", "slow", "end"])


def test_another_process_can_be_killed_instead(order: KillOrder, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        order.give("after", PLAIN, "service", other.pid)
        assert run(order, tmp_path, "service") == (0, ["plain", "slow", "end"])
        assert other.wait(10) == -signal.SIGKILL
