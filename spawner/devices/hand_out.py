"""What a session gets for the devices that were reserved for it: their nodes, and a rule that closes all others.

Blocks on /proc and on the driver (bounded by the reader): call it in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spawner.devices.enforcement import Rule
from spawner.devices.environment import is_real
from spawner.devices.nodes import Node, card_majors, nodes_of
from spawner.devices.reader import Reader

__all__ = ["Given", "hand_out"]


@dataclass(frozen=True)
class Given:
    """The device nodes that a session needs, and the rule for its control group."""

    nodes: tuple[Node, ...]
    rule: Rule


def hand_out(devices: Sequence[str], reader: Reader, proc: Path = Path("/proc")) -> Given:
    """Return what a session gets that was given these devices; the driver is asked only where one of them is real.

    Raises
    ------
    NodesMissing
        One of them is not there any more, is broken by now, or cannot be reached.
    NvmlAway
        The driver does not answer.
    """
    real = [uuid for uuid in devices if is_real(uuid)]
    nodes = nodes_of(real, reader.look(), proc) if real else ()
    return Given(nodes, Rule(card_majors(proc), nodes))
