"""From a bare Python to a running site."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.hub.site import ROOT, Site, processes_mentioning, wait_for


@pytest.fixture
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that every account can pass through to, whatever pytest does with its own."""
    for folder in [tmp_path, *tmp_path.parents][:-2]:
        folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path


def test_what_others_can_reach(bootstrap: ModuleType, open_folder: Path) -> None:
    (open_folder / "open" / "inner").mkdir(parents=True)
    assert bootstrap.reachable(open_folder / "open" / "inner")
    assert bootstrap.reachable(open_folder / "open" / "not" / "there" / "yet")
    (open_folder / "open").chmod(0o700)
    assert not bootstrap.reachable(open_folder / "open" / "inner")
    (open_folder / "link").symlink_to(open_folder / "open" / "inner")
    assert not bootstrap.reachable(open_folder / "link")


@pytest.mark.parametrize(
    ("root", "closed", "used_before", "in_checkout"),
    [
        pytest.param(True, False, False, True, id="root-in-an-open-checkout"),
        pytest.param(True, True, False, False, id="root-in-a-closed-checkout"),
        pytest.param(True, True, True, True, id="root-where-there-is-state-already"),
        pytest.param(False, True, False, True, id="somebody-in-a-closed-home"),
    ],
)
def test_where_environment_and_state_lie(
    bootstrap: ModuleType,
    open_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    root: bool,
    closed: bool,
    used_before: bool,
    in_checkout: bool,
) -> None:
    checkout = open_folder / "checkout"
    checkout.mkdir()
    if used_before:
        (checkout / ".armillary").mkdir()
        (checkout / ".armillary" / bootstrap.MARK).touch()
    checkout.chmod(0o700 if closed else 0o755)
    monkeypatch.setattr(bootstrap, "CHECKOUT", str(checkout))
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    found = Path(bootstrap.base_folder())
    assert (found == checkout / ".armillary") is in_checkout
    assert in_checkout or found.parent == Path("/var/lib/armillary")


def test_an_old_python_is_told_which_one_is_needed(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "about_python", lambda _program: ((3, 9), "/usr", True))
    with pytest.raises(bootstrap.Problem, match=r"^Python 3\.11 or newer is needed; this is "):
        bootstrap.choose_python()


def test_a_debian_without_venv_is_told_what_to_install(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "about_python", lambda _program: ((3, 12), "/usr", False))
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    with pytest.raises(bootstrap.Problem, match=r"apt install python3-venv$"):
        bootstrap.choose_python()


def test_an_old_python_finds_a_newer_one(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}")
    monkeypatch.setattr(bootstrap, "reachable", lambda _path: True)
    known = {"/opt/python3.12": ((3, 12), "/opt", True), "/opt/python3.11": ((3, 11), "/opt", True)}
    monkeypatch.setattr(bootstrap, "about_python", known.get)
    assert bootstrap.choose_python() == ("/opt/python3.12", (3, 12))


