"""How sessions of different people are kept apart on this machine, found out by trying.

uid         the hub is root: each person's sessions run under a uid of their own
namespace   the hub is not root, but bubblewrap works: own user, mount, pid and ipc namespaces; of the folder with
            all homes only the own one is visible, and of the hub's own files none
shared      neither works: all sessions share the hub's account, and everybody who can start one must be trusted

The sentences are shown on the form and at the start of the launcher. `detect` blocks (it runs two small programs).
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = [
    "LAUNCHER",
    "Asked",
    "Isolation",
    "IsolationError",
    "blocking_directory",
    "bubblewrap",
    "detect",
    "passages",
    "program_directories",
]

LAUNCHER = Path(__file__).with_name("launcher.py")

Kind = Literal["uid", "namespace", "shared"]
Asked = Literal["auto", "uid", "namespace", "shared"]
_PROBE_UID = 65534
_PROBE_S = 20


@dataclass(frozen=True)
class Isolation:
    """What this machine allows. `mounts`: a session may get a mount namespace of its own (needed by passages)."""

    kind: Kind
    mounts: bool = False
    bubblewrap: str = ""

    def describe(self) -> str:
        """Return one sentence for people."""
        if self.kind == "uid":
            return "Each person's sessions run under a Unix account of their own."
        if self.kind == "namespace":
            return "Sessions share one Unix account, but each sees only its own processes and home (bubblewrap)."
        return (
            "All users share one Unix account: whoever can start a session can read everybody's files. "
            "Start the hub as root, or install bubblewrap on a machine that allows user namespaces."
        )

    def notices(self) -> list[str]:
        """Return what a user must know before trusting a session with data."""
        if self.kind == "shared":
            return ["All users share one Unix account here: other users can read your files and stop your sessions."]
        return []


class IsolationError(Exception):
    """The separation that the settings insist on does not work on this machine; the text says why."""


def detect(asked: Asked = "auto", *, bubblewrap_program: str = "bwrap") -> Isolation:
    """Return the strongest separation that really works here, or the one that was asked for.

    Raises
    ------
    IsolationError
        What was asked for does not work here; nothing weaker is taken instead.
    """
    if asked == "shared":
        return Isolation("shared")
    if asked in ("auto", "uid") and os.geteuid() == 0:
        words = _output([sys.executable, "-I", "-S", str(LAUNCHER), "probe", str(_PROBE_UID)]).split()
        if "uid" in words:
            return Isolation("uid", mounts="mounts" in words)
    if asked == "uid":
        raise IsolationError("isolation 'uid' needs a hub that runs as root and may change the user id of its children")
    program = shutil.which(bubblewrap_program)
    # In a namespace of its own the shell has one of the first pids; anything else means that there is none.
    if program and _output([program, *_SANDBOX, "--", "/bin/sh", "-c", "echo $$"]).strip() in ("2", "3"):
        return Isolation("namespace", bubblewrap=program)
    if asked == "namespace":
        why = "bubblewrap is not installed" if program is None else "this machine does not allow user namespaces"
        raise IsolationError(f"isolation 'namespace' does not work here: {why}")
    return Isolation("shared")


def _output(argv: list[str]) -> str:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


_SANDBOX = (
    *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
    *("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/run"),  # noqa: S108
    # /run holds sockets of the account (systemd --user, D-Bus, Docker) that lead out; only the resolver's file stays.
    *("--ro-bind-try", "/run/systemd/resolve", "/run/systemd/resolve"),
)
# No --die-with-parent: a session must outlive the hub. /var/tmp is the real one, read-only.


def bubblewrap(
    program: str,
    *,
    home: Path,
    hidden: Iterable[Path],
    visible: Iterable[Path],
    argv: tuple[str, ...],
    devices: Iterable[str] = (),
) -> tuple[str, ...]:
    """Return the command that runs `argv` in a sandbox.

    Parameters
    ----------
    hidden
        Directories of which nothing is seen: the hub's state, the account's own home; and files that are empty there,
        because the sandbox's account, which is the hub's, could read them.
    visible
        Directories below hidden ones that the session's programs need; read-only.
    devices
        Device nodes beside the few that every sandbox has; no others can be opened in it.
    """
    covered = sorted({Path(path) for path in hidden if Path(path).is_dir()})
    command = [program, *_SANDBOX]
    for node in sorted(set(devices)):
        command += ["--dev-bind-try", node, node]
    for path in covered:
        command += ["--tmpfs", str(path)]
    for path in sorted(set(visible)):
        command += ["--ro-bind-try", str(path), str(path)]
    for path in covered:  # again: state may lie below a directory that has just been made visible
        if any(path.is_relative_to(shown) for shown in visible):
            command += ["--tmpfs", str(path)]
    for path in sorted({Path(path).resolve() for path in hidden if Path(path).is_file()}):
        command += ["--ro-bind", "/dev/null", str(path)]
    command += ["--bind", str(home), str(home), "--chdir", str(home), "--", *argv]
    return tuple(command)


def program_directories(program: str = sys.executable) -> tuple[Path, ...]:
    """Return the directories that a session needs in order to run this Python: environment, base, links in between."""
    needed = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.base_prefix).resolve()}
    step = Path(program)
    for _ in range(20):
        needed.add(step.parent)  # not its parent: for ~/.local/bin/python that would show all of ~/.local
        if not step.is_symlink():
            break
        step = step.parent / os.readlink(step)
    return tuple(sorted(path for path in needed if path != Path("/") and path != Path("/usr")))


def blocking_directory(path: Path, uid: int, gid: int) -> Path | None:
    """Return the outermost directory on the way to `path` that this account may not enter; None if there is none."""
    for parent in [*reversed(path.absolute().parents), path.absolute()]:
        try:
            found = os.stat(parent)
        except OSError:
            return None
        bit = stat.S_IXUSR if found.st_uid == uid else stat.S_IXGRP if found.st_gid == gid else stat.S_IXOTH
        if not found.st_mode & bit:
            return parent
    return None


def passages(needed: Iterable[Path], uid: int, gid: int) -> dict[Path, list[Path]]:
    """Return which closed directories must be covered, and what of each must stay reachable."""
    closed: dict[Path, list[Path]] = {}
    for path in needed:
        over = blocking_directory(path, uid, gid)
        if over is not None:
            closed.setdefault(over, []).append(path)
    return closed
