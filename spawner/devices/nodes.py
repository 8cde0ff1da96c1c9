"""The device nodes in /dev that lead to NVIDIA's cards, and which of them a session needs for what it was given.

Numbers and files as in NVIDIA's "Multi-Instance GPU User Guide", "Device Nodes and Capabilities"; what the majors are
called differs between versions of the driver, so every one whose name begins with `nvidia` counts. Reads /proc only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from spawner.devices.nvml import Card, Seen

__all__ = ["Node", "NodesMissing", "card_majors", "nodes_of"]

_CARDS = 195  # fixed: Linux, Documentation/admin-guide/devices.txt
_CONTROL, _MODESET = 255, 254
_MINOR = re.compile(r"^DeviceFileMinor:\s*([0-9]+)\s*$", re.MULTILINE)


class NodesMissing(Exception):
    """A device cannot be handed out: it is gone or broken, or has no device node; the text is for the operator."""


@dataclass(frozen=True, order=True)
class Node:
    """One character device. `optional`: a session works without it, so it need not exist."""

    major: int
    minor: int
    path: str
    optional: bool = False


def _majors(proc: Path) -> dict[str, int]:
    """Return the major numbers of character devices by name (proc(5), /proc/devices)."""
    found: dict[str, int] = {}
    text = (proc / "devices").read_text(encoding="ascii", errors="replace")
    for line in text.partition("Block devices:")[0].splitlines():
        number, _, name = line.strip().partition(" ")
        if number.isdigit() and name:
            found.setdefault(name, int(number))
    return found


def card_majors(proc: Path = Path("/proc")) -> frozenset[int]:
    """Return the major numbers of everything that leads to NVIDIA's cards; blocks on /proc.

    That of the cards is always among them: a driver that is loaded later must not open them to sessions that run.
    """
    return frozenset({_CARDS, *(number for name, number in _majors(proc).items() if name.startswith("nvidia"))})


def nodes_of(uuids: Collection[str], seen: Seen, proc: Path = Path("/proc")) -> tuple[Node, ...]:
    """Return what a session needs that was given these devices, nothing where there are none; blocks on /proc.

    Raises
    ------
    NodesMissing
        A device is not there any more, is broken, or the driver does not say how it is reached.
    """
    if not uuids:
        return ()
    majors = _majors(proc)
    found = {
        Node(_CARDS, _CONTROL, "/dev/nvidiactl"),
        Node(_CARDS, _MODESET, "/dev/nvidia-modeset", optional=True),
    }
    for uuid in uuids:
        found.update(_own(uuid, seen.cards, majors, proc))
    uvm = majors.get("nvidia-uvm")
    if uvm is None:
        raise NodesMissing(
            "the kernel module nvidia-uvm is not loaded, without which no CUDA program runs. Sessions may not load it "
            "themselves: run `nvidia-modprobe -u -c 0` as root, also at boot."
        )
    found |= {Node(uvm, 0, "/dev/nvidia-uvm"), Node(uvm, 1, "/dev/nvidia-uvm-tools", optional=True)}
    return tuple(sorted(found))


def _own(uuid: str, cards: Iterable[Card], majors: dict[str, int], proc: Path) -> list[Node]:
    for card in cards:
        instance = next((one for one in card.instances if one.uuid == uuid), None)
        if instance is None and card.uuid != uuid:
            continue
        problem = card.problem or (instance.problem if instance is not None else "")
        if problem:
            raise NodesMissing(f"the device {uuid} has failed since it was counted: {problem}")
        if card.minor is None:
            raise NodesMissing(f"the driver does not say which /dev/nvidiaN the card {card.uuid} is")
        nodes = [Node(_CARDS, card.minor, f"/dev/nvidia{card.minor}")]
        if instance is not None:
            group = proc / f"driver/nvidia/capabilities/gpu{card.minor}/mig/gi{instance.gpu_instance}"
            both = (group / "access", group / f"ci{instance.compute_instance}" / "access")
            nodes += [_capability(path, majors) for path in both]
        return nodes
    raise NodesMissing(f"the device {uuid} is not in this machine any more")


def _capability(path: Path, majors: dict[str, int]) -> Node:
    """Return the node that opens a MIG instance (MIG User Guide, "/dev based nvidia-capabilities")."""
    try:
        minor = _MINOR.search(path.read_text(encoding="ascii", errors="replace"))
    except OSError as error:
        raise NodesMissing(f"{path} cannot be read: {error.strerror}") from error
    if minor is None or "nvidia-caps" not in majors:
        raise NodesMissing(f"{path} does not name a device node: the driver runs without nvidia-caps in /dev")
    return Node(majors["nvidia-caps"], int(minor[1]), f"/dev/nvidia-caps/nvidia-cap{minor[1]}")
