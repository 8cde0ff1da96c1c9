"""Control groups: real ones on this machine, and files as the other version would have them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from spawner.processes import cgroups
from spawner.processes.cgroups import Support
from tests.spawner.local_sessions import SLEEP, STUBBORN, Ground, daemon, ground_of, living, python, says, until

pytestmark = pytest.mark.hub  # real processes under accounts of their own: needs root

MIB = 1024 * 1024
EAT = "import time\nprint('up', flush=True)\nhoard = []\nwhile True:\n  hoard.append(bytearray(b'x' * 1048576))"


@pytest.fixture(scope="module")
def support() -> Support:
    """What this machine allows; the tests need both limits, as the README says."""
    found = cgroups.detect()
    assert found.cpu
    assert found.memory
    return found


@pytest.fixture
async def ground(tmp_path: Path, support: Support) -> AsyncIterator[Ground]:
    async for ground in ground_of(tmp_path, support=support):
        yield ground


def groups(ground: Ground) -> list[Path]:
    return [Path(group) for session in ground.started for group in session.record.cgroups]


async def test_limits_are_in_force_and_the_groups_go_with_the_session(ground: Ground) -> None:
    session = await ground.start(python(SLEEP), cpu=Decimal("0.5"), memory=512 * MIB)
    await until(says(session, "up"))
    made = groups(ground)
    assert all(session.process.pid in cgroups.members((group,)) for group in made)
    said = {
        path.name: path.read_text().strip()
        for group in made
        for path in group.glob("*m*")
        if path.is_file() and os.access(path, os.R_OK) and path.name in ("memory.limit_in_bytes", "memory.max")
    }
    said |= {
        path.name: path.read_text().strip()
        for group in made
        for path in group.glob("cpu.*")
        if path.name in ("cpu.cfs_quota_us", "cpu.max")
    }
    assert str(512 * MIB) in said.values()
    assert {"50000", "50000 100000"} & set(said.values())
    await session.end(grace_s=30)
    assert [group for group in made if group.exists()] == []


async def test_groups_can_be_entered_by_who_knows_them_and_listed_by_nobody(ground: Ground) -> None:
    before = os.umask(0o077)  # as `armillary run` has it
    try:
        session = await ground.start(python(SLEEP), cpu=Decimal("0.5"), memory=512 * MIB)
        await until(says(session, "up"))
    finally:
        os.umask(before)
    made = groups(ground)
    assert made
    assert {oct(folder.stat().st_mode & 0o777) for group in made for folder in (group, group.parent)} == {"0o711"}


async def test_a_memory_limit_is_known_as_the_cause(ground: Ground) -> None:
    session = await ground.start(python(EAT), memory=64 * MIB)
    assert await session.gone == -9
    assert "up" in session.log.read_text()
    assert cgroups.out_of_memory(tuple(groups(ground)))


async def test_an_end_for_other_reasons_is_not_taken_for_memory(ground: Ground) -> None:
    session = await ground.start(python("import os; os.kill(os.getpid(), 9)"), memory=64 * MIB)
    assert await session.gone == -9
    assert not cgroups.out_of_memory(tuple(groups(ground)))


@pytest.mark.parametrize("inner", [SLEEP, STUBBORN])
async def test_a_daemon_without_any_mark_is_ended_by_its_group(ground: Ground, inner: str) -> None:
    """It threw its environment away, left the Unix session and its parents are gone: only the group leads to it."""
    unmarked = f"import os, sys; os.execve(sys.executable, [sys.executable, '-c', {inner!r}], {{}})"
    session = await ground.start(python(daemon(unmarked)))
    await until(lambda: session.log.read_text().count("up") == 2)
    assert len(living(session)) == 2
    assert await session.end(grace_s=0.1) == ()
    assert living(session) == set()
    assert [group for group in groups(ground) if group.exists()] == []


async def test_a_limit_that_cannot_be_set_stops_the_start(ground: Ground) -> None:
    with pytest.raises(OSError, match=r".+"):
        await ground.start(python(SLEEP), memory=-5)
    assert list(ground.records.glob("*.json")) == []
    assert groups(ground) == []


def test_detection_leaves_nothing_behind(support: Support) -> None:
    before = {name for parent in support.parents for name in os.listdir(parent)}
    assert cgroups.detect() == support
    assert {name for parent in support.parents for name in os.listdir(parent)} == before


def test_notices_name_what_nothing_enforces() -> None:
    assert Support(cpu=True, memory=True).notices() == []
    assert Support().notices() == ["CPU and memory limits are advisory on this machine: nothing enforces them."]
    assert Support(cpu=True).notices() == ["The memory limit is advisory on this machine: nothing enforces it."]
    assert Support(memory=True).notices() == ["The CPU limit is advisory on this machine: nothing enforces it."]


# --- version 2, as files: this kernel has no controllers there ---------------------------------------------------


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    """Return a folder with the files that a v2 group shows."""
    for name in ("memory.max", "cpu.max", "cgroup.procs", "memory.events"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("cores", "expected"),
    [(Decimal("0.5"), "50000 100000"), (Decimal(4), "400000 100000"), (Decimal("0.001"), "1000 100000")],
)
def test_v2_cpu(unified: Path, cores: Decimal, expected: str) -> None:
    assert cgroups._limit_cpu(unified, cores)
    assert (unified / "cpu.max").read_text() == expected


def test_v2_memory(unified: Path) -> None:
    assert cgroups._limit_memory(unified, 512 * MIB)
    assert (unified / "memory.max").read_text() == "536870912"


def test_v2_out_of_memory(unified: Path) -> None:
    (unified / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 0\n")
    assert not cgroups.out_of_memory((unified,))
    (unified / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\n")
    assert cgroups.out_of_memory((unified,))


def test_v2_members_are_found_below_too(unified: Path) -> None:
    (unified / "cgroup.procs").write_text("12\n13\n")
    (unified / "below").mkdir()
    (unified / "below" / "cgroup.procs").write_text("14\n")
    assert cgroups.members((unified,)) == {12, 13, 14}


@pytest.mark.parametrize(
    ("mountinfo", "cgroup", "expected"),
    [
        pytest.param(
            "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
            "0::/system.slice/hub.service",
            [
                (
                    "cgroup2",
                    set(),
                    ["/sys/fs/cgroup/system.slice/hub.service", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup"],
                )
            ],
            id="v2-host",
        ),
        pytest.param(
            "30 1 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
            "0::/docker/abc",
            [("cgroup2", set(), ["/sys/fs/cgroup"])],
            id="v2-container-without-namespace",
        ),
        pytest.param(
            "31 1 0:27 / /cg/a\\040b rw - cgroup cgroup rw,cpu,cpuacct\n32 1 0:28 / /cg/memory rw - cgroup cgroup rw,memory",
            "5:memory:/x\n4:cpu,cpuacct:/",
            [("cgroup", {"cpu", "cpuacct"}, ["/cg/a b"]), ("cgroup", {"memory"}, ["/cg/memory/x", "/cg/memory"])],
            id="v1",
        ),
    ],
)
def test_where_groups_may_be_made(mountinfo: str, cgroup: str, expected: list[tuple[str, set[str], list[str]]]) -> None:
    own = cgroups._own_groups(cgroup)
    found = [
        (
            kind,
            controllers,
            [
                str(path)
                for path in cgroups._upwards(
                    mount, cgroups._below(root, own["" if kind == "cgroup2" else ",".join(sorted(controllers))])
                )
            ],
        )
        for kind, controllers, root, mount in cgroups._mounts(mountinfo)
    ]
    assert found == expected