def test_root_takes_a_python_that_sessions_can_reach(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/root/python3.13")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(bootstrap, "reachable", lambda path: not path.startswith("/root"))
    known = {"/root/python3.13": ((3, 13), "/root", True), "/usr/bin/python3": ((3, 11), "/usr", True)}
    monkeypatch.setattr(bootstrap, "about_python", known.get)
    assert bootstrap.choose_python() == ("/usr/bin/python3", (3, 11))
    del known["/usr/bin/python3"]
    assert bootstrap.choose_python() == ("/root/python3.13", (3, 13))


def test_an_environment_in_use_is_not_removed(bootstrap: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "run-0123"
    folder.mkdir()
    user = bootstrap.open_lock(str(folder))
    fcntl.flock(user, fcntl.LOCK_SH)
    assert not bootstrap.remove_environment(str(folder))
    assert folder.exists()
    os.close(user)
    assert bootstrap.remove_environment(str(folder))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("log", "said"),
    [
        pytest.param(
            "…\nERROR: No matching distribution found for x==1\n", "No matching distribution found for x==1", id="index"
        ),
        pytest.param("ERROR: OSError: [Errno 28] No space left on device\n", "the disk became full", id="full-disk"),
        pytest.param("something else\n", "something else", id="no-error-line"),
    ],
)
def test_why_it_could_not_be_installed(bootstrap: ModuleType, tmp_path: Path, log: str, said: str) -> None:
    (tmp_path / "run.log").write_text(log)
    assert said in bootstrap.why_not_installed(str(tmp_path / "run.log"))


def test_too_little_room_is_said_before_anything_is_installed(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "NEEDED_MB", 10**12)
    environment = bootstrap.Environment(str(tmp_path), "run")
    with pytest.raises(bootstrap.Problem, match=r"^the environment needs .* are free for "):
        environment.hold()
    assert not Path(environment.folder).exists()


# --- the JupyterLab extension ------------------------------------------------------------------------------------


def small_wheel(folder: Path, says: str) -> Path:
    """A wheel as `make labextension` makes one; nothing in its name tells it from the one before."""
    folder.mkdir(exist_ok=True)
    wheel = folder / "armillary_lab-0.1.0-py3-none-any.whl"
    about = "armillary_lab-0.1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("armillary_lab/__init__.py", f"says = {says!r}\n")
        archive.writestr("armillary_lab-0.1.0.data/data/etc/jupyter/armillary_lab.json", "{}")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: armillary-lab\nVersion: 0.1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return wheel


@pytest.fixture
def checkout(bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose sessions need nothing but Python."""
    folder = tmp_path / "check[out]"
    (folder / "requirements").mkdir(parents=True)
    (folder / "requirements" / "run.txt").write_text("# nothing\n")
    (folder / "images" / "vscode").mkdir(parents=True)
    for name in ("requirements.txt", "package.json", "package-lock.json"):
        (folder / "images" / "vscode" / name).write_text("{}\n")
    monkeypatch.setattr(bootstrap, "CHECKOUT", str(folder))
    return folder


class Started(Exception):
    """What `run` becomes in these tests instead of the launcher."""


@pytest.fixture
def start(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], tuple[str, str]]:
    """Start; return what was printed, and what the extension in the environment says."""

    def instead(_program: str, command: list[str], _environ: dict[str, str]) -> None:
        raise Started(command[0])

    monkeypatch.setattr(os, "execve", instead)
    monkeypatch.chdir(checkout)

    def start() -> tuple[str, str]:
        with pytest.raises(Started) as started:
            bootstrap.run(str(checkout / ".armillary"), [])
        ask = [str(started.value), "-c", "import armillary_lab; print(armillary_lab.says)"]
        said = subprocess.run(ask, capture_output=True, text=True, check=False, cwd="/").stdout
        return capsys.readouterr().out, said.strip()

    return start


HINT = "armillary: JupyterLab shows accelerator, time and budget after `make labextension`\n"


def held_locks() -> list[str]:
    """The descriptors of this process that hold an environment: `run` gives them to the launcher, which ends with it."""
    names = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    return [name for name in names if os.readlink(f"/proc/self/fd/{name}").endswith(".lock")]


@pytest.fixture
def ended(checkout: Path) -> Iterator[Callable[[], None]]:
    """End what `run` became."""

    def end() -> None:
        for name in held_locks():
            os.close(int(name))

    yield end
    end()


@pytest.mark.parametrize(
    ("programs", "libraries", "missing"),
    [
        pytest.param(("make", "pkg-config"), 0, "g++", id="no compiler"),
        pytest.param(("g++", "make", "pkg-config"), 1, "header files of libraries", id="no headers"),
    ],
)
def test_what_vs_code_is_compiled_with_is_named_before_anything_is_made(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch,
    programs: tuple[str, ...], libraries: int, missing: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: name if name in programs else None)
    asked: list[list[str]] = []
    monkeypatch.setattr(bootstrap.subprocess, "call", lambda command: asked.append(command) or libraries)
    monkeypatch.setattr(bootstrap, "choose_python", lambda: ("/usr/bin/python3", (3, 11)))
    with pytest.raises(bootstrap.Problem, match=f"there is no {re.escape(missing)}; on Debian: apt install g"):
        bootstrap.vscode(str(checkout / ".armillary"), [])
    assert [path for path in (checkout / ".armillary").rglob("vscode-*") if path.is_dir()] == []


def test_sessions_find_vs_code_from_the_start_after_it_was_installed_and_not_one_that_is_gone(
    bootstrap: ModuleType, checkout: Path, ended: Callable[[], None]
) -> None:
    base = checkout / ".armillary"
    environment = bootstrap.Environment(str(base), "run")
    place = Path(environment.folder, "bin", "code-server")
    place.parent.mkdir(parents=True)
    made = bootstrap.VSCode(str(base))
    made.offer(environment)
    assert not place.is_symlink(), "it is not installed"
    Path(made.folder).mkdir()
    Path(made.program).write_text("#!/bin/sh\necho here\n")
    Path(made.program).chmod(0o755)
    made.offer(environment)
    assert not place.is_symlink(), "half of it is no program"
    Path(made.finished).touch()
    for _ in range(2):
        made.offer(environment)
        assert subprocess.run([place], capture_output=True, text=True, check=True).stdout == "here\n"
    assert not bootstrap.remove_environment(made.folder), "it is in use"
    ended()
    (checkout / "images" / "vscode" / "package-lock.json").write_text('{"newer": 1}')
    newer = bootstrap.VSCode(str(base))
    assert newer.folder != made.folder
    newer.offer(environment)
    assert not place.is_symlink(), "the newer one is not installed"


def test_vscode_takes_no_arguments(bootstrap: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(bootstrap.Problem, match="takes no arguments, got '--yes'"):
        bootstrap.vscode(str(tmp_path), ["--yes"])


@pytest.mark.hub
@pytest.mark.timeout(300)
def test_the_extension_that_was_made_is_what_sessions_get(
    start: Callable[[], tuple[str, str]], ended: Callable[[], None], checkout: Path
) -> None:
    printed, says = start()
    assert printed.endswith(HINT)
    assert says == ""
    ended()

    small_wheel(checkout / "dist", "first")
    assert start() == ("", "first")
    [environment] = (checkout / ".armillary" / "environments").glob("run-*/")
    assert (environment / "etc" / "jupyter" / "armillary_lab.json").exists()
    ended()

    # again, while the first one runs, and without pip: what is there is not installed once more
    (environment / "bin" / "python").rename(environment / "bin" / "python-kept")
    (environment / "bin" / "python").symlink_to("/bin/true")
    assert start()[0] == ""
    (environment / "bin" / "python-kept").replace(environment / "bin" / "python")
    ended()

    small_wheel(checkout / "dist", "second")
    assert start() == ("", "second")
    ended()
    shutil.rmtree(checkout / "dist")
    assert start() == ("", "second")


@pytest.mark.hub
@pytest.mark.timeout(300)
def test_a_site_that_runs_keeps_the_extension_that_it_has(
    start: Callable[[], tuple[str, str]], ended: Callable[[], None], checkout: Path
) -> None:
    small_wheel(checkout / "dist", "first")
    start()  # and runs on
    small_wheel(checkout / "dist", "second")
    printed, says = start()
    assert "is installed at a start when nothing else runs from this environment" in printed
    assert says == "first"
    ended()
    assert start() == ("", "second")


@pytest.mark.hub
@pytest.mark.timeout(300)
def test_an_extension_that_cannot_be_installed_is_tried_again(
    bootstrap: ModuleType, start: Callable[[], tuple[str, str]], ended: Callable[[], None], checkout: Path
) -> None:
    small_wheel(checkout / "dist", "first")
    start()
    ended()
    wheel = small_wheel(checkout / "dist", "second")
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[:100])
    with pytest.raises(bootstrap.Problem, match=r"^installing failed .*\n.*armillary_lab-0\.1\.0"):
        bootstrap.run(str(checkout / ".armillary"), [])
    ended()
    wheel.write_bytes(whole)
    assert start() == ("", "second")


def tool(checkout: Path, *arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    """Run the checkout's bootstrap.py with a Python that is none of our environment's."""
    command = ["/usr/bin/python3", "bootstrap.py", *arguments]
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("ARMILLARY_", "VIRTUAL_ENV"))}
    return subprocess.run(command, cwd=checkout, env=variables, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def closed_checkout(tmp_path: Path) -> Iterator[Path]:
    """The files of this checkout as root would clone them with umask 077: no other account gets in."""
    checkout = tmp_path / "closed-checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, checkout / name)
    subprocess.run(["chmod", "-R", "go=", str(checkout)], check=True)
    yield checkout
    tool(checkout, "clean", "--yes")


@pytest.mark.hub
@pytest.mark.timeout(600)
def test_root_runs_a_closed_checkout_with_nothing_installed(closed_checkout: Path) -> None:
    make = [sys.executable, "images/labextension/build.py", "wheel", "--into", str(closed_checkout / "dist")]
    subprocess.run(make, cwd=ROOT, check=True)
    site = Site()
    command = ["/usr/bin/python3", "bootstrap.py", "run", *site.command()[4:]]
    state = command.index("--state")
    del command[state : state + 2]
    try:
        with site.output.open("wb") as output:
            site.process = subprocess.Popen(
                command, cwd=closed_checkout, env=site.variables(), stdout=output, stderr=output, start_new_session=True
            )
        wait_for(lambda: site.ended or "ready after" in site.said(), "the site to be ready", 500)
        said = site.said()
        assert "ready after" in said, said
        [data] = [line.split()[1] for line in said.splitlines() if line.startswith("  Data ")]
        assert data.startswith("/var/lib/armillary/closed-checkout-")
        site.state = Path(data)
        site.login("researcher-1").close()
        site.start_server("researcher-1")
        inside = f"{site.url}/user/researcher-1"
        token = {"Authorization": f"token {site.admin_token}"}

        def state() -> Any:
            return httpx.get(f"{inside}/armillary/state", headers=token, timeout=60).json()

        wait_for(lambda: state()["session"]["profile"], "the extension to be told of its session")
        assert '"armillary-lab"' in httpx.get(f"{inside}/lab", headers=token, timeout=60, follow_redirects=True).text
        refused = tool(closed_checkout, "clean", "--yes")
        assert refused.returncode == 1
        assert f"already runs at {site.url}" in refused.stderr
        assert site.stop() == 0
        done = tool(closed_checkout, "clean", "--yes")
        assert done.returncode == 0, done.stderr
        assert not site.state.exists()
        assert processes_mentioning(data) == []
    finally:
        if not site.ended:
            site.stop()
        site.remove()


def test_clean_of_nothing_makes_nothing(closed_checkout: Path) -> None:
    done = tool(closed_checkout, "clean", "--yes")
    assert done.returncode == 0
    base = Path(done.stdout.strip().removeprefix("armillary: nothing to remove: there is nothing in "))
    assert base.is_absolute()
    assert not base.exists()
