from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import cache, processes
from tests.lab.errors import LabError


@pytest.fixture(autouse=True)
def _own_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ARMILLARY_LAB_RUN", str(tmp_path))
    yield
    processes.end_all(processes.marked())


def test_daemon_starts_once_and_stops() -> None:
    assert processes.start("sleeper", ["sleep", "600"])
    pid = processes.running("sleeper")
    assert pid is not None
    assert list(processes.marked()) == [pid]

    assert not processes.start("sleeper", ["sleep", "600"])
    assert processes.running("sleeper") == pid
    assert os.getsid(pid) == pid

    processes.stop("sleeper")
    assert processes.running("sleeper") is None
    assert list(processes.marked()) == []
    assert processes.names() == []


def test_daemon_that_ignores_sigterm_is_killed() -> None:
    processes.start("stubborn", ["sh", "-c", "trap '' TERM; echo on; while :; do sleep 1; done"])
    processes.wait_until(lambda: "on" in processes.log_tail("stubborn"), "its trap", "stubborn")

    processes.stop("stubborn", grace=0.1)

    assert processes.running("stubborn") is None


@pytest.mark.parametrize("wrong", [{"start": 1}, {"boot": "another"}], ids=["recycled-pid", "before-a-reboot"])
def test_process_that_only_shares_the_pid_is_left_alone(wrong: dict[str, object]) -> None:
    processes.start("sleeper", ["sleep", "600"])
    pid = processes.running("sleeper")
    record = cache.run_folder() / "pids" / "sleeper.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | wrong))

    assert processes.running("sleeper") is None
    processes.stop("sleeper")

    assert list(processes.marked()) == [pid]


def test_daemon_that_dies_is_an_error_with_its_last_words() -> None:
    processes.start("failing", ["sh", "-c", "echo no such luck; exit 3"])
    with pytest.raises(LabError, match=r"failing ended while its readiness was awaited(.|\n)*no such luck"):
        processes.wait_until(lambda: False, "its readiness", "failing")


def test_processes_without_the_mark_are_not_the_labs() -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        assert list(processes.marked()) == []
        other.kill()
