"""The local engine as JupyterHub drives it: real database, real processes under accounts of their own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from profiles.model import Catalogue
from spawner import local
from spawner.devices.environment import device_environment
from spawner.local import LocalSpawner
from spawner.processes.isolation import Isolation
from spawner.processes.machine import Machine
from spawner.refusal import Refusal, StartFailed
from tests.spawner.local_sessions import SERVER, python, until
from tests.spawner.local_world import FIRST_UID, STEPS, World, ask

pytestmark = pytest.mark.hub  # real processes under accounts of their own: needs root


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.clear()


async def failure(world: World, profile: str) -> StartFailed:
    with pytest.raises(StartFailed) as caught:
        await world.start(profile)
    return caught.value


# --- start and stop ------------------------------------------------------------------------------------------------


async def test_a_server_starts_answers_and_stops(world: World) -> None:
    url = await world.start()
    spawner = world.spawner()
    assert await spawner.poll() is None
    said = await asyncio.to_thread(ask, url)
    assert said["uid"] == FIRST_UID
    assert [claim.process.pid for claim in world.claims() if claim.process] == world.sessions() == [said["pid"]]
    await world.user().stop()
    assert world.sessions() == []
    assert world.claims() == []
    assert await spawner.poll() == 0
    assert [step.text for step in spawner.feed.steps] == [
        "Making your home",
        "Starting JupyterLab",
        "Waiting until JupyterLab answers",
    ]


async def test_nothing_of_the_hubs_environment_leaks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET", "LD_PRELOAD_X", "CONDA_ROOT", "VIRTUAL_ENV", "PYTHONPATH"):
        monkeypatch.setenv(name, "of-the-hub")
    environment = (await asyncio.to_thread(ask, await world.start()))["environment"]
    allowed = {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LC_CTYPE",
        "MARK",
        "MEM_LIMIT",
        "ARMILLARY_SPAWN_ID",
        *device_environment(None, ()),
    }
    assert {name for name in environment if not name.startswith("JUPYTERHUB_")} - allowed == set()
    assert "of-the-hub" not in str(environment)
    assert environment["JUPYTERHUB_API_TOKEN"] == world.spawner().api_token
    assert environment["HOME"] == str(world.folder / "state" / "homes" / "ann")


async def test_people_have_accounts_of_their_own_and_named_servers_share_it(world: World) -> None:
    urls = [await world.start(name=name, server=server) for name, server in [("ann", ""), ("ann", "two"), ("ben", "")]]
    assert [(await asyncio.to_thread(ask, url))["uid"] for url in urls] == [FIRST_UID, FIRST_UID, FIRST_UID + 1]
    await world.user().stop("two")
    assert len(world.sessions()) == 2
    assert await world.spawner("ann", "").poll() is None
    assert await world.spawner("ben", "").poll() is None


async def test_options_that_do_not_exist_start_nothing(world: World) -> None:
    with pytest.raises(Refusal):
        await world.start("gone")
    assert world.claims() == []


async def test_a_stop_that_must_be_fast_does_not_wait_the_grace(tmp_path: Path) -> None:
    world = World(tmp_path, grace_s=600.0)
    try:
        await world.start()
        os.kill(world.sessions()[0], signal.SIGSTOP)
        await world.spawner().stop(now=True)
        assert world.sessions() == []
    finally:
        await world.clear()


# --- a start that fails ---------------------------------------------------------------------------------------------


async def test_a_crash_at_start_says_so_and_the_log_says_why(world: World) -> None:
    error = await failure(world, "crash")
    assert error.code == "crashed"
    assert error.text.startswith("JupyterLab ended with exit code 7 at start.")
    log = str(error.log_message)
    assert "first line" in log
    assert "token ***" in log
    assert world.claims() == []


async def test_a_kill_at_start_is_named(world: World) -> None:
    assert (await failure(world, "killed")).text.startswith("JupyterLab was killed by signal 9 at start.")


async def test_running_out_of_memory_at_start_is_named_with_the_limit(world: World) -> None:
    error = await failure(world, "greedy")
    assert (error.code, error.text) == (
        "out-of-memory",
        "JupyterLab ran out of memory (limit 64 MiB) at start. Choose more memory.",
    )


async def test_a_start_that_takes_too_long_leaves_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, start_timeout=2)
    try:
        error = await failure(world, "silent")
        assert (error.code, error.text) == (
            "start-timeout",
            "JupyterLab did not answer within 2 seconds, so it was ended. Try again later.",
        )
        assert world.sessions() == []
        assert world.claims() == []
        assert await world.spawner().poll() == 0
    finally:
        await world.clear()


async def test_a_profile_has_a_time_of_its_own_to_start_in(tmp_path: Path) -> None:
    world = World(tmp_path, start_timeout=1)
    slow = {"title": "Slow", "local": {"command": python(f"import time\ntime.sleep(2)\n{SERVER}")}}
    profiles = {
        "patient": {"title": "P", "options": {"image": "slow"}, "start_timeout_s": 60},
        "overridden": {"title": "O", "options": {"image": "slow"}, "kubespawner_override": {"start_timeout": 60}},
    }
    made = {"images": {"slow": slow}, "profiles": {**profiles, "silent": {"title": "S", "options": {"image": "slow"}}}}
    for profile in made["profiles"].values():
        profile["environment"] = {"MARK": str(tmp_path)}
    world.config.RequestSpawner.catalogue = Catalogue.model_validate(made)
    try:
        for profile in profiles:
            await world.start(profile, server=profile)
        assert len(world.sessions()) == 2
        assert (await failure(world, "silent")).text.startswith("Slow did not answer within 1 seconds")
        assert world.spawner("ann", "").start_timeout == 1
    finally:
        await world.clear()


async def test_a_cancelled_start_leaves_nothing_when_the_cancellation_returns(world: World) -> None:
    start = asyncio.ensure_future(world.start("silent"))
    await until(world.sessions)
    assert await world.spawner().poll() is None
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert world.sessions() == []
    assert world.claims() == []
    assert await world.spawner().poll() == 0


async def test_a_port_that_another_program_took_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = local.ports.free_port
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = [other.getsockname()[1]]
        monkeypatch.setattr(local.ports, "free_port", lambda *limits: taken.pop() if taken else real(*limits))
        url = await world.start()
    assert taken == []
    assert (await asyncio.to_thread(ask, url))["pid"] == world.sessions()[0]
    assert len(world.claims()) == 1


async def test_a_stranger_that_answers_on_the_port_is_not_taken_for_the_server(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import http.server as h; s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler); print(s.server_port, flush=True); s.serve_forever()"
    stranger = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=world.folder
    )
    try:
        assert stranger.stdout is not None
        port = int(stranger.stdout.readline())
        monkeypatch.setattr(local.ports, "free_port", lambda *limits: port)
        error = await failure(world, "silent")
        assert error.code == "port-taken"
        assert world.sessions() == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.communicate()


async def test_a_home_of_somebody_else_is_refused_and_only_the_log_says_whose(world: World) -> None:
    home = world.folder / "state" / "homes" / "ann"
    home.mkdir(parents=True)
    os.chown(home, 1234, 1234)
    error = await failure(world, "server")
    assert error.code == "home"
    assert "1234" not in error.text
    assert "1234" in str(error.log_message)


async def test_without_a_table_of_uids_nothing_starts_under_the_hubs_account(tmp_path: Path) -> None:
    world = World(tmp_path, uid_registry=None)
    try:
        error = await failure(world, "server")
        assert error.code == "no-uids"
        assert world.sessions() == []
    finally:
        await world.clear()


async def test_a_table_of_uids_that_fails_is_a_clear_failure(tmp_path: Path) -> None:
    class Full:
        async def uid_of(self, user_name: str) -> int:
            raise LookupError("no uid left")

    world = World(tmp_path, uid_registry=Full())
    try:
        error = await failure(world, "server")
        assert error.code == "no-uid"
        assert "no uid left" in str(error.log_message)
    finally:
        await world.clear()


# --- what runs --------------------------------------------------------------------------------------------------------


async def test_a_stopped_server_still_runs(world: World) -> None:
    await world.start()
    os.kill(world.sessions()[0], signal.SIGSTOP)
    assert await world.spawner().poll() is None
    assert await world.restarted().user().get_spawner("").poll() is None
    await world.user().stop()
    assert world.sessions() == []


async def test_a_server_that_died_is_noticed_with_its_exit_code(world: World) -> None:
    url = await world.start("dies")
    session = world.spawner()._session
    assert session is not None
    with pytest.raises(OSError, match=r".*"):
        await asyncio.to_thread(ask, url, "die")
    await session.gone
    assert await world.spawner().poll() == 5
    async with asyncio.timeout(10):
        while world.claims():
            await asyncio.sleep(0.01)
    assert await world.spawner().poll() == 5, "whoever asks later hears the same"


async def test_a_log_that_grows_is_cut(tmp_path: Path) -> None:
    world = World(tmp_path, log_bytes=10_000)
    try:
        await world.start()
        log = world.folder / "state" / "logs" / "sessions" / "ann" / "default.log"
        log.write_bytes(b"x" * 50_000)
        await world.spawner().poll()
        assert log.stat().st_size < 10_000
    finally:
        await world.clear()


# --- restarts of the hub -------------------------------------------------------------------------------------------------


async def test_after_a_restart_the_server_is_found_without_any_state(world: World) -> None:
    url = await world.start()
    pids = world.sessions()
    again = world.restarted()
    again.user().orm_spawners[""].server.port = 1  # as if the hub had been killed before it stored the address
    spawner = again.user().get_spawner("")
    spawner.load_state({})
    assert await spawner.poll() is None
    assert spawner.server.url == url
    assert world.sessions() == pids
    await again.user().stop("")
    assert world.sessions() == []
    assert world.claims() == []


async def test_a_start_beside_a_living_server_ends_that_one_first(world: World) -> None:
    await world.start()
    before = world.sessions()
    again = world.restarted()
    url = await again.start()
    assert len(world.sessions()) == 1
    assert world.sessions() != before
    assert (await asyncio.to_thread(ask, url))["pid"] == world.sessions()[0]
    assert len(world.claims()) == 1


async def test_after_a_reboot_the_records_lead_nowhere(world: World) -> None:
    await world.start()
    (claim,) = world.claims()
    text = claim.path.read_text()
    claim.path.write_text(re.sub(r'"boot": "[^"]*"', '"boot": "an earlier one"', text))
    spawner = world.restarted().user().get_spawner("")
    assert await spawner.poll() == 0
    assert len(world.sessions()) == 1  # not touched: it is not what the record means
    assert world.claims() == []
    claim.path.write_text(text)


@pytest.mark.parametrize("step", list(STEPS))
async def test_a_hub_that_is_killed_at_any_step_loses_nothing_and_starts_nothing_twice(
    tmp_path: Path, step: str
) -> None:
    root = Path(__file__).parents[2]
    hub = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.spawner.local_world", str(tmp_path), step, cwd=root, stderr=asyncio.subprocess.PIPE
    )
    _, said = await hub.communicate()
    assert hub.returncode == -signal.SIGKILL, said.decode()
    world = World(tmp_path)
    try:
        made = groups(world)
        spawner = world.user().get_spawner("")
        status = await spawner.poll()
        if status is None:
            await until(lambda: answers(spawner))
            said_now = await asyncio.to_thread(ask, spawner.server.url)
            assert world.sessions() == [said_now["pid"]]
        else:
            assert status == 0
            assert world.claims() == []
        assert step != "never" or status is None
        url = await world.start()
        made += groups(world)
        assert world.sessions() == [(await asyncio.to_thread(ask, url))["pid"]]
        await world.user().stop("")
        assert world.sessions() == []
        assert world.claims() == []
        assert [group for group in made if os.path.exists(group)] == []
    finally:
        await world.clear()


def answers(spawner: LocalSpawner) -> bool:
    try:
        return bool(ask(spawner.server.url))
    except OSError:
        return False


def groups(world: World) -> list[str]:
    """Return the control groups that the present records name."""
    return [group for claim in world.claims() for group in claim.record.cgroups]


# --- what is said about the machine ------------------------------------------------------------------------------------


async def test_the_form_says_what_this_machine_cannot_promise(world: World) -> None:
    spawner: Any = world.user().get_spawner("")
    assert spawner.notices() == []
    spawner.machine = Machine(Isolation("shared"))
    assert [notice.split(":")[0] for notice in spawner.notices()] == [
        "All users share one Unix account here",
        "CPU and memory limits are advisory on this machine",
    ]
    assert "All users share one Unix account here" in await spawner.render_form()
