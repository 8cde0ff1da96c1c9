"""Sessions of the local engine and the devices that are handed out to them: real processes, imagined devices."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from profiles.model import Catalogue
from spawner.devices.inventory import simulated_uuid
from spawner.devices.reader import Reader
from spawner.processes.holders import holders
from spawner.processes.identity import boot_id
from spawner.processes.isolation import bubblewrap
from spawner.processes.records import Record, claims, plan
from spawner.processes.session import now
from spawner.refusal import Refusal, StartFailed
from tests.spawner.local_sessions import python
from tests.spawner.local_world import PROGRAMS, World, ask
from tests.spawner.nvml_double import A100, FakeCard, FakeNvml
from tests.spawner.test_reserving import Desk

pytestmark = pytest.mark.hub  # real processes under accounts of their own: needs root

CLAIMS = {
    "CUDA_VISIBLE_DEVICES": "0,1",
    "NVIDIA_VISIBLE_DEVICES": "all",
    "ARMILLARY_ACCELERATOR": "a better one",
    "HIP_VISIBLE_DEVICES": "0",
}
"""What a deployer may set for all sessions, and must not get; in a catalogue these names are refused at load."""


class DeviceDesk(Desk):
    """Gives the first devices of what is asked for, each to one session."""

    def __init__(self, **settings: bool) -> None:
        super().__init__(**settings)
        self.given_back: list[str] = []
        self.names = {"toy": [simulated_uuid("toy", 0), simulated_uuid("toy", 1)], "a100": ["GPU-1"]}

    async def reserve(self, wanted: Any, *, expires_in_s: float, person: Any = None) -> Any:
        taken = {uuid for held in self.held.values() for uuid in held.devices}
        free = [uuid for uuid in self.names.get(wanted.accelerator, []) if uuid not in taken]
        held = type(wanted)(**{**vars(wanted), "devices": tuple(free[: wanted.count])})
        return await super().reserve(held, expires_in_s=expires_in_s)

    async def release(self, spawn_id: str) -> None:
        self.given_back.append(spawn_id)
        await super().release(spawn_id)


def catalogue(folder: Path) -> Catalogue:
    """Return profiles of one program each, with the choice of an accelerator; every session carries the mark."""
    images = {
        name: {"title": name, "local": {"command": python(PROGRAMS[name])}} for name in ("server", "crash", "dies")
    }
    profiles = {
        name: {
            "title": name,
            "environment": {"MARK": str(folder), "OF_TOY": "profile"},
            "options": {"image": [name], "accelerator": ["none", "toy", "a100"], "count": {"min": 1, "max": 2}},
        }
        for name in images
    }
    accelerators = {
        "toy": {"title": "Toy", "simulated": {"count": 2}, "environment": {"OF_TOY": "toy", "TOY": "yes"}},
        "a100": {"title": "A100", "local": {"product": A100}},
    }
    return Catalogue.model_validate({"accelerators": accelerators, "images": images, "profiles": profiles})


class DeviceWorld(World):
    """A hub whose sessions may ask for imagined devices."""

    def __init__(self, folder: Path, desk: Desk | None, **settings: Any) -> None:
        super().__init__(folder, poll_interval=3600, environment=CLAIMS, **settings)
        self.config.RequestSpawner.catalogue = catalogue(folder)
        self.config.RequestSpawner.desk = desk

    def restarted(self) -> World:
        world = DeviceWorld(self.folder, None)
        world.config = Config(self.config)
        return world

    async def ask_for(self, accelerator: str, profile: str = "server", **options: str) -> str:
        """Start a server with this accelerator and return its address."""
        await self.user().spawn("", options={"profile": profile, "accelerator": accelerator, **options})
        url: str = self.spawner().server.url
        return url


@pytest.fixture
def desk() -> DeviceDesk:
    return DeviceDesk()


@pytest.fixture
async def world(tmp_path: Path, desk: DeviceDesk) -> AsyncIterator[DeviceWorld]:
    world = DeviceWorld(tmp_path, desk)
    yield world
    await world.clear()


async def environment(world: DeviceWorld, accelerator: str, **options: str) -> dict[str, str]:
    url = await world.ask_for(accelerator, **options)
    found: dict[str, str] = (await asyncio.to_thread(ask, url))["environment"]
    return found


async def test_a_session_is_told_what_was_reserved_whatever_else_is_set(world: DeviceWorld) -> None:
    told = await environment(world, "toy")
    assert {name: told[name] for name in ("ARMILLARY_ACCELERATOR", "ARMILLARY_ACCELERATOR_SIMULATED")} == {
        "ARMILLARY_ACCELERATOR": "toy",
        "ARMILLARY_ACCELERATOR_SIMULATED": "1",
    }
    assert told["ARMILLARY_DEVICES"] == "SIMULATED-toy-0"
    assert (told["CUDA_VISIBLE_DEVICES"], told["NVIDIA_VISIBLE_DEVICES"]) == ("", "void")
    assert (told["TOY"], told["OF_TOY"]) == ("yes", "profile")
    (claim,) = world.claims()
    assert claim.record.devices == ("SIMULATED-toy-0",)
    assert told["ARMILLARY_SPAWN_ID"] == claim.record.spawn_id == world.spawner().spawn_id


async def test_without_an_accelerator_there_is_none_whatever_else_is_set(world: DeviceWorld) -> None:
    told = await environment(world, "none")
    assert (told["CUDA_VISIBLE_DEVICES"], told["NVIDIA_VISIBLE_DEVICES"]) == ("", "void")
    assert told["HIP_VISIBLE_DEVICES"] == "-1"
    assert "ARMILLARY_DEVICES" not in told
    assert "TOY" not in told


async def test_two_are_two_different_ones(world: DeviceWorld) -> None:
    told = await environment(world, "toy", count="2")
    assert told["ARMILLARY_DEVICES"] == "SIMULATED-toy-0,SIMULATED-toy-1"


async def test_a_stop_gives_back(world: DeviceWorld, desk: DeviceDesk) -> None:
    await world.ask_for("toy")
    assert len(desk.held) == 1
    await world.spawner().stop()
    assert desk.held == {}


async def test_an_end_is_noticed_at_once_and_gives_back(world: DeviceWorld, desk: DeviceDesk) -> None:
    """JupyterHub itself would look in an hour here."""
    await world.ask_for("toy")
    noticed = asyncio.Event()
    world.spawner().add_poll_callback(noticed.set)
    os.kill(world.sessions()[0], signal.SIGKILL)
    await asyncio.wait_for(noticed.wait(), 30)
    assert desk.held == {}
    assert world.claims() == []


async def test_an_end_while_the_hub_is_at_work_on_the_server_is_told_afterwards(world: DeviceWorld) -> None:
    await world.ask_for("toy")
    spawner = world.spawner()
    noticed = asyncio.Event()
    spawner.add_poll_callback(noticed.set)
    spawner._proxy_pending = True
    session = spawner._session
    assert session is not None
    os.kill(world.sessions()[0], signal.SIGKILL)
    await session.gone
    await asyncio.sleep(0)
    assert not noticed.is_set()
    spawner._proxy_pending = False
    await asyncio.wait_for(noticed.wait(), 30)


async def test_after_a_restart_of_the_hub_it_is_found_and_its_end_still_gives_back(
    world: DeviceWorld, desk: DeviceDesk
) -> None:
    await world.ask_for("toy")
    again = world.restarted()
    spawner = again.spawner()
    assert await spawner.poll() is None
    noticed = asyncio.Event()
    spawner.add_poll_callback(noticed.set)
    os.kill(world.sessions()[0], signal.SIGKILL)
    await asyncio.wait_for(noticed.wait(), 30)
    assert desk.held == {}


async def test_a_start_that_fails_gives_back(world: DeviceWorld, desk: DeviceDesk) -> None:
    with pytest.raises(StartFailed):
        await world.ask_for("toy", "crash")
    assert desk.held == {}
    assert len(desk.given_back) > 0


async def test_what_is_left_of_an_earlier_start_gives_back_before_the_next_one_asks(
    world: DeviceWorld, desk: DeviceDesk
) -> None:
    """A hub that was killed: the session runs on, and its person starts anew and needs both devices."""
    await world.ask_for("toy", count="2")
    again = world.restarted()
    (before,) = desk.held
    await again.user().spawn("", options={"profile": "server", "accelerator": "toy", "count": "2"})
    (after,) = desk.held
    assert after != before
    assert len(desk.held[after].devices) == 2
    assert list(holders(world.launches)) == [after]


async def test_a_refusal_of_the_desk_starts_nothing(tmp_path: Path) -> None:
    world = DeviceWorld(tmp_path, DeviceDesk(full=True))
    with pytest.raises(Refusal, match="in use") as caught:
        await world.ask_for("toy")
    assert caught.value.code == "full"
    assert (world.claims(), world.sessions()) == ([], [])
    await world.clear()


@pytest.mark.parametrize("nobody", [None, Desk()])
async def test_where_nobody_hands_out_devices_an_accelerator_is_refused(tmp_path: Path, nobody: Desk | None) -> None:
    world = DeviceWorld(tmp_path, nobody)
    with pytest.raises(Refusal, match="No Toy is handed out on this machine now") as caught:
        await world.ask_for("toy")
    assert (caught.value.code, caught.value.status_code) == ("no-devices", 503)
    assert (world.claims(), world.sessions()) == ([], [])
    assert nobody is None or nobody.held == {}
    await world.clear()


async def test_a_card_that_failed_since_it_was_counted_is_not_handed_out(tmp_path: Path, desk: DeviceDesk) -> None:
    reader = Reader(FakeNvml(FakeCard("GPU-1", A100, uncorrected=1)))
    world = DeviceWorld(tmp_path, desk)
    world.spawner().reader = reader
    with pytest.raises(StartFailed, match="The accelerator cannot be used just now") as caught:
        await world.ask_for("a100")
    assert "has failed since it was counted: memory errors that could not be corrected: 1" in str(
        caught.value.log_message
    )
    assert (world.claims(), world.sessions(), desk.held) == ([], [], {})
    await world.clear()


def test_a_sandbox_has_only_the_devices_that_are_put_into_it(tmp_path: Path) -> None:
    """/dev/loop-control and /dev/fuse stand for cards."""
    look = ("/bin/sh", "-c", "ls /dev/loop-control /dev/fuse 2>/dev/null")
    seen = {}
    for devices in ((), ("/dev/fuse",), ("/dev/fuse", "/dev/no-such-device")):
        command = bubblewrap("/usr/bin/bwrap", home=tmp_path, hidden=[], visible=[], argv=look, devices=devices)
        seen[devices] = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    assert set(map(tuple, seen.values())) == {(), ("/dev/fuse",)}
    assert seen[()] == []


def test_a_launch_record_of_an_earlier_version_has_no_devices(tmp_path: Path) -> None:
    record = Record("a" * 32, "ann", "", 4000, None, False, boot_id(), now(), devices=("D",))
    path = plan(tmp_path, record)
    assert [claim.record for claim in claims(tmp_path)] == [record]
    written = json.loads(path.read_text())
    del written["devices"]
    path.write_text(json.dumps(written))
    assert [claim.record.devices for claim in claims(tmp_path)] == [()]
