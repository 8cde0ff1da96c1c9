"""One launcher per state folder, and children of a killed one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hub.launch.ownership import AlreadyRuns, Children, RunLock
from spawner.processes.identity import look


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_second_launcher_learns_where_the_first_runs(tmp_path: Path) -> None:
    first = RunLock(tmp_path / "run.lock")
    first.announce("http://127.0.0.1:8000")
    with pytest.raises(AlreadyRuns) as caught:
        RunLock(tmp_path / "run.lock")
    assert caught.value.address == "http://127.0.0.1:8000"
    first.release()
    RunLock(tmp_path / "run.lock").release()


def test_second_launcher_while_the_first_still_starts(tmp_path: Path) -> None:
    first = RunLock(tmp_path / "run.lock")
    with pytest.raises(AlreadyRuns) as caught:
        RunLock(tmp_path / "run.lock")
    assert caught.value.address == ""
    first.release()


def test_what_a_killed_launcher_left_is_ended(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    children = Children(tmp_path)
    children.add("hub", sleeper.pid)
    assert [child.name for child in Children(tmp_path).end_survivors(5)] == ["hub"]
    assert sleeper.wait(5) == -15
    assert list(tmp_path.iterdir()) == []


def test_what_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        Children(tmp_path).add("hub", process.pid)
        Children(tmp_path).end_survivors(0.2)
        assert process.wait(5) == -9


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "another"}], ids=["recycled-pid", "before-a-reboot"])
def test_a_foreign_process_with_the_same_pid_is_never_ended(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], change: dict[str, object]
) -> None:
    stat = look(sleeper.pid)
    assert stat is not None
    (tmp_path / "hub.json").write_text(json.dumps(asdict(replace(stat.process, **change))))  # type: ignore[arg-type]
    assert Children(tmp_path).end_survivors(5) == []
    assert sleeper.poll() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1}', "[]"])
def test_a_torn_record_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "hub.json").write_text(text)
    assert Children(tmp_path).end_survivors(1) == []
