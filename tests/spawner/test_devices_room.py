"""How much room a machine has for sessions: files as the kernel shows them, and this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spawner.devices.count import Room
from spawner.devices.room import room

CORES = len(os.sched_getaffinity(0)) * 1000
GIB = 1 << 30


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Return a /proc of a machine with 64 GiB, in whose one hierarchy (v2) this process is in /box/hub."""
    folder, groups = tmp_path / "proc", tmp_path / "cgroup"
    (folder / "self").mkdir(parents=True)
    (groups / "box" / "hub").mkdir(parents=True)
    (folder / "meminfo").write_text(f"MemTotal:       {64 * GIB // 1024} kB\nMemFree: 12 kB\n")
    (folder / "self" / "cgroup").write_text("0::/box/hub\n")
    (folder / "self" / "mountinfo").write_text(f"30 1 0:26 / {groups} rw - cgroup2 cgroup2 rw\n")
    return folder


def test_without_limits_it_is_the_machine(proc: Path) -> None:
    assert room(proc) == Room(CORES, 64 * GIB)


def test_the_narrowest_group_above_counts(proc: Path, tmp_path: Path) -> None:
    box = tmp_path / "cgroup" / "box"
    (box / "memory.max").write_text(f"{8 * GIB}\n")
    (box / "hub" / "memory.max").write_text("max\n")
    (box / "hub" / "cpu.max").write_text("50000 100000\n")
    (box / "cpu.max").write_text("max 100000\n")
    assert room(proc) == Room(500, 8 * GIB)


def test_the_limits_of_version_1(proc: Path, tmp_path: Path) -> None:
    box = tmp_path / "cgroup" / "box"
    (box / "memory.limit_in_bytes").write_text(f"{2 * GIB}\n")
    (box / "cpu.cfs_quota_us").write_text("-1\n")
    (box / "hub" / "cpu.cfs_quota_us").write_text("25000\n")
    (box / "hub" / "cpu.cfs_period_us").write_text("100000\n")
    assert room(proc) == Room(250, 2 * GIB)


def test_this_machine_has_some() -> None:
    found = room()
    assert 0 < found.cpu_m <= CORES
    assert found.memory > 0
