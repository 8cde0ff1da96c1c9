"""What keeps a server from running, as a value."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ADVICE", "HEALED_BY_NODES", "Reason"]

ADVICE = "Ask your administrators if it happens again."

HEALED_BY_NODES = frozenset({"does-not-fit", "node-selector", "none-there", "tainted", "unschedulable"})
"""Codes of what cannot heal unless the cluster gets other nodes."""


@dataclass(frozen=True)
class Reason:
    """What keeps a server from running.

    `code` is short and stable; `text` is for the user: what happened and what to do now. `final` says that
    waiting cannot help.
    """

    code: str
    text: str
    final: bool
