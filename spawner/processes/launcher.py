"""The program between the hub and a session: it makes itself the session's first process, then becomes it.

Run by path with `-I -S` and nothing but the standard library, because it starts once per session and often
as root. What it does comes as one JSON document on standard input, so that the session's token is never in
argv or on disk. A hub that is killed while it writes leaves an incomplete document: nothing is started.

Order matters:
1. claim the launch record by one rename that carries pid and start time. A record that is gone means that
   the start was cancelled; whoever wins the rename (or the removal) decides, there is no third outcome;
2. cgroups, mounts and user id, from the most to the least privileged;
3. exec. The pid stays the same, so the record stays true.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

CANCELLED = 119
"""Exit code: the launch record was gone, so the start was cancelled."""

NOT_SET_UP = 120
"""Exit code: a step before exec failed; its reason is the last line on standard error."""

_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNS = 0x00020000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_SLAVE = 2, 4, 4096, 16384, 1 << 19
_OOM_SCORE = "200"
# Above a usual process (0): when the machine runs out of memory, sessions go before the hub.


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def started_at(pid: str = "self") -> int:
    """Return when a process started, in clock ticks since boot (proc(5), stat field 22)."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The name in brackets may hold anything, so fields are counted from the last bracket.
        return int(file.read().rpartition(b")")[2].split()[19])


def claim(plan: str) -> None:
    """Rename the planned launch record so that its name says which process this is.

    Raises
    ------
    FileNotFoundError
        The start was cancelled.
    """
    folder, name = os.path.split(plan)
    claimed = f"{name.removesuffix('.planned.json')}.{os.getpid()}-{started_at()}.json"
    os.rename(plan, os.path.join(folder, claimed))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def enter_cgroups(folders: list[str]) -> None:
    """Move this process into each of these cgroups; its children are born there."""
    for folder in folders:
        with open(os.path.join(folder, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write(str(os.getpid()))


def open_passages(passages: list[dict[str, Any]]) -> None:
    """Make directories reachable that lie below a closed one, in a mount namespace of this process alone.

    Python often lives below /root (pyenv, uv), which no other account may enter. Each closed directory is
    covered by an empty one that holds only what the session needs, so nothing else of it becomes visible.
    """
    if not passages:
        return
    libc = _libc()
    _checked(libc.unshare(_CLONE_NEWNS), "a mount namespace of its own")
    _checked(libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None), "detaching the mounts")
    for passage in passages:
        held = [(path, os.open(path, os.O_PATH | os.O_DIRECTORY)) for path in passage["through"]]
        over = passage["over"].encode()
        _checked(libc.mount(b"tmpfs", over, b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=755,size=1m"), "covering")
        for path, descriptor in held:
            os.makedirs(path, mode=0o755, exist_ok=True)
            source = f"/proc/self/fd/{descriptor}".encode()
            _checked(libc.mount(source, path.encode(), None, _MS_BIND | _MS_REC, None), f"showing {path}")
            os.close(descriptor)


def become(uid: int | None, gid: int | None) -> None:
    """Become the session's account for good: no supplementary groups, and no way up again through setuid programs."""
    if uid is not None and gid is not None:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    _checked(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def _prefer_as_victim() -> None:
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(_OOM_SCORE)
    except OSError:  # only a preference; a container may forbid it
        pass


def launch(plan: dict[str, Any]) -> None:
    """Do all the steps; does not return unless one fails."""
    os.umask(0o022)
    claim(plan["record"])
    enter_cgroups(plan["cgroups"])
    _prefer_as_victim()
    open_passages(plan["passages"])
    become(plan["uid"], plan["gid"])
    os.umask(0o077)
    os.chdir(plan["directory"])
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.execvpe(plan["argv"][0], plan["argv"], plan["environment"])  # noqa: S606


def probe(uid: int) -> None:
    """Find out by doing it what this machine allows; prints one word per line: `mounts`, `uid`."""
    try:
        open_passages([{"over": "/mnt", "through": ["/proc"]}])
        print("mounts", flush=True)
    except OSError:
        pass
    try:
        become(uid, uid)
        print("uid", flush=True)
    except OSError:
        pass


def main() -> int:
    """Run as a program; see the module's text."""
    if sys.argv[1:2] == ["probe"]:
        probe(int(sys.argv[2]))
        return 0
    try:
        plan = json.load(sys.stdin.buffer)
    except ValueError:
        print("armillary: the plan ended early, so nothing is started", file=sys.stderr)
        return CANCELLED
    try:
        launch(plan)
    except FileNotFoundError as error:
        if error.filename == plan["record"]:
            return CANCELLED
        print(f"armillary: cannot start the session: {error}", file=sys.stderr)
    except OSError as error:
        print(f"armillary: cannot start the session: {error}", file=sys.stderr)
    return NOT_SET_UP


if __name__ == "__main__":
    sys.exit(main())
