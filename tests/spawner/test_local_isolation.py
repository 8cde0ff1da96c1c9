"""What one person's session can do to another's: nothing. With real accounts (root) and real sandboxes (not root)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from spawner.processes.homes import HomeError, directory_name, make_home
from spawner.processes.identity import look
from spawner.processes.isolation import (
    Isolation,
    IsolationError,
    blocking_directory,
    bubblewrap,
    detect,
    passages,
    program_directories,
)
from spawner.processes.machine import Machine
from spawner.processes.session import start
from spawner.processes.surroundings import UnreachableError, surround
from tests.lab import packages
from tests.spawner.local_sessions import SLEEP, Ground, ground_of, python, says, until

pytestmark = pytest.mark.hub  # real processes under accounts of their own: needs root


@pytest.fixture(scope="module", autouse=True)
def _sandboxes() -> None:
    """Debian's bubblewrap, for what a hub that is not root does."""
    packages.install(["bubblewrap"])


ANN, BEN = 310_001, 310_002

SPY = """
import json, os, signal, sys
def tried(action):
    try:
        return ["done", repr(action())[:200]]
    except OSError as error:
        return ["refused", type(error).__name__]
pid, home, root = int(sys.argv[1]), sys.argv[2], sys.argv[3]
print(json.dumps({
    "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()],
    "no_new_privs": "NoNewPrivs:\\t1" in open("/proc/self/status").read(),
    "capabilities": [line.split()[1].strip("0") for line in open("/proc/self/status") if line.startswith("CapEff")],
    "home": tried(lambda: os.listdir(home)),
    "file": tried(lambda: open(home + "/secret").read()),
    "environ": tried(lambda: open(f"/proc/{pid}/environ").read()),
    "signal": tried(lambda: os.kill(pid, signal.SIGKILL)),
    "records": tried(lambda: os.listdir(root + "/launches")),
    "list": tried(lambda: os.listdir(root + "/homes")),
    "own": tried(lambda: open(os.environ["HOME"] + "/mine", "w").write("x")),
    "elsewhere": tried(lambda: open("/usr/planted", "w")),
}))
"""


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async for ground in ground_of(tmp_path, isolation=detect("uid")):
        yield ground


async def spy(ground: Ground, victim: int, home: Path, uid: int | None) -> dict[str, list[object]]:
    session = await ground.start((*python(SPY), str(victim), str(home), str(ground.folder)), user="ben", uid=uid)
    assert await session.gone == 0, session.log.read_text()
    found: dict[str, list[object]] = json.loads(session.log.read_text())
    return found


async def test_with_an_account_each_sessions_cannot_touch_each_other(ground: Ground) -> None:
    victim = await ground.start(python(SLEEP), user="ann", uid=ANN, environment={"JUPYTERHUB_API_TOKEN": "of-ann"})
    await until(says(victim, "up"))
    home = ground.folder / "homes" / "ann"
    (home / "secret").write_text("of ann")
    assert (home.stat().st_uid, home.stat().st_mode & 0o777) == (ANN, 0o700)
    found = await spy(ground, victim.process.pid, home, BEN)
    assert found.pop("ids") == [BEN, BEN, BEN, []]
    assert found.pop("no_new_privs") is True
    assert found.pop("capabilities") == [""]
    assert found.pop("own")[0] == "done"
    # The folder of all homes lies below pytest's closed one: only the own home is shown there.
    assert found.pop("list") == ["done", "['ben']"]
    assert {name: outcome[0] for name, outcome in found.items()} == dict.fromkeys(found, "refused")
    assert victim.alive()


async def test_a_python_below_a_closed_directory_can_still_be_used(ground: Ground, tmp_path: Path) -> None:
    """As with pyenv or uv in /root: the session sees the environment, and nothing else of that directory."""
    closed = tmp_path / "closed"
    program = closed / "deep" / "env" / "bin" / "program"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nls "$0"; ls ' + str(closed) + " " + str(closed / "deep") + "\n")
    program.chmod(0o755)
    (closed / "private").write_text("secret")
    closed.chmod(0o700)
    around = surround(
        ground.isolation,
        (str(program),),
        home=make_home(tmp_path / "homes", "ann", ANN),
        uid=ANN,
        hidden=[],
        visible=[program.parents[1]],
    )
    session = await start(replace(ground.order((str(program),), uid=ANN), passages=around.passages))
    ground.started.append(session)
    assert await session.gone == 0, session.log.read_text()
    said = session.log.read_text()
    assert str(program) in said
    assert "deep" in said
    assert "private" not in said


