"""What lies around a session's process on this machine: a sandbox, or passages through closed directories.

Blocks on the disk: call it in a thread.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spawner.devices.nodes import Node
from spawner.processes.isolation import Isolation, bubblewrap, passages

__all__ = ["Surroundings", "UnreachableError", "surround"]


class UnreachableError(Exception):
    """A directory that the session needs cannot be entered by its account; the text is for the operator."""


@dataclass(frozen=True)
class Surroundings:
    """The command to run, and the closed directories to cover (see `launcher.open_passages`)."""

    argv: tuple[str, ...]
    passages: Mapping[Path, list[Path]] = field(default_factory=dict)


def surround(
    separation: Isolation,
    argv: tuple[str, ...],
    *,
    home: Path,
    uid: int | None,
    hidden: list[Path],
    visible: list[Path],
    devices: tuple[Node, ...] = (),
) -> Surroundings:
    """Return how `argv` is run on this machine.

    Raises
    ------
    UnreachableError
        The session's account cannot reach its programs or its home.
    """
    if separation.kind == "namespace":
        covered = [*hidden, *_own_home()]
        nodes = [node.path for node in devices]
        command = bubblewrap(
            separation.bubblewrap, home=home, hidden=covered, visible=visible, argv=argv, devices=nodes
        )
        return Surroundings(command)
    if uid is None:
        return Surroundings(argv)
    closed = passages([*visible, home], uid, uid)
    for over, through in closed.items():
        if over in through:
            raise UnreachableError(f"other accounts may not enter {over}, which sessions need: chmod o+rx {over}")
        if not separation.mounts:
            raise UnreachableError(
                f"other accounts may not enter {over}, but sessions need {through[0]} below it, and this machine does "
                "not allow mount namespaces. Put it where everybody may read it (such as /opt), or: "
                f"chmod o+x {over}"
            )
    return Surroundings(argv, closed)


def _own_home() -> list[Path]:
    """Return the home of the hub's own account, which no session may see; in a container it may have no account."""
    try:
        home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        home = Path(os.environ.get("HOME", "/"))
    return [] if home == Path("/") else [home]
