"""Closing devices, for real: processes in control groups of both versions, with memory devices in the place of cards."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from spawner.devices import bpf
from spawner.devices.enforcement import Rule, apply
from spawner.devices.nodes import Node
from spawner.processes import cgroups
from spawner.processes.cgroups import Support
from spawner.processes.isolation import Isolation
from spawner.processes.machine import Machine
from spawner.processes.session import start
from tests.spawner.local_sessions import Ground, ground_of, python, replace, until

pytestmark = pytest.mark.hub  # control groups: needs root

NULL, URANDOM = Node(1, 3, "/dev/null"), Node(1, 9, "/dev/urandom")
RULE = Rule(frozenset({1}), (NULL, URANDOM))
"""Closes all memory devices but two, without which no Python starts; so /dev/zero and /dev/full are cards to it."""

TRY = """
import os
for path in ("/dev/null", "/dev/urandom", "/dev/zero", "/dev/full", "/dev/ptmx"):
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NOCTTY))
        print(path, "open", flush=True)
    except OSError as error:
        print(path, error.strerror, flush=True)
try:
    os.mknod("zero", 0o20666, os.makedev(1, 5))
    print("made", flush=True)
except OSError as error:
    print("not made", flush=True)
"""
CLOSED = [
    "/dev/null open",
    "/dev/urandom open",
    "/dev/zero Operation not permitted",
    "/dev/full Operation not permitted",
    "/dev/ptmx open",
    "not made",
]


@pytest.fixture(params=["v1", "v2"])
def support(request: pytest.FixtureRequest) -> Support:
    """Return each version's own way; this project's test machine has both hierarchies, as the README says."""
    for kind, controllers, _, mount in cgroups._mounts(Path("/proc/self/mountinfo").read_text()):
        if (request.param == "v2" and kind == "cgroup2") or (request.param == "v1" and "devices" in controllers):
            return Support((mount,), devices=True)
    pytest.fail(f"no hierarchy of control groups {request.param} is mounted: cgroup2 and `-o devices` are needed")


@pytest.fixture
async def ground(tmp_path: Path, support: Support) -> AsyncIterator[Ground]:
    async for ground in ground_of(tmp_path, support=support):
        yield ground


async def said(ground: Ground, rule: Rule | None, **order: object) -> list[str]:
    """Return what a session with this rule finds open."""
    made = replace(ground.order(python(TRY), **order), devices=rule)  # type: ignore[arg-type]
    session = await start(made)
    ground.started.append(session)
    await session.gone
    return session.log.read_text().splitlines()


async def test_a_session_opens_what_it_was_given_and_nothing_else_of_the_kind(ground: Ground) -> None:
    assert await said(ground, RULE) == CLOSED


async def test_under_an_account_of_its_own_too(ground: Ground) -> None:
    ground.isolation = Isolation("uid", mounts=True)
    assert await said(ground, RULE, uid=320_001) == CLOSED


async def test_sessions_side_by_side_have_each_their_own(ground: Ground) -> None:
    zero = replace(RULE, granted=(*RULE.granted, Node(1, 5, "/dev/zero")))
    full = replace(RULE, granted=(*RULE.granted, Node(1, 7, "/dev/full")))
    assert (await said(ground, zero))[2:4] == ["/dev/zero open", "/dev/full Operation not permitted"]
    assert (await said(ground, full))[2:4] == ["/dev/zero Operation not permitted", "/dev/full open"]


async def test_without_a_rule_everything_is_as_the_machine_has_it(ground: Ground) -> None:
    assert (await said(ground, None))[:5] == [
        f"/dev/{name} open" for name in ("null", "urandom", "zero", "full", "ptmx")
    ]


async def test_the_groups_go_with_the_session(ground: Ground) -> None:
    await said(ground, RULE)
    (session,) = ground.started
    await session.end(grace_s=0)
    await until(lambda: not any(Path(group).exists() for group in session.record.cgroups))


@pytest.fixture
def narrow(support: Support) -> Iterator[Support]:
    """Return a group of version 1 that is closed to /dev/zero itself."""
    (mount,) = support.parents
    group = mount / f"armillary-test-{secrets.token_hex(4)}"
    group.mkdir()
    apply(group, RULE)
    yield replace(support, parents=(group,))
    cgroups.remove([group])


@pytest.mark.parametrize("support", ["v1"], indirect=True)
async def test_a_rule_that_cannot_be_set_stops_the_start(ground: Ground, narrow: Support) -> None:
    ground.support = narrow
    order = replace(ground.order(python(TRY)), devices=replace(RULE, granted=(Node(1, 5, "/dev/zero"),)))
    with pytest.raises(OSError, match="/dev/zero is closed to the hub's own control group"):
        await start(order)
    assert list(ground.records.glob("*.json")) == []
    assert [group for group in order.record.cgroups if Path(group).exists()] == []


def test_a_program_cannot_be_attached_to_what_is_no_group(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"bpf\(2\)"):
        bpf.attach(tmp_path, bpf.program(RULE.majors, RULE.numbers()))


@pytest.fixture
def plain_group() -> Iterator[Path]:
    """Return a group that has nothing to do with devices."""
    mounts = cgroups._mounts(Path("/proc/self/mountinfo").read_text())
    mount = next(mount for _, controllers, _, mount in mounts if "cpu" in controllers)
    group = mount / f"armillary-test-{secrets.token_hex(4)}"
    group.mkdir()
    yield group
    group.rmdir()


def test_a_group_of_another_kind_does_not_count_as_enforcing(plain_group: Path) -> None:
    assert apply(plain_group, RULE) is False


def test_this_machine_enforces_and_says_nothing_and_another_one_says_so() -> None:
    assert cgroups.detect().devices
    assert Machine(Isolation("uid"), Support(devices=True)).device_notices() == []
    assert Machine(Isolation("namespace", bubblewrap="bwrap")).device_notices() == []
    (notice,) = Machine(Isolation("shared")).device_notices()
    assert notice.startswith("Accelerators are advisory on this machine")


def test_the_program_is_as_long_as_its_rule() -> None:
    assert len(bpf.program({195}, set())) == 8 * (7 + 3 + 2)
    assert len(bpf.program({195, 237}, {(195, 0), (195, 255)})) == 8 * (7 + 2 * 4 + 2 * 3 + 2)