def test_without_mount_namespaces_the_closed_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed" / "env").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    with pytest.raises(UnreachableError, match="mount namespaces"):
        surround(Isolation("uid"), ("x",), home=tmp_path, uid=ANN, hidden=[], visible=[tmp_path / "closed" / "env"])


def test_a_needed_directory_that_is_closed_itself_is_named(tmp_path: Path) -> None:
    open_folder = Path("/tmp") / f"armillary-test-{os.getpid()}"
    open_folder.mkdir(mode=0o755)
    try:
        env = open_folder / "env"
        env.mkdir(mode=0o700)
        assert blocking_directory(env, ANN, ANN) == env
        with pytest.raises(UnreachableError, match=rf"chmod o\+rx {env}"):
            surround(Isolation("uid", mounts=True), ("x",), home=open_folder, uid=ANN, hidden=[], visible=[env])
        env.chmod(0o755)
        assert blocking_directory(env, ANN, ANN) is None
        assert passages([env], ANN, ANN) == {}
    finally:
        for path in (open_folder / "env", open_folder):
            path.rmdir()


def test_the_python_that_runs_this_is_among_what_sessions_see() -> None:
    real = Path(sys.executable).resolve()
    assert any(real.is_relative_to(path) for path in (*program_directories(), Path("/usr")))


# --- not root: bubblewrap --------------------------------------------------------------------------------------


