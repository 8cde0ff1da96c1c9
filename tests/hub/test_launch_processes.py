"""Supervising a process: real ones, small ones."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hub.launch.logs import RotatingLog
from hub.launch.ownership import Children
from hub.launch.processes import Spec, State, Supervised
from hub.launch.restarts import RestartPolicy
from tests.hub.site import ROOT, alive, wait_for

QUICK = RestartPolicy(limit=2, window_s=60, first_pause_s=0.01, longest_pause_s=0.02)


class Bench:
    """A supervised shell script and what was said about it."""

    def __init__(self, folder: Path, script: str, **more: object) -> None:
        self.said: list[str] = []
        self.folder = folder
        spec = Spec("hub", ["sh", "-c", script], dict(os.environ), folder, policy=QUICK, first_policy=QUICK, **more)  # type: ignore[arg-type]
        (folder / "processes").mkdir()
        self.process = Supervised(
            spec, RotatingLog(folder / "hub.log"), Children(folder / "processes"), self.said.append
        )

    async def until(self, what: object) -> None:
        async with asyncio.timeout(10):
            while not what():  # type: ignore[operator]
                await asyncio.sleep(0.01)

    def lines(self) -> list[str]:
        file = self.folder / "hub.log"
        return file.read_text().splitlines() if file.exists() else []


async def test_a_process_that_is_killed_is_started_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "echo up; exec sleep 600")
    bench.process.start()
    await bench.until(lambda: bench.lines() == ["up"])
    first = bench.process.pid
    os.kill(first, signal.SIGKILL)
    await bench.until(lambda: bench.lines() == ["up", "up"])
    assert bench.process.pid != first
    assert bench.said == ["the hub was ended by SIGKILL; starting it again"]
    await bench.process.end()
    assert bench.process.state is State.ENDED
    assert list((tmp_path / "processes").iterdir()) == []


async def test_a_crash_loop_ends_with_the_last_words(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "echo no such setting; exit 3")
    bench.process.start()
    async with asyncio.timeout(10):
        await bench.process.given_up.wait()
    assert bench.process.state is State.GIVEN_UP
    assert "ended with status 3, 3 times within 60 s: not starting it again" in bench.said[-1]
    assert bench.said[-1].endswith("    no such setting")
    await bench.process.end()


async def test_a_program_that_does_not_exist_is_given_up_with_the_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "")
    bench.process.spec = Spec("hub", ["/nonexistent/program"], {}, tmp_path, policy=QUICK, first_policy=QUICK)
    bench.process.start()
    async with asyncio.timeout(10):
        await bench.process.given_up.wait()
    assert "could not be started (No such file or directory)" in bench.said[-1]


async def test_what_ignores_sigterm_is_ended_after_its_grace(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "trap '' TERM; echo up; while :; do sleep 0.05; done", grace_s=0.2)
    bench.process.start()
    await bench.until(lambda: bench.lines() == ["up"])
    pid = bench.process.pid
    await bench.process.end()
    assert not alive(pid)
    assert bench.said == ["the hub does not end by itself; ending it"]


async def test_ending_while_it_waits_to_be_started_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "exit 1")
    slow = RestartPolicy(limit=9, first_pause_s=600, longest_pause_s=600)
    bench.process.spec = Spec("hub", ["sh", "-c", "exit 1"], dict(os.environ), tmp_path, policy=slow, first_policy=slow)
    bench.process.start()
    await bench.until(lambda: bench.said)
    async with asyncio.timeout(5):
        await bench.process.end()
    assert bench.process.state is State.ENDED


async def test_a_very_long_line_does_not_stop_the_log(tmp_path: Path) -> None:
    script = "head -c 300000 /dev/zero | tr '\\0' x; echo; echo after; exec sleep 600"
    bench = Bench(tmp_path, script)
    bench.process.start()
    await bench.until(lambda: bench.lines()[-1:] == ["after"])
    assert sum(len(line) for line in bench.lines()[:-1]) == 300_000
    await bench.process.end()


PARENT = """
import asyncio, os, sys
from pathlib import Path
from hub.launch.logs import RotatingLog
from hub.launch.ownership import Children
from hub.launch.processes import Spec, Supervised

async def main(folder):
    script = "sleep 600 & echo grandchild $!; exec sleep 600"
    spec = Spec("hub", ["sh", "-c", script], dict(os.environ), folder)
    process = Supervised(spec, RotatingLog(folder / "hub.log"), Children(folder), print)
    process.start()
    await asyncio.sleep(600)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_children_die_with_a_killed_launcher_but_sessions_do_not(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], cwd=ROOT) as launcher:
        log = tmp_path / "hub.log"
        wait_for(lambda: log.exists() and "grandchild" in log.read_text(), "the grandchild", 20, 0.02)
        grandchild = int(log.read_text().split()[-1])
        [child] = Children(tmp_path).recorded()
        launcher.kill()
    wait_for(lambda: not alive(child.process.pid), "the child to die with its launcher", 10, 0.02)
    try:
        assert alive(grandchild)
    finally:
        os.kill(grandchild, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
async def test_how_it_ended_is_said_in_words(tmp_path: Path, number: signal.Signals) -> None:
    bench = Bench(tmp_path, f"ulimit -c 0; kill -{int(number)} $$; sleep 5")
    bench.process.start()
    await bench.until(lambda: bench.said)
    assert bench.said[0] == f"the hub was ended by {number.name}; starting it again"
    await bench.process.end()