def run_as_nobody(tmp_path: Path, *arguments: str) -> dict[str, object]:
    """Run the script below under an account without any right, with the interpreter and this checkout reachable."""
    root = Path(__file__).parents[2]
    copy = Path("/tmp") / f"armillary-nobody-{os.getpid()}"
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    copy.mkdir(mode=0o755)
    try:
        os.chown(copy, 65534, 65534)
        done = subprocess.run(
            [
                *("unshare", "--mount", sys.executable, "-c", AS_NOBODY, str(root), packages, str(copy)),
                *arguments,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return found
    finally:
        subprocess.run(["rm", "-rf", str(copy)], check=True)


AS_NOBODY = """
import asyncio, json, os, sys
from pathlib import Path
root, packages, folder = sys.argv[1:4]
sys.path[:0] = [root, packages]
from spawner.processes import launcher
from spawner.processes.isolation import passages, program_directories
needed = [*program_directories(), Path(root), Path(packages)]
launcher.open_passages([
    {"over": str(over), "through": [str(path) for path in through]}
    for over, through in passages(needed, 65534, 65534).items()
])
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
os.environ["HOME"] = folder
from tests.spawner import sandboxed
print(json.dumps(asyncio.run(sandboxed.main(Path(folder)))))
"""


def test_without_root_sessions_are_kept_apart_by_sandboxes(tmp_path: Path) -> None:
    found = run_as_nobody(tmp_path)
    assert found.pop("kind") == "namespace"
    assert found.pop("ids") == [65534, 65534, 65534]
    assert found.pop("own") == "done"
    assert found.pop("left") == []
    assert found.pop("reachable") is True
    assert found.pop("is_ours") is True
    assert found.pop("exit_code") == 0
    assert found.pop("homes_seen") == ["ben"]
    assert found.pop("state_seen") == ["homes"]
    assert found.pop("pids") == [True]
    assert found.pop("still_there") is True
    assert found == dict.fromkeys(["file", "environ", "signal", "records", "elsewhere"], "refused")


def test_the_sandbox_outlives_the_hub_and_hides_what_it_must(tmp_path: Path) -> None:
    state, home, env = tmp_path / "state", tmp_path / "state" / "homes" / "ann", tmp_path / "state" / "env"
    for path in (home, env):
        path.mkdir(parents=True)
    command = bubblewrap(
        "/usr/bin/bwrap", home=home, hidden=[state, tmp_path / "missing"], visible=[env], argv=("program",)
    )
    assert "--die-with-parent" not in command
    assert str(tmp_path / "missing") not in command
    order = [command.index("--tmpfs", command.index("/run")), command.index(str(env)), command.index(str(home))]
    assert order == sorted(order)
    assert command[-2:] == ("--", "program")


@pytest.fixture
def shown() -> Iterator[Path]:
    """A folder that a sandbox shows; it has a /tmp of its own, where pytest's folders usually are."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


def test_a_secret_that_lies_elsewhere_is_empty_in_the_sandbox(shown: Path) -> None:
    home, secret, link = shown / "home", shown / "client-secret", shown / "link"
    home.mkdir()
    secret.write_text("of the hub")
    link.symlink_to(secret)
    spy = ("/bin/sh", "-c", f"cat {secret}; echo seen")
    cases = ([[], "of the hubseen\n"], [[secret], "seen\n"], [[shown, secret], "seen\n"], [[link], "seen\n"])
    for hidden, seen in cases:
        command = bubblewrap("/usr/bin/bwrap", home=home, hidden=hidden, visible=[], argv=spy)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout == seen, done.stderr


# --- what is said ------------------------------------------------------------------------------------------------


def test_a_shared_account_is_said_loudly_and_only_then() -> None:
    assert "All users share one Unix account" in Isolation("shared").describe()
    assert "All users share one Unix account" in Machine(Isolation("shared")).notices()[0]
    assert Isolation("uid").notices() == Isolation("namespace").notices() == []


def test_shared_is_taken_only_as_the_last_way_or_on_demand() -> None:
    assert detect().kind == "uid"
    assert detect("shared") == Isolation("shared")


def test_what_was_asked_for_and_does_not_work_is_an_error() -> None:
    with pytest.raises(IsolationError, match="bubblewrap is not installed"):
        detect("namespace", bubblewrap_program="no-such-program")


# --- homes ---------------------------------------------------------------------------------------------------------

HOSTILE = [
    "../../etc",
    "a/b",
    "a",
    "b",
    "A",
    "ä",
    "ä",
    ".",
    "..",
    "-",
    "-rf",
    "",
    " ",
    "a b",
    "a_b",
    "a-b",
    "a.b",
    "x" * 300,
    "x" * 301,
    "ä" * 200,
    "a\nb",
    "a\0b",
    "~",
    "$HOME",
    "_2Da",
    "-a",
    "con",
    "🐍",
]


def test_names_become_distinct_plain_directory_names(tmp_path: Path) -> None:
    names = [name for name in HOSTILE if name]
    made = [make_home(tmp_path / "homes", name, None) for name in names]
    assert len(set(made)) == len(set(names)) == len(os.listdir(tmp_path / "homes"))
    assert {home.parent for home in made} == {tmp_path / "homes"}
    assert all(home.name.isascii() and not home.name.startswith(("-", ".")) and len(home.name) < 130 for home in made)


def test_a_person_without_a_name_has_no_home(tmp_path: Path) -> None:
    with pytest.raises(HomeError):
        make_home(tmp_path, "", None)


def test_a_home_of_another_account_is_never_taken_over(tmp_path: Path) -> None:
    home = make_home(tmp_path / "homes", "ann", ANN)
    (home / "file").write_text("x")
    assert make_home(tmp_path / "homes", "ann", ANN) == home
    with pytest.raises(HomeError, match=rf"belongs to uid {ANN}.*uid {BEN}"):
        make_home(tmp_path / "homes", "ann", BEN)
    assert home.stat().st_uid == ANN


@pytest.mark.parametrize(
    "make", [lambda path: path.symlink_to("/etc"), lambda path: path.write_text("file")], ids=["link", "file"]
)
def test_what_is_no_directory_is_no_home(tmp_path: Path, make: object) -> None:
    assert callable(make)
    (tmp_path / "homes").mkdir()
    make(tmp_path / "homes" / directory_name("ann"))
    with pytest.raises(HomeError, match="not a directory"):
        make_home(tmp_path / "homes", "ann", ANN)


def test_a_home_that_was_opened_to_others_is_closed_again(tmp_path: Path) -> None:
    home = make_home(tmp_path / "homes", "ann", ANN)
    home.chmod(0o755)
    assert make_home(tmp_path / "homes", "ann", ANN).stat().st_mode & 0o777 == 0o700


def test_homes_can_be_passed_through_but_not_listed_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        make_home(tmp_path / "homes", "ann", ANN)
    finally:
        os.umask(before)
    assert (tmp_path / "homes").stat().st_mode & 0o777 == 0o711
    assert look(os.getpid()) is not None
